"""Which rows the experts of a graph get, so that what is made of a token does not depend on the others beside it.

ONNX Runtime's operators for experts make it depend on them, in the last bits: what several experts make of a token is
added up in an order that follows from how many tokens there are, and a single row that an expert gets is multiplied by
another kernel than several rows. So here each row goes to one expert, what is made of a token's rows is added up
outside of the operator, and `copies` int64 [1], a new input of the graph, says how many times every row is given: of
two, none is a single one.

Shapes: c copies of n tokens of width d, each of which k of e experts work on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

COPIES = "copies"
_LAST_MATRICES = {"MoE": 4, "QMoE": 5}
"""The operators, and which of their inputs is [e, d, ...]: the matrices that make what comes out."""
_VALUES, _SCORES = 0, 1
"""Their inputs [..., d] and [n, e]: the softmax of a token's k largest scores weighs what these experts make."""
_OWN_WEIGHTS = 14
"""Their input that would weigh experts instead of that softmax."""
_ALIKE_BITS = 8
"""Measured to the bit: the kernel for experts of so many bits gives the same for a single row as for several."""


def give_rows(graph: Any) -> None:
    """Changes the nodes of a graph around its experts, and adds COPIES to its inputs where a single row differs."""
    import onnx

    sizes = {tensor.name: list(tensor.dims)[:2] for tensor in graph.initializer}
    experts = {node.output[0]: node for node in graph.node if _is_known(node, sizes)}
    if not experts:
        return
    copied = any(_stated(node, "expert_weight_bits") != _ALIKE_BITS for node in experts.values())
    if copied:
        graph.input.append(onnx.helper.make_tensor_value_info(COPIES, onnx.TensorProto.INT64, [1]))
    rows = _Rows(graph, COPIES if copied else "")
    nodes: list[Any] = []
    for node in graph.node:
        known = node.output[0] in experts
        nodes += rows.given_to(node, *sizes[_last_matrices(node)]) if known else [node]
    del graph.node[:]
    graph.node.extend([*rows.shapes, *nodes])


def _is_known(node: Any, sizes: Mapping[str, Sequence[int]]) -> bool:
    """Whether it has experts that are weighed as all are that are built here; others are left as they are."""
    if node.op_type not in _LAST_MATRICES:
        return False
    weighs = _stated(node, "normalize_routing_weights") == 1 and not _stated(node, "use_sparse_mixer")
    return weighs and not any(node.input[_OWN_WEIGHTS:]) and _last_matrices(node) in sizes


def _last_matrices(node: Any) -> str:
    return str(node.input[_LAST_MATRICES[node.op_type]])


def _stated(node: Any, name: str) -> int | None:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), None)


class _Rows:
    """Makes nodes. shapes: those that all experts share.

    copies: the input that says how many there are; "" for one.
    """

    def __init__(self, graph: Any, copies: str) -> None:
        self.shapes: list[Any] = []
        self._graph, self._copies = graph, copies
        self._known: set[str] = set()

    def given_to(self, node: Any, experts: int, width: int) -> Iterator[Any]:
        """One node for experts, which is changed, and the nodes around it."""
        from onnx.helper import make_attribute, make_node

        values, scores, made = node.input[_VALUES], node.input[_SCORES], node.output[0]
        [chosen] = [attribute for attribute in node.attribute if attribute.name == "k"]
        count = chosen.i

        def op(kind: str, inputs: Sequence[str], result: str, **attributes: Any) -> Any:
            return make_node(kind, [*inputs], [f"{made}.{result}"], **attributes)

        yield make_node("TopK", [scores, self._numbers(count)], [f"{made}.largest", f"{made}.chosen"], axis=1)
        yield op("Softmax", [f"{made}.largest"], "weights", axis=1)
        # [c, n, k, d] and [c, n, k], on top of each other
        yield op("Reshape", [values, self._numbers(1, -1, 1, width)], "tokens")
        yield op("Tile", [f"{made}.tokens", self._counted(1, count, 1)], "of_experts")
        yield op("Reshape", [f"{made}.of_experts", self._numbers(-1, width)], "rows")
        yield op("Tile", [f"{made}.chosen", self._counted(1)], "experts")
        yield op("Reshape", [f"{made}.experts", self._numbers(-1)], "expert")
        yield op("OneHot", [f"{made}.expert", self._numbers(experts), self._zero_and_one()], "scores", axis=-1)
        node.input[_VALUES], node.input[_SCORES] = f"{made}.rows", f"{made}.scores"
        node.output[0] = f"{made}.of_rows"
        chosen.CopyFrom(make_attribute("k", 1))
        yield node
        yield op("Reshape", [f"{made}.of_rows", self._counted(-1, count, width)], "of_copies")
        yield op("Gather", [f"{made}.of_copies", self._number(0)], "of_tokens", axis=0)
        yield op("Unsqueeze", [f"{made}.weights", self._numbers(2)], "weight")
        yield op("Mul", [f"{made}.of_tokens", f"{made}.weight"], "weighed")
        yield op("ReduceSum", [f"{made}.weighed", self._numbers(1)], "sum", keepdims=0)
        yield op("Shape", [values], "shape")
        yield make_node("Reshape", [f"{made}.sum", f"{made}.shape"], [made], allowzero=1)

    def _numbers(self, *numbers: int) -> str:
        return self._constant("x".join(map(str, numbers)), numbers, [len(numbers)])

    def _number(self, number: int) -> str:
        return self._constant(f"number {number}", [number], [])

    def _counted(self, *numbers: int) -> str:
        """How many copies there are, and these numbers."""
        from onnx.helper import make_node

        if not self._copies:
            return self._numbers(1, *numbers)
        name = f"{COPIES}.{'x'.join(map(str, numbers))}"
        if name not in self._known:
            self._known.add(name)
            self.shapes.append(make_node("Concat", [self._copies, self._numbers(*numbers)], [name], axis=0))
        return name

    def _zero_and_one(self) -> str:
        from onnx import TensorProto

        return self._constant("zero and one", [0.0, 1.0], [2], TensorProto.FLOAT)

    def _constant(self, told: str, values: Sequence[float], shape: Sequence[int], kind: int = 0) -> str:
        import onnx

        name = f"{COPIES}.constant {told}"
        if name not in self._known:
            self._known.add(name)
            kind = kind or onnx.TensorProto.INT64
            self._graph.initializer.append(onnx.helper.make_tensor(name, kind, shape, values))
        return name
