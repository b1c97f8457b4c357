"""What experts make of a token is the same to the bit, whatever other tokens there are and on however many threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeship.engine.decoders.expert_rows import COPIES, give_rows

pytestmark = pytest.mark.slow

Floats = npt.NDArray[np.float32]
TOKENS, EXPERTS, WIDTH, INNER, BLOCK = 64, 8, 96, 48, 16


def graph(operator: str, bits: int, chosen: int, **others: int) -> Any:
    """One operator with random experts, on tokens [tokens, WIDTH]."""
    import onnx

    rng, weights = np.random.default_rng(0), []
    sizes = ((EXPERTS, 2 * INNER, WIDTH), (EXPERTS, WIDTH, INNER))
    inputs = ["tokens", "scores"]
    for number, (experts, rows, width) in enumerate(sizes):
        stored: dict[str, npt.NDArray[Any]]
        if operator == "MoE":
            stored = {f"matrix{number}": rng.standard_normal((experts, rows, width)).astype(np.float32) / 8}
        else:
            packed = rng.integers(0, 256, (experts, rows, width * bits // 8), dtype=np.uint8)
            scales = rng.random((experts, rows, width // BLOCK), np.float32) / 2**bits
            stored = {f"packed{number}": packed, f"scales{number}": scales}
        weights += [onnx.numpy_helper.from_array(values, name) for name, values in stored.items()]
        inputs += [*stored, ""]
    how: dict[str, Any] = {"activation_type": "swiglu", "swiglu_fusion": 1, "normalize_routing_weights": 1, **others}
    if operator == "QMoE":
        how |= {"expert_weight_bits": bits, "block_size": BLOCK}
    node = onnx.helper.make_node(operator, inputs, ["made"], domain="com.microsoft", k=chosen, **how)
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["tokens", width])
        for name, width in (("tokens", WIDTH), ("scores", EXPERTS), ("made", WIDTH))
    ]
    return onnx.helper.make_graph([node], "experts", values[:2], values[2:], weights)


def opened(made: Any) -> Any:
    import onnx
    import onnxruntime

    operators = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(made, opset_imports=operators, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(session: Any, tokens: Floats, scores: Floats, copies: int = 2) -> Floats:
    feeds: dict[str, Any] = {"tokens": tokens, "scores": scores}
    if COPIES in {value.name for value in session.get_inputs()}:
        feeds[COPIES] = np.array([copies])
    found: Floats = session.run(None, feeds)[0]
    return found


@pytest.mark.parametrize("chosen", [1, 2, 4])
@pytest.mark.parametrize(("operator", "bits"), [("MoE", 32), ("QMoE", 8), ("QMoE", 4)])
def test_tokens_make_no_difference_to_each_other(operator: str, bits: int, chosen: int) -> None:
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((TOKENS, WIDTH), np.float32)
    scores = rng.standard_normal((TOKENS, EXPERTS), np.float32)
    made = graph(operator, bits, chosen)
    plain = run(opened(made), tokens, scores)
    give_rows(made)
    session = opened(made)
    found = run(session, tokens, scores)
    assert np.abs(found - plain).max() < 1e-5 * np.ptp(plain)
    assert np.abs(run(session, tokens, scores, copies=1) - plain).max() < 1e-5 * np.ptp(plain)
    for count in (1, 2, 3, 5, 13, 30):
        for start in (0, 20):
            some = slice(start, start + count)
            assert np.array_equal(run(session, tokens[some], scores[some]), found[some]), (start, count)
    assert run(session, tokens[:0], scores[:0]).shape == (0, WIDTH)


def test_experts_that_are_weighed_otherwise_are_left_as_they_are() -> None:
    made = graph("QMoE", 4, 4, normalize_routing_weights=0)
    before = made.SerializeToString()
    give_rows(made)
    assert made.SerializeToString() == before
