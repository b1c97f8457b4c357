"""What a graph asks of whoever runs it: operators, and files with its weights. Neither is run or opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.package import DAMAGED


@dataclass(frozen=True)
class GraphContents:
    """operators: those that it uses and does not define itself, each as its domain ("" is ONNX's own) and its name.

    files: where its weights lie, as it names them, each with the bytes that the file must have at least. A saved
    context of an execution provider is one, too.
    """

    operators: frozenset[tuple[str, str]]
    files: dict[str, int]


def read(path: Path) -> GraphContents:
    """The contents of an ONNX file. Raises EngineFailed where it cannot be read."""
    import onnx

    model = _load(path)
    own = {(function.domain, function.name) for function in model.functions}
    operators: set[tuple[str, str]] = set()
    files: dict[str, int] = {}
    parts = [_Part(model.graph.node, model.graph), *(_Part(function.node) for function in model.functions)]
    while parts:
        part = parts.pop()
        for node in part.nodes:
            operators.add(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
            if context := _context_file(node):
                files.setdefault(context, 0)
        for tensor in part.tensors():
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                place = {entry.key: entry.value for entry in tensor.external_data}
                name, needed = place.get("location", ""), _number(place, "offset") + _number(place, "length")
                files[name] = max(files.get(name, 0), needed)
        parts += part.inner()
    return GraphContents(frozenset(operators - own), files)


def input_shapes(path: Path) -> dict[str, tuple[int | None, ...]]:
    """The inputs of an ONNX file by name, with None for each size that is open. Raises EngineFailed as `read` does."""
    return {
        value.name: tuple(size.dim_value if size.dim_value > 0 else None for size in value.type.tensor_type.shape.dim)
        for value in _load(path).graph.input
    }


def _load(path: Path) -> Any:
    import onnx

    try:
        return onnx.load_model(path, load_external_data=False)
    except Exception as error:  # protobuf, file and value errors alike
        raise DAMAGED.about(path, f"cannot be read: {error}") from error


@dataclass(frozen=True)
class _Part:
    """Nodes of a graph or a function."""

    nodes: Any
    graph: Any = None

    def tensors(self) -> Iterator[Any]:
        """Its constants, those in attributes of nodes included."""
        if self.graph is not None:
            yield from self.graph.initializer
            for sparse in self.graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for attribute in self._attributes():
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t

    def inner(self) -> Iterator[_Part]:
        """Graphs in attributes of nodes: the bodies of loops and branches."""
        for attribute in self._attributes():
            graphs = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
            yield from (_Part(graph.node, graph) for graph in graphs)

    def _attributes(self) -> Iterator[Any]:
        for node in self.nodes:
            yield from node.attribute


def _context_file(node: Any) -> str | None:
    """The file that an EPContext node names; None where its context stands in the graph, and for other nodes."""
    if node.op_type != "EPContext":
        return None
    values = {attribute.name: attribute for attribute in node.attribute}
    if "embed_mode" not in values or values["embed_mode"].i or "ep_cache_context" not in values:
        return None
    return str(values["ep_cache_context"].s.decode("utf-8", "replace"))


def _number(place: dict[str, str], key: str) -> int:
    value = place.get(key, "")
    return int(value) if value.isdecimal() else 0
