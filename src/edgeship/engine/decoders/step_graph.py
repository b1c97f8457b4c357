"""The graph that the batched engine runs, derived in memory from a package's own; the package stays as it is.

Shapes: b sequences of s new tokens each. Where the package's graph takes an attention mask and gives logits of the last
position or of all, this one takes `lengths` int32 [b] (tokens of each sequence, the new ones included, less one),
`total` int32 (the most tokens that any has) and `wanted` int64 [w] (positions among the s new ones), and gives logits
[b, w, vocabulary]. Layers that look at the keys of others may come after the selection of positions; for them it takes
`wanted_lengths` and `wanted_total` too, which are the other two up to the last wanted position. Wanted positions must
be side by side then, and there must be one. Experts get their tokens as expert_rows.py says. Weights stay where they
are, in the file beside the package's graph.

It is changed as the file has it, since a model is loaded in the time that onnx_ir, which builds graphs, takes to be
imported.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from edgeship.engine.decoders.expert_rows import give_rows
from edgeship.errors import NotBatchable
from edgeship.package import DAMAGED
from edgeship.package.genai_config import STATES, GenaiConfig

ATTENTION = "GroupQueryAttention"
LENGTHS, TOTAL, WANTED = "lengths", "total", "wanted"
WANTED_LENGTHS, WANTED_TOTAL = "wanted_lengths", "wanted_total"
_LENGTHS_INPUT, _TOTAL_INPUT = 5, 6
_STATES = "wanted_states"
# What may lie between the multiplication that makes logits and the logits.
_ELEMENTWISE = {"Add", "Cast", "Div", "Mul", "Softcap", "Tanh"}
_HEADS = {"MatMulNBits", "MatMul", "FusedMatMul", "Gemm"}
# Measured to the bit: their CPU kernels give the same where the state after them lies in the place of the one before.
_IN_PLACE = {"LinearAttention", "CausalConvWithState"}
_PAST_STATE_INPUT, _PRESENT_STATE_OUTPUT = 3, 1


def derive(path: Path, config: GenaiConfig, *, accuracy_level: int | None = None) -> bytes:
    """The graph as a serialised ONNX model.

    accuracy_level: in place of the package's own, 1 multiplies in float32, 4 in int8; None changes nothing.
    Raises NotBatchable with the reason, EngineFailed where the file cannot be read.
    """
    import onnx

    try:
        model = onnx.load_model(path, load_external_data=False)
    except Exception as error:  # protobuf, file and value errors alike
        raise DAMAGED.about(path, f"cannot be read: {error}") from error
    graph = model.graph
    _take_positions(graph)
    _take_lengths(graph)
    _check_states(graph, config)
    _set_accuracy(graph, accuracy_level)
    give_rows(graph)
    _drop_unused(graph)
    _drop_inputs(graph, [config.inputs.get(kind, kind) for kind in ("attention_mask", "position_ids")])
    return bytes(model.SerializeToString())


def _take_positions(graph: Any) -> None:
    """Logits of the wanted positions: by every selection of the last one, or by a new one before the head."""
    import onnx

    logits = next((value for value in graph.output if value.name == "logits"), None)
    if logits is None:
        raise NotBatchable("its graph gives no logits")
    _add_input(graph, WANTED, onnx.TensorProto.INT64, ["wanted"])
    constants = _constants(graph)
    selections = [node for node in graph.node if _selects_last(node, constants)]
    for node in selections:
        if _numbers_of(constants[node.input[1]]).ndim == 0:
            _keep_axis(graph, node)
        node.input[1] = WANTED
    if not selections:
        place = _head(graph)
        head = graph.node[place]
        gather = onnx.helper.make_node("Gather", [head.input[0], WANTED], [_STATES], name=_STATES, axis=1)
        head.input[0] = _STATES
        graph.node.insert(place, gather)
        selections = [gather]
    _forget_shapes(graph, {node.output[0] for node in selections})
    logits.type.tensor_type.shape.CopyFrom(_shape(["batch", "wanted", "vocabulary"]))


def _forget_shapes(graph: Any, names: set[str]) -> None:
    """What is made of these has other positions than the graph states."""
    users = _users(graph)
    waiting = list(names)
    while waiting:
        made = {name for node in users[waiting.pop()] for name in node.output} - names
        names |= made
        waiting += made
    for place in reversed(range(len(graph.value_info))):
        if graph.value_info[place].name in names:
            del graph.value_info[place]
    for value in graph.output:
        if value.name in names:
            value.type.tensor_type.ClearField("shape")


def _selects_last(node: Any, constants: dict[str, Any]) -> bool:
    if node.op_type != "Gather" or node.input[1] not in constants:
        return False
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return axis == 1 and _numbers_of(constants[node.input[1]]).reshape(-1).tolist() == [-1]


def _keep_axis(graph: Any, node: Any) -> None:
    """A selection by a single number loses the axis, and what follows puts it back; by several it keeps it."""
    users = _users(graph)[node.output[0]]
    if [user.op_type for user in users] != ["Unsqueeze"]:
        raise NotBatchable("its graph selects the last position in a way that is not known here")
    node.output[0] = users[0].output[0]
    graph.node.remove(users[0])


def _head(graph: Any) -> int:
    """The place of the node that multiplies states, its first input, by the head."""
    places = {name: place for place, node in enumerate(graph.node) if not _is_constant(node) for name in node.output}
    place = places.get("logits")
    while place is not None and graph.node[place].op_type in _ELEMENTWISE:
        place = next((places[name] for name in graph.node[place].input if name in places), None)
    kind = "nothing" if place is None else graph.node[place].op_type
    if place is None or kind not in _HEADS:
        raise NotBatchable(f"its graph makes logits by {kind}, which is not known here")
    return place


def _made_of(graph: Any, name: str) -> set[str]:
    """The values that depend on one."""
    made = {name}
    for node in graph.node:
        if not made.isdisjoint(node.input):
            made.update(node.output)
    return made


def _take_lengths(graph: Any) -> None:
    import onnx

    attentions = [node for node in graph.node if node.op_type == ATTENTION]
    kinds = {node.op_type for node in graph.node if node.op_type.endswith("Attention")}
    others = sorted(kinds - {ATTENTION, *_IN_PLACE})
    if not attentions or others:
        raise NotBatchable(f"its graph attends by {', '.join(others) or 'no single operator'} and not by {ATTENTION}")
    pasts = {value.name for value in graph.input if value.name.startswith("past_key_values.")}
    # A layer without keys of its own looks at what another's attention gives, and adds nothing to it.
    given = {name for node in attentions for name in node.output[1:]}
    if {node.input[place] for node in attentions for place in (3, 4)} - given != pasts:
        raise NotBatchable("its graph reads earlier keys and values outside of the attention")
    # Positions may be made of the lengths too, where a family rotates or grows queries outside of the attention.
    known = {node.input[_LENGTHS_INPUT]: LENGTHS for node in attentions}
    known |= {node.input[_TOTAL_INPUT]: TOTAL for node in attentions}
    late = {LENGTHS: WANTED_LENGTHS, TOTAL: WANTED_TOTAL}
    selected = _made_of(graph, WANTED)
    for node in graph.node:
        # Of the layers after the selection, queries of the wanted positions alone are there.
        looks_back = node.op_type == ATTENTION and node.input[0] in selected
        for place, name in enumerate(node.input):
            if name in known:
                node.input[place] = late[known[name]] if looks_back else known[name]
    used = {name for node in graph.node for name in node.input}
    for lengths, total in ((LENGTHS, TOTAL), (WANTED_LENGTHS, WANTED_TOTAL)):
        if lengths in used:
            _add_input(graph, lengths, onnx.TensorProto.INT32, ["batch"])
            _add_input(graph, total, onnx.TensorProto.INT32, [])


def _check_states(graph: Any, config: GenaiConfig) -> None:
    """That each state may be read and written in one place."""
    if not config.layers_differ:
        return
    layers, _, _ = config.cache_shape
    names = dict(config.kept_names(kind, layer) for kind in STATES for layer in range(layers))
    users = _users(graph)
    for past in (value.name for value in graph.input if value.name in names):
        for node in users[past]:
            alone = len(users[past]) == 1 and list(node.input).count(past) == 1
            read = list(node.input[_PAST_STATE_INPUT : _PAST_STATE_INPUT + 1])
            given = list(node.output[_PRESENT_STATE_OUTPUT : _PRESENT_STATE_OUTPUT + 1])
            several = any(attribute.name == "state_window" and attribute.i for attribute in node.attribute)
            in_place = node.op_type in _IN_PLACE and not several
            if not (in_place and alone and (read, given) == ([past], [names[past]])):
                raise NotBatchable(f"its graph reads {past} by {node.op_type} in a way that is not known here")


def _set_accuracy(graph: Any, accuracy_level: int | None) -> None:
    import onnx

    if accuracy_level is None:
        return
    for node in graph.node:
        if node.op_type in ("MatMulNBits", "QMoE"):
            kept = [attribute for attribute in node.attribute if attribute.name != "accuracy_level"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("accuracy_level", accuracy_level)])


def _drop_unused(graph: Any) -> None:
    """Takes away what led from the mask to the lengths, and whatever else no output is made of."""
    needed = {value.name for value in graph.output}
    for place in reversed(range(len(graph.node))):  # whatever uses a value comes after what makes it
        node = graph.node[place]
        if needed.isdisjoint(node.output):
            del graph.node[place]
        else:
            needed.update(_used_by(node))
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in needed:
            del graph.initializer[place]


def _drop_inputs(graph: Any, names: list[str]) -> None:
    """Takes these away. Raises NotBatchable for one that is still needed."""
    users = _users(graph)
    for place in reversed(range(len(graph.input))):
        name = graph.input[place].name
        if name in names:
            if users[name]:
                raise NotBatchable(f"its graph uses {name} for more than the length of each sequence")
            del graph.input[place]


# --- reading a graph -------------------------------------------------------------------------------------------------


def _users(graph: Any) -> defaultdict[str, list[Any]]:
    """The nodes that use each value."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in _used_by(node):
            found[name].append(node)
    return found


def _used_by(node: Any) -> set[str]:
    """The values that a node uses, also those from outside in the graphs that it chooses from."""
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {*node.input, *(name for graph in inner for each in graph.node for name in _used_by(each))} - {""}


def _constants(graph: Any) -> dict[str, Any]:
    """The tensors that stand in the graph itself."""
    import onnx

    there = {tensor.name: tensor for tensor in graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL}
    made = {
        node.output[0]: onnx.helper.get_attribute_value(node.attribute[0]) for node in graph.node if _is_constant(node)
    }
    return there | made


def _numbers_of(constant: Any) -> Any:
    """A tensor's numbers, or those that a node states without one."""
    import numpy as np
    import onnx

    return np.asarray(onnx.numpy_helper.to_array(constant) if isinstance(constant, onnx.TensorProto) else constant)


def _is_constant(node: Any) -> bool:
    return bool(node.op_type == "Constant")


def _add_input(graph: Any, name: str, kind: int, shape: list[Any]) -> None:
    import onnx

    graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))


def _shape(names: list[str]) -> Any:
    import onnx

    return onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, names).tensor_type.shape
