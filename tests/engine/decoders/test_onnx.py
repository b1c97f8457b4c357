"""The derived graph and the rows of its batches, on packages of both builders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import builder
from edgeship.builder.packaging import write_package
from edgeship.checkpoint import open_checkpoint
from edgeship.engine.decoders import Chunk, Floats
from edgeship.engine.decoders.kept import kv_token_bytes
from edgeship.engine.decoders.onnx import OnnxDecoder
from edgeship.engine.decoders.step_graph import derive
from edgeship.errors import EngineFailed, NotBatchable
from edgeship.recipe import named_recipe
from edgeship.settings import resolve
from tests import checkpoints, onnx_decoder
from tests.packages import config_of

pytestmark = pytest.mark.slow

CONTEXT = 96
FLOAT32_ACTIVATIONS, INT8_ACTIVATIONS = 1, 4


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INT4 by our own builder, whose last layer computes the last position only."""
    folder = tmp_path_factory.mktemp("ours")
    checkpoint = open_checkpoint(str(checkpoints.make_checkpoint(folder / "checkpoint")))
    settings = replace(resolve(), home=folder / "home")
    made = builder.build(checkpoint, named_recipe("int4", {}, where="here"), settings)
    return write_package(made, checkpoint, folder / "package").folder


@pytest.fixture(params=["ours", "int4_folder", "fp32_folder"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def open_decoder(folder: Path, **options: Any) -> OnnxDecoder:
    settings: dict[str, Any] = {"threads": 1, "slots": 4, "context_tokens": CONTEXT} | options
    return OnnxDecoder(config_of(folder), **settings)


def text(seed: int, length: int) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(3, checkpoints.VOCAB, length).tolist()
    return found


def greedy(decoder: OnnxDecoder, slot: int, prompt: list[int], count: int) -> list[int]:
    """Tokens of one sequence that runs alone."""
    found: list[int] = []
    tokens, start = prompt, 0
    while len(found) < count:
        [logits] = decoder.step([Chunk(slot, tokens, start, 1)])
        start += len(tokens)
        tokens = [int(logits[0].argmax())]
        found += tokens
    return found


def test_logits_are_the_packages_own_wherever_they_are_wanted(folder: Path) -> None:
    tokens = text(1, 20)
    plain = onnx_decoder.OnnxDecoder(folder)
    expected = np.stack([plain.logits(np.array(tokens[: end + 1])) for end in range(20)])
    decoder = open_decoder(folder, accuracy_level=FLOAT32_ACTIVATIONS)
    [logits] = decoder.step([Chunk(0, tokens, 0, 20)])
    assert logits.shape == expected.shape
    # The packages in INT4 multiply in int8 by themselves.
    near = 1e-4 if "fp32" in str(folder) else 0.1
    assert np.abs(logits - expected).max() < near * np.ptp(expected)


def test_answers_that_come_and_go_are_those_given_alone(folder: Path) -> None:
    prompts = [text(seed, length) for seed, length in enumerate((5, 17, 3, 30))]
    decoder = open_decoder(folder, accuracy_level=FLOAT32_ACTIVATIONS)
    alone = []
    for prompt in prompts:
        alone.append(greedy(decoder, 0, prompt, 12))
        decoder.release(0)
    joins, leaves = (0, 2, 3, 5), (11, 6, 14, 16)
    said: list[list[int]] = [[] for _ in prompts]
    held = [0] * len(prompts)
    for step in range(17):
        chunks = []
        for slot, prompt in enumerate(prompts):
            if joins[slot] == step:
                chunks.append(Chunk(slot, prompt, 0, 1))
            elif joins[slot] < step <= leaves[slot] and len(said[slot]) < 12:
                chunks.append(Chunk(slot, said[slot][-1:], held[slot], 1))
        for chunk, logits in zip(chunks, decoder.step(chunks), strict=True):
            said[chunk.slot].append(int(logits[0].argmax()))
            held[chunk.slot] = chunk.start + len(chunk.tokens)
        for slot in range(len(prompts)):
            if leaves[slot] == step:
                decoder.release(slot)
    for slot, tokens in enumerate(said):
        assert len(tokens) >= 4
        assert tokens == alone[slot][: len(tokens)]


@pytest.mark.parametrize("level", [FLOAT32_ACTIVATIONS, INT8_ACTIVATIONS])
def test_an_invariant_result_does_not_depend_on_its_company_nor_on_cuts(folder: Path, level: int) -> None:
    decoder = open_decoder(folder, slots=6, accuracy_level=level)
    tokens = text(2, 34)

    def read(*cuts: int) -> Floats:
        for start, end in zip((0, *cuts), (*cuts, 33), strict=True):
            [logits] = decoder.step([Chunk(0, tokens[start:end], start, 1, reading=True)])
        return logits.copy()

    whole = read()
    for cuts in ((1,), (4, 9), (16,), (30,), (32,), (3, 10, 21), tuple(range(1, 33)), tuple(range(3, 33, 3))):
        assert np.array_equal(read(*cuts), whole), cuts
    [found] = decoder.step([Chunk(0, tokens[33:], 33, 1)], invariant=True)
    alone = found.copy()
    for company in range(1, 6):
        read()
        others = [Chunk(slot, text(slot, 7), 0, 0) for slot in range(1, company + 1)]
        decoder.step(others)
        chunks = [Chunk(0, tokens[33:], 33, 1), *(Chunk(slot, [9], 7, 1) for slot in range(1, company + 1))]
        assert np.array_equal(decoder.step(chunks, invariant=True)[0], alone), company


@pytest.mark.parametrize("level", [FLOAT32_ACTIVATIONS, INT8_ACTIVATIONS])
def test_every_row_of_an_invariant_batch_is_what_it_is_in_any_other(folder: Path, level: int) -> None:
    slots = 9
    decoder = open_decoder(folder, slots=slots, accuracy_level=level)
    prompts = [text(slot, 7) for slot in range(slots)]
    for slot, prompt in enumerate(prompts):
        decoder.step([Chunk(slot, prompt, 0, 0)])
    chunks = [Chunk(slot, [9 + slot], 7, 1) for slot in range(slots)]
    all_of_them = [logits.copy() for logits in decoder.step(chunks, invariant=True)]
    some = [range(count) for count in range(1, slots)]
    # Between these lie rows that take no part, as those of prompts that are being read.
    some_apart = [(0, 2), (0, 1, 3), (1, 2, 4, 5, 6, 8), (0, 2, 4, 6, 8), (8,), (0, 8), (3, 4, 5, 7)]
    for chosen in (*some, *some_apart):
        found = decoder.step([chunks[slot] for slot in chosen], invariant=True)
        for slot, logits in zip(chosen, found, strict=True):
            assert np.array_equal(logits, all_of_them[slot]), (list(chosen), slot)


def test_rows_that_move_take_their_tokens_with_them(folder: Path) -> None:
    decoder = open_decoder(folder, accuracy_level=FLOAT32_ACTIVATIONS)
    expected = greedy(decoder, 0, text(3, 9), 8)
    decoder.release(0)
    for slot in range(4):
        decoder.step([Chunk(slot, text(slot, 5), 0, 1)])
    decoder.release(3)
    first = greedy(decoder, 3, text(3, 9), 4)
    for slot in (0, 1):
        decoder.release(slot)
    rest, start = first[-1:], 9 + 3
    for _ in range(4):
        found = decoder.step([Chunk(2, [7], 5, 1), Chunk(3, rest[-1:], start, 1)])
        rest.append(int(found[1][0].argmax()))
        start += 1
    assert first + rest[1:] == expected


def test_what_is_read_can_be_written_elsewhere(folder: Path) -> None:
    decoder = open_decoder(folder)
    tokens = text(4, 12)
    [expected] = decoder.step([Chunk(0, tokens, 0, 1)])
    expected = expected.copy()
    entries = decoder.read(0, 0, 11)
    assert entries.nbytes == 11 * kv_token_bytes(config_of(folder))
    decoder.write(2, 0, entries[:, :6])
    decoder.write(2, 6, entries[:, 6:])
    [found] = decoder.step([Chunk(2, tokens[11:], 11, 1)], invariant=True)
    found = found.copy()
    [again] = decoder.step([Chunk(0, tokens[11:], 11, 1)], invariant=True)
    assert np.array_equal(found, again)
    assert np.abs(found - expected).max() < 0.1 * np.ptp(expected)


def test_a_slot_can_go_back(folder: Path) -> None:
    decoder = open_decoder(folder)
    tokens = text(5, 16)
    [whole] = decoder.step([Chunk(0, tokens, 0, 1)])
    whole = whole.copy()
    decoder.step([Chunk(0, text(6, 8), 8, 1)])
    [again] = decoder.step([Chunk(0, tokens[8:], 8, 1)])
    assert np.array_equal(again, whole)


def test_the_whole_context_can_be_used_and_no_more(folder: Path) -> None:
    decoder = open_decoder(folder)
    tokens = text(7, CONTEXT)
    [logits] = decoder.step([Chunk(0, tokens[:-1], 0, 1)], invariant=True)
    [logits] = decoder.step([Chunk(0, tokens[-1:], CONTEXT - 1, 1)], invariant=True)
    assert np.isfinite(logits).all()
    with pytest.raises(EngineFailed, match=f"slot 0 holds {CONTEXT} of {CONTEXT} tokens"):
        decoder.step([Chunk(0, [5], CONTEXT, 1)])
    with pytest.raises(EngineFailed, match="slot 1 holds 0"):
        decoder.step([Chunk(1, [5], 3, 1)])


def test_closed(folder: Path) -> None:
    decoder = open_decoder(folder)
    decoder.close()
    with pytest.raises(EngineFailed, match="closed"):
        decoder.step([Chunk(0, [5], 0, 1)])


def test_a_graph_without_the_attention_that_is_known(folder: Path, tmp_path: Path) -> None:
    import onnx_ir

    model = onnx_ir.load(folder / "model.onnx")
    for node in model.graph:
        if node.op_type == "GroupQueryAttention":
            node.op_type = "MultiHeadAttention"
    onnx_ir.save(model, tmp_path / "model.onnx")
    with pytest.raises(NotBatchable, match="MultiHeadAttention"):
        derive(tmp_path / "model.onnx", config_of(folder))
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(EngineFailed, match=r"model\.onnx cannot be read"):
        derive(tmp_path / "model.onnx", config_of(folder))


class Refusing:
    """A session that refuses to run."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, _: object) -> None:
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail

        raise Fail("out of luck")


def test_what_the_runtime_refuses_is_told_and_a_fault_of_ours_stays_one(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    decoder = open_decoder(ours)
    monkeypatch.setattr(decoder, "_session", Refusing(decoder._session))
    with pytest.raises(EngineFailed, match="ONNX Runtime failed: out of luck"):
        decoder.step([Chunk(0, [5, 6], 0, 1)])
    monkeypatch.setattr(decoder, "_run_chunk", fail)
    with pytest.raises(KeyError, match="a bug"):
        decoder.step([Chunk(0, [5, 6], 0, 1)])
    decoder.close()


def test_a_settled_decoder_answers_as_before(folder: Path) -> None:
    decoder = open_decoder(folder)
    before = greedy(decoder, 0, text(1, 20), 12)
    while decoder.settle():
        pass
    assert greedy(decoder, 0, text(1, 20), 12) == before
    decoder.close()
    assert not decoder.settle()


@pytest.mark.parametrize("field", ["num_key_value_heads", "head_size", "vocab_size"])
def test_a_config_that_says_another_size_than_the_graph_is_refused(ours: Path, field: str, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(ours, folder)
    document = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
    part = document["model"] if field in document["model"] else document["model"]["decoder"]
    part[field] *= 1000
    (folder / "genai_config.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(EngineFailed, match=f"says {field} .*, and the graph has"):
        open_decoder(folder)
