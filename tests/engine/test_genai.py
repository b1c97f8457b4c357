from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeship import machine
from edgeship.engine import genai
from edgeship.engine.api import Prompt, Sampling
from edgeship.engine.chat import ask
from edgeship.engine.genai import GenaiEngine
from edgeship.errors import DependencyMissing, EngineFailed
from tests import checkpoints

QUESTION = [{"role": "user", "content": "how are you today?"}]
SEARCH = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1, "max_length": 40}


class Library:
    """Stands in for onnxruntime_genai and remembers what it was asked."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.overlay: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.appended: list[int] = []
        self.steps = 0

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
            append_tokens=lambda tokens: self.appended.append(len(tokens)),
            generate_next_token=self._step,
            get_next_tokens=lambda: np.array([5], np.int32),
        )

    def _step(self) -> None:
        self.steps += 1
        if self.steps == 4:
            raise RuntimeError("out of luck\nsecond line")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoints.make_tokenizer(tmp_path)
    model = {"context_length": 2000, "vocab_size": checkpoints.VOCAB, "eos_token_id": [2, 0]}
    checkpoints.write_json(tmp_path / "genai_config.json", {"model": model, "search": SEARCH})
    return tmp_path


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    stand_in = Library()
    monkeypatch.setattr(genai, "_library", lambda: stand_in)
    return stand_in


def test_threads_are_this_machines_and_not_the_packages(folder: Path, library: Library) -> None:
    for asked, expected in ((None, machine.usable_cores()), (7, 7)):
        assert GenaiEngine(folder, asked).threads == expected
        session = library.overlay["model"]["decoder"]["session_options"]
        assert session["intra_op_num_threads"] == expected


def test_defaults_are_the_packages(folder: Path, library: Library) -> None:
    del library
    assert GenaiEngine(folder).defaults == Sampling(
        temperature=0.7, top_p=0.9, top_k=50, repetition_penalty=1.1, max_tokens=40
    )
    assert genai._defaults({"do_sample": False, "temperature": 0.7}).temperature == 0
    assert genai._defaults({}) == Sampling(temperature=0, top_p=1, top_k=0, repetition_penalty=1)


def test_settings_in_the_librarys_words(folder: Path, library: Library) -> None:
    engine = GenaiEngine(folder)
    sampling = Sampling(temperature=0.5, top_k=10**6, seed=2**31 + 4, max_tokens=2)
    ask(engine, Prompt((9, 9, 9)), sampling)
    assert library.options == {
        "max_length": 5,
        "do_sample": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": checkpoints.VOCAB,
        "repetition_penalty": 1.1,
        "random_seed": 4,
    }


def test_greedy_settings_leave_the_samplers_out(folder: Path, library: Library) -> None:
    ask(GenaiEngine(folder), Prompt((9,)), Sampling(temperature=0, max_tokens=2, ignore_eos=True))
    assert library.options == {"max_length": 3, "min_length": 3, "do_sample": False, "repetition_penalty": 1.1}


def test_a_long_prompt_is_read_in_pieces(folder: Path, library: Library) -> None:
    ask(GenaiEngine(folder), Prompt((9,) * 1100), Sampling(max_tokens=1))
    assert library.appended == [512, 512, 76]


def test_a_failure_in_the_middle_of_an_answer(folder: Path, library: Library) -> None:
    del library
    with pytest.raises(EngineFailed, match=r"out of luck$") as caught:
        ask(GenaiEngine(folder), Prompt((9,)), Sampling())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_native_error_without_its_preamble(folder: Path, library: Library) -> None:
    library.fault = RuntimeError("Exception: x.cc:74 f(const T&) [ONNXRuntimeError] : 1 : FAIL : no room\nstack")
    with pytest.raises(EngineFailed) as caught:
        GenaiEngine(folder)
    assert caught.value.what == "onnxruntime-genai failed: no room"
    assert caught.value.where == str(folder)
    assert "cache verify" in str(caught.value.hint)


def test_a_missing_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    with pytest.raises(DependencyMissing, match="onnxruntime-genai cannot be imported"):
        GenaiEngine(folder)


def test_no_package(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="this is no package") as caught:
        GenaiEngine(tmp_path / "nowhere")
    assert caught.value.where == str(tmp_path / "nowhere")


@pytest.mark.parametrize("model", [None, [], {"context_length": 10}, {"context_length": 0, "vocab_size": 5}])
def test_a_config_without_what_we_need(folder: Path, model: object) -> None:
    checkpoints.write_json(folder / "genai_config.json", {"model": model})
    with pytest.raises(EngineFailed, match=r"genai_config\.json has no usable model\.(context_length|vocab_size)"):
        GenaiEngine(folder)


# --- on real packages ------------------------------------------------------------------------------


@pytest.fixture
def copy(int4_folder: Path, tmp_path: Path) -> Path:
    """A package that the test may damage."""
    return Path(shutil.copytree(int4_folder, tmp_path / "package"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int4_folder", "fp32_folder"])
def test_scores_predict_the_greedy_answer(kind: str, request: pytest.FixtureRequest) -> None:
    engine = GenaiEngine(request.getfixturevalue(kind))
    prompt = engine.chat(QUESTION)
    greedy = Sampling(temperature=0, repetition_penalty=1, max_tokens=8, ignore_eos=False)
    answer = ask(engine, prompt, greedy)
    logits = engine.score(prompt.tokens + answer.tokens)
    predicted = logits[len(prompt.tokens) - 1 : -1].argmax(axis=1)
    assert predicted.tolist() == list(answer.tokens)


@pytest.mark.slow
def test_our_prompt_is_the_librarys(int4_folder: Path) -> None:
    engine = GenaiEngine(int4_folder)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  h\u00e9llo <|im_end|>\n\u4f60\u597d 12 {x} \N{GRINNING FACE}"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Why?"},
    ]
    assert engine.genai_tokens(messages) == list(engine.chat(messages).tokens)
    assert engine.encode_with_genai("hello world") == list(engine.encode("hello world").tokens)


@pytest.mark.slow
def test_an_end_token_ends_the_answer_and_leaves_no_text(copy: Path) -> None:
    engine = GenaiEngine(copy)
    prompt = engine.chat(QUESTION)
    lively = Sampling(temperature=2, top_k=0, seed=11, max_tokens=24)
    whole = ask(engine, prompt, lively)
    end = next(index for index, token in enumerate(whole.tokens) if index and token not in whole.tokens[:index])
    config = json.loads((copy / "genai_config.json").read_text(encoding="utf-8"))
    config["model"]["eos_token_id"] = whole.tokens[end]
    checkpoints.write_json(copy / "genai_config.json", config)
    answer = ask(GenaiEngine(copy), prompt, lively)
    assert answer.tokens == whole.tokens[: end + 1]
    assert answer.finish == "stop"
    assert answer.text == engine._codec.decode(whole.tokens[:end])
    passed = ask(GenaiEngine(copy), prompt, Sampling(temperature=0, ignore_eos=True, max_tokens=24))
    assert len(passed.tokens) == 24
    assert whole.tokens[end] not in passed.tokens


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("model.onnx", None, "model.onnx"),
        ("model.onnx", 100, "model.onnx"),
        ("model.onnx.data", None, "model.onnx.data"),
        ("model.onnx.data", 1000, "can not be read in full"),
    ],
)
def test_damaged_models(copy: Path, name: str, size: int | None, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    if size is not None:
        (copy / name).write_bytes(content[:size])
    with pytest.raises(EngineFailed, match=says) as caught:
        GenaiEngine(copy)
    assert caught.value.where == str(copy)
    assert capfd.readouterr().err == ""
