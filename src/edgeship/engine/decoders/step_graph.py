"""The graph that the batched engine runs, derived in memory from a package's own; the package stays as it is.

Shapes: b sequences of s new tokens each. Where the package's graph takes an attention mask and gives logits of the last
position or of all, this one takes `lengths` int32 [b] (tokens of each sequence, the new ones included, less one),
`total` int32 (the most tokens that any has) and `wanted` int64 [w] (positions among the s new ones), and gives logits
[b, w, vocabulary]. Weights stay where they are, in the file beside the package's graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship.errors import NotBatchable
from edgeship.package import DAMAGED
from edgeship.package.genai_config import GenaiConfig

ATTENTION = "GroupQueryAttention"
LENGTHS, TOTAL, WANTED = "lengths", "total", "wanted"
_LENGTHS_INPUT, _TOTAL_INPUT = 5, 6
# What may lie between the multiplication that makes logits and the logits.
_ELEMENTWISE = {"Add", "Cast", "Div", "Mul", "Softcap", "Tanh"}
_HEADS = {"MatMulNBits", "MatMul", "FusedMatMul", "Gemm"}


def derive(path: Path, config: GenaiConfig, *, accuracy_level: int | None = None) -> bytes:
    """The graph as a serialised ONNX model.

    accuracy_level: in place of the package's own, 1 multiplies in float32, 4 in int8; None changes nothing.
    Raises NotBatchable with the reason, EngineFailed where the file cannot be read.
    """
    import onnx_ir
    from onnx_ir.passes.common import LiftConstantsToInitializersPass

    try:
        model = onnx_ir.load(path)
    except Exception as error:  # protobuf, file and value errors alike
        raise DAMAGED.about(path, f"cannot be read: {error}") from error
    graph = model.graph
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _take_positions(graph)
    _take_lengths(graph)
    _set_accuracy(graph, accuracy_level)
    _drop_unused(model, config)
    return bytes(onnx_ir.serde.serialize_model(model).SerializeToString())


def _take_positions(graph: Any) -> None:
    """Logits of the wanted positions: by every selection of the last one, or by a new one before the head."""
    import onnx_ir

    wanted = _input(graph, WANTED, onnx_ir.DataType.INT64, ["wanted"])
    selections = [node for node in graph if _selects_last(node)]
    for node in selections:
        if node.inputs[1].const_value.numpy().ndim == 0:
            _keep_axis(graph, node)
        node.replace_input_with(1, wanted)
        _forget_shapes(node)
    logits = next(value for value in graph.outputs if value.name == "logits")
    if not selections:
        head, index = _head(logits)
        chosen = onnx_ir.Value(name="wanted_states")
        gather = onnx_ir.node(
            "Gather", [head.inputs[index], wanted], attributes={"axis": 1}, outputs=[chosen], name="wanted_states"
        )
        graph.insert_before(head, gather)
        head.replace_input_with(index, chosen)
        _forget_shapes(gather)
    vocabulary = logits.shape[-1] if logits.shape is not None else "vocabulary"
    logits.shape = onnx_ir.Shape(["batch", "wanted", vocabulary])


def _forget_shapes(node: Any) -> None:
    """What is made of a node's output has other positions than the graph states."""
    waiting, seen = [node], {node}
    while waiting:
        for value in waiting.pop().outputs:
            value.shape = None
            followers = {use.node for use in value.uses()} - seen
            waiting += followers
            seen |= followers


def _selects_last(node: Any) -> bool:
    if node.op_type != "Gather" or node.inputs[1] is None or node.inputs[1].const_value is None:
        return False
    axis = node.attributes.get("axis")
    return axis is not None and axis.as_int() == 1 and node.inputs[1].const_value.numpy().reshape(-1).tolist() == [-1]


def _keep_axis(graph: Any, node: Any) -> None:
    """A selection by a single number loses the axis, and what follows puts it back; by several it keeps it."""
    users = [use.node for use in node.outputs[0].uses()]
    if [user.op_type for user in users] != ["Unsqueeze"]:
        raise NotBatchable("its graph selects the last position in a way that is not known here")
    users[0].outputs[0].replace_all_uses_with(node.outputs[0])
    graph.remove(users[0], safe=True)


def _head(logits: Any) -> tuple[Any, int]:
    """The node that multiplies by the head, and which of its inputs are the states."""
    node = logits.producer()
    while node is not None and node.op_type in _ELEMENTWISE:
        node = next((value.producer() for value in node.inputs if value is not None and value.producer()), None)
    if node is None or node.op_type not in _HEADS:
        raise NotBatchable(f"its graph makes logits by {node.op_type if node else 'nothing'}, which is not known here")
    return node, 0


def _take_lengths(graph: Any) -> None:
    import onnx_ir

    attentions = [node for node in graph if node.op_type == ATTENTION]
    others = sorted({node.op_type for node in graph if node.op_type.endswith("Attention")} - {ATTENTION})
    if not attentions or others:
        raise NotBatchable(f"its graph attends by {', '.join(others) or 'no single operator'} and not by {ATTENTION}")
    pasts = {value for value in graph.inputs if value.name.startswith("past_key_values.")}
    if {node.inputs[place] for node in attentions for place in (3, 4)} != pasts:
        raise NotBatchable("its graph reads earlier keys and values outside of the attention")
    lengths = _input(graph, LENGTHS, onnx_ir.DataType.INT32, ["batch"])
    total = _input(graph, TOTAL, onnx_ir.DataType.INT32, [])
    for node in attentions:
        node.replace_input_with(_LENGTHS_INPUT, lengths)
        node.replace_input_with(_TOTAL_INPUT, total)


def _set_accuracy(graph: Any, accuracy_level: int | None) -> None:
    import onnx_ir

    if accuracy_level is None:
        return
    for node in graph:
        if node.op_type == "MatMulNBits":
            node.attributes["accuracy_level"] = onnx_ir.AttrInt64("accuracy_level", accuracy_level)


def _drop_unused(model: Any, config: GenaiConfig) -> None:
    """Takes away what led from the mask to the lengths, and the mask. Raises NotBatchable where it is still needed."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
    for kind in ("attention_mask", "position_ids"):
        for value in list(model.graph.inputs):
            if value.name != config.inputs.get(kind, kind):
                continue
            if value.uses():
                raise NotBatchable(f"its graph uses {kind} for more than the length of each sequence")
            model.graph.inputs.remove(value)


def _input(graph: Any, name: str, kind: Any, shape: list[int | str]) -> Any:
    import onnx_ir

    value = onnx_ir.Value(name=name, shape=onnx_ir.Shape(shape), type=onnx_ir.TensorType(kind))
    graph.inputs.append(value)
    return value
