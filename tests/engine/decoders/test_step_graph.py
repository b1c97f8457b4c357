"""The derived graph of every family that the builder knows, many sequences at a time, against transformers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeship.engine.decoders import Chunk
from edgeship.engine.decoders.onnx import OnnxDecoder
from edgeship.engine.decoders.step_graph import derive
from edgeship.errors import NotBatchable
from tests.families import GREEDY_FROM, GREEDY_TOKENS, SIZES, Made
from tests.packages import config_of

pytestmark = pytest.mark.slow

CLOSE = 1e-4
"""Of the logits' range: float32 computed in another order."""
TWO_TABLES = {"phi3-longrope", "phi4-mini"}
"""They rotate by other factors once any sequence is long, so short and long ones cannot share a step."""


def test_answers_in_one_batch_are_those_of_transformers(made: Made) -> None:
    folder = made.built(precision="fp32")
    if made.case.name in TWO_TABLES:
        with pytest.raises(NotBatchable, match=r"which is not known here|more than the length|wants position"):
            OnnxDecoder(config_of(folder), threads=1, slots=1, context_tokens=64)
        return
    decoder = OnnxDecoder(config_of(folder), threads=1, slots=3, context_tokens=int(SIZES["max_position_embeddings"]))
    prompt = made.case.prompt.tolist()
    expected = made.reference.greedy[GREEDY_FROM].tokens
    # Beside the answer in question others of every length run: where a window or a length is taken for another
    # sequence's, or a row for its neighbour, it shows.
    starts = {0: GREEDY_FROM, 1: 3, 2: 50}
    said: dict[int, list[int]] = {}
    for slot, length in starts.items():
        for cut, end in ((0, length // 2), (length // 2, length)):
            [logits] = decoder.step([Chunk(slot, prompt[cut:end], cut, 1, reading=True)])
        said[slot] = [int(logits[0].argmax())]
        if length in made.reference.logits:
            reference = made.reference.logits[length]
            assert np.abs(logits[0] - reference).max() < CLOSE * np.ptp(reference)
    for step in range(GREEDY_TOKENS - 1):
        chunks = [Chunk(slot, said[slot][-1:], length + step, 1) for slot, length in starts.items()]
        for slot, logits in enumerate(decoder.step(chunks)):
            said[slot].append(int(logits[0].argmax()))
    assert tuple(said[0]) == expected


def test_logits_after_every_token_are_those_of_transformers(made: Made) -> None:
    if made.case.name in TWO_TABLES:
        pytest.skip("not batchable")
    decoder = OnnxDecoder(config_of(made.built(precision="fp32")), threads=1, slots=1, context_tokens=64)
    prompt = made.case.prompt.tolist()[:50]
    [logits] = decoder.step([Chunk(0, prompt, 0, 50)])
    for length in (1, 7, 20, 50):
        reference = made.reference.logits[length]
        assert np.abs(logits[length - 1] - reference).max() < CLOSE * np.ptp(reference), length


def test_a_derived_graph_carries_no_weights(made: Made) -> None:
    folder = made.built(precision="fp32")
    if made.case.name not in TWO_TABLES:
        # Around experts there are some nodes more. The weights would take several times as much.
        assert len(derive(folder / "model.onnx", config_of(folder))) < 2 * (folder / "model.onnx").stat().st_size


@pytest.mark.parametrize("folder", ["int4_folder", "fp32_folder"])
def test_what_lies_between_head_and_logits_loses_the_shape_it_had(
    folder: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As in the graphs that onnxruntime-genai's builder makes of Phi and Gemma 2: a bias, or a cap on logits."""
    import onnx_ir

    made: Path = request.getfixturevalue(folder)
    shutil.copytree(made, tmp_path / "package")
    model = onnx_ir.load(made / "model.onnx")
    [logits] = [value for value in model.graph.outputs if value.name == "logits"]
    capped = onnx_ir.Value(name="logits", shape=logits.shape, type=logits.type)
    logits.name = "raw_logits"
    model.graph.append(onnx_ir.node("Tanh", [logits], outputs=[capped]))
    model.graph.outputs[list(model.graph.outputs).index(logits)] = capped
    onnx_ir.save(model, tmp_path / "package" / "model.onnx")
    chunks = [Chunk(0, [5, 6, 7, 8], 0, 2)]
    [found], [raw] = (
        OnnxDecoder(config_of(place), threads=1, slots=1, context_tokens=64).step(chunks)
        for place in (tmp_path / "package", made)
    )
    assert found.shape == (2, 384)
    assert np.allclose(found, np.tanh(raw), atol=1e-3)
