from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeship.engine.answer import collect
from edgeship.engine.api import Conversation, Limits, Sampling
from edgeship.engine.decoders import Chunk, genai
from edgeship.engine.decoders.genai import GenaiDecoder, GenaiTokenizer
from edgeship.engine.opening import load
from edgeship.engine.text import TextCodec
from edgeship.errors import DependencyMissing, EngineFailed
from tests import checkpoints
from tests.hybrid import ALIKE, CONTEXT_TOKENS, Plain, make_hybrid
from tests.onnx_decoder import OnnxDecoder
from tests.packages import config_of

QUESTION = Conversation([{"role": "user", "content": "how are you today?"}])


class Library:
    """Stands in for onnxruntime_genai and remembers what it was asked."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.overlay: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.appended: list[int] = []

    def Config(self, folder: str) -> Any:  # noqa: N802 - the library's name
        return SimpleNamespace(folder=folder, overlay=lambda text: self.overlay.update(json.loads(text)))

    def Model(self, config: Any) -> Any:  # noqa: N802
        if self.fault:
            raise self.fault
        return config

    def GeneratorParams(self, model: Any) -> Any:  # noqa: N802, ARG002
        return SimpleNamespace(set_search_options=lambda **options: self.options.update(options))

    def Generator(self, model: Any, params: Any) -> Any:  # noqa: N802, ARG002
        return SimpleNamespace(
            append_tokens=self._append, rewind_to=self._rewind, get_output=lambda _: np.zeros((1, 1, 384), np.float32)
        )

    def _rewind(self, length: int) -> None:
        raise RuntimeError(f"RecurrentState::RewindTo({length}) is not supported without a snapshot.")

    def _append(self, tokens: Any) -> None:
        self.appended.append(len(tokens))
        if len(self.appended) == 4:
            raise RuntimeError("out of luck\nsecond line")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoints.make_tokenizer(tmp_path)
    model = {"context_length": 2000, "vocab_size": checkpoints.VOCAB, "eos_token_id": [2, 0]}
    checkpoints.write_json(tmp_path / "genai_config.json", {"model": model})
    return tmp_path


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    stand_in = Library()
    monkeypatch.setattr(genai, "_library", lambda: stand_in)
    return stand_in


def decoder(folder: Path, threads: int = 1, slots: int = 2) -> GenaiDecoder:
    return GenaiDecoder(config_of(folder), threads=threads, slots=slots, context_tokens=200)


def test_threads_are_ours_and_not_the_packages(folder: Path, library: Library) -> None:
    assert decoder(folder, threads=7).threads == 7
    assert library.overlay["model"]["decoder"]["session_options"]["intra_op_num_threads"] == 7


def test_a_generator_has_room_for_the_slots_context(folder: Path, library: Library) -> None:
    decoder(folder).step([Chunk(0, [5, 6], 0, 1)])
    assert (library.options, library.appended) == ({"max_length": 200}, [2])


def test_a_failure_in_the_middle_of_an_answer(folder: Path, library: Library) -> None:
    del library
    made = decoder(folder)
    for start in range(3):
        made.step([Chunk(0, [5], start, 1)])
    with pytest.raises(EngineFailed, match=r"(?m)out of luck$") as caught:
        made.step([Chunk(0, [5], 3, 1)])
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_what_cannot_be_rewound_is_read_again(folder: Path, library: Library) -> None:
    """As onnxruntime-genai refuses for models with states."""
    made = decoder(folder)
    made.step([Chunk(0, [5, 6, 7], 0, 1)])
    assert made.goes_back
    made.step([Chunk(0, [8, 9], 1, 0)])
    assert library.appended == [3, 1, 2]
    assert not made.goes_back
    with pytest.raises(EngineFailed, match="slot 0 holds 3 of 200 tokens"):
        made.step([Chunk(0, [8], 4, 1)])


def test_a_native_error_without_its_preamble(folder: Path, library: Library) -> None:
    library.fault = RuntimeError("Exception: x.cc:74 f(const T&) [ONNXRuntimeError] : 1 : FAIL : no room\nstack")
    with pytest.raises(EngineFailed) as caught:
        decoder(folder)
    assert caught.value.what == "onnxruntime-genai failed: no room"
    assert caught.value.where == str(folder)
    assert "cache verify" in str(caught.value.hint)


def test_a_missing_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    with pytest.raises(DependencyMissing, match="onnxruntime-genai cannot be imported"):
        decoder(folder)


# --- on real packages ------------------------------------------------------------------------------


@pytest.fixture
def copy(int4_folder: Path, tmp_path: Path) -> Path:
    """A package that the test may damage."""
    return Path(shutil.copytree(int4_folder, tmp_path / "package"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int4_folder", "fp32_folder"])
def test_logits_are_the_models_wherever_a_text_is_cut(kind: str, request: pytest.FixtureRequest) -> None:
    package = request.getfixturevalue(kind)
    made, tokens = decoder(package), np.arange(5, 25)
    expected = [OnnxDecoder(package).logits(tokens[: end + 1]) for end in range(10, 20)]
    near = 0.05 * np.ptp(expected)
    [whole] = made.step([Chunk(0, tokens.tolist(), 0, 10)])
    made.step([Chunk(1, tokens[:7].tolist(), 0, 0)])
    first, second = made.step([Chunk(1, tokens[7:].tolist(), 7, 10), Chunk(0, tokens[15:].tolist(), 15, 5)])
    assert np.abs(whole - expected).max() < near
    assert np.abs(first - expected).max() < near
    assert np.abs(second - expected[5:]).max() < near


@pytest.mark.slow
def test_slots_do_not_know_each_other(int4_folder: Path) -> None:
    made = decoder(int4_folder)
    alone = [made.step([Chunk(0, [token], place, 1)])[0] for place, token in enumerate((5, 6, 7))]
    made.release(0)
    for place, token in enumerate((5, 6, 7)):
        mine, _ = made.step([Chunk(0, [token], place, 1), Chunk(1, [token + 50], place, 1)])
        assert np.array_equal(mine, alone[place])


@pytest.mark.slow
def test_a_model_with_states_goes_back_by_reading_again(tmp_path: Path) -> None:
    package = make_hybrid(tmp_path, ALIKE)
    plain, tokens = Plain(package), np.random.default_rng(1).integers(3, checkpoints.VOCAB, 30).tolist()
    made = GenaiDecoder(config_of(package), threads=1, slots=1, context_tokens=CONTEXT_TOKENS)
    made.step([Chunk(0, tokens[:20], 0, 1)])
    made.step([Chunk(0, [5, 6, 7], 20, 1)])
    [found] = made.step([Chunk(0, tokens[20:], 20, 1)])
    assert not made.goes_back
    assert np.abs(found[0] - plain.logits(tokens)).max() < 1e-5 * np.ptp(found)


@pytest.mark.slow
def test_a_slot_cannot_skip_tokens_nor_run_over(int4_folder: Path) -> None:
    made = decoder(int4_folder)
    for chunk in (Chunk(0, [5], 3, 1), Chunk(0, [5] * 201, 0, 1)):
        with pytest.raises(EngineFailed, match="slot 0 holds 0 of 200 tokens"):
            made.step([chunk])
    made.close()
    with pytest.raises(EngineFailed, match="closed"):
        made.step([Chunk(0, [5], 0, 1)])


@pytest.mark.slow
def test_our_prompt_is_the_librarys(int4_folder: Path) -> None:
    ours, theirs = TextCodec(int4_folder), GenaiTokenizer(config_of(int4_folder))
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  h\u00e9llo <|im_end|>\n\u4f60\u597d 12 {x} \N{GRINNING FACE}"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Why?"},
    ]
    assert theirs.chat(messages) == list(ours.render(Conversation(messages), trusting=True).tokens)
    assert theirs.encode("hello world") == list(ours.encode("hello world").tokens)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["genai", "batched"])
def test_an_end_token_ends_the_answer_and_leaves_no_text(copy: Path, engine: str) -> None:
    lively = Sampling(temperature=2, top_k=0, seed=11, max_tokens=24)
    model = load(copy, engine=engine, limits=Limits(slots=1, context_tokens=200))
    prompt = model.render(QUESTION)
    whole = collect(model.stream(prompt, lively))
    model.close()
    end = next(index for index, token in enumerate(whole.tokens) if index and token not in whole.tokens[:index])
    config = json.loads((copy / "genai_config.json").read_text(encoding="utf-8"))
    config["model"]["eos_token_id"] = whole.tokens[end]
    checkpoints.write_json(copy / "genai_config.json", config)
    assert config_of(copy).end_ids == {whole.tokens[end]}
    model = load(copy, engine=engine, limits=Limits(slots=1, context_tokens=200))
    answer = collect(model.stream(prompt, lively))
    assert answer.tokens == whole.tokens[: end + 1]
    assert answer.finish == "stop"
    assert answer.text == TextCodec(copy).decode(whole.tokens[:end])
    passed = collect(model.stream(prompt, Sampling(temperature=0, ignore_eos=True, max_tokens=24)))
    assert len(passed.tokens) == 24
    model.close()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["genai", "batched"])
@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("model.onnx", None, "model.onnx"),
        ("model.onnx", 100, "model.onnx"),
        ("model.onnx.data", None, "model.onnx.data"),
        ("model.onnx.data", 1000, "can not be read in full"),
    ],
)
def test_damaged_models(
    copy: Path, engine: str, name: str, size: int | None, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    if size is not None:
        (copy / name).write_bytes(content[:size])
    with pytest.raises(EngineFailed, match=says) as caught:
        load(copy, engine=engine)
    assert str(caught.value.where).startswith(str(copy))
    assert capfd.readouterr().err == ""
