"""What a graph needs is read without running it, wherever in the graph it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from edgeship.engine import graph_contents
from edgeship.errors import EngineFailed


def outside(name: str, location: str, offset: int = 0, length: int = 4) -> Any:
    """A constant of one number whose value lies in a file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": str(offset), "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def written(tmp_path: Path, nodes: list[Any], constants: list[Any] | None = None, **more: Any) -> Path:
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph(nodes, "g", [], [value], initializer=constants or [])
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, **more).SerializeToString())
    return path


def test_files_and_the_bytes_that_they_need(tmp_path: Path) -> None:
    constants = [outside("a", "model.onnx.data", 8), outside("b", "model.onnx.data", 100, 20), outside("c", "../x")]
    found = graph_contents.read(written(tmp_path, [helper.make_node("Identity", ["a"], ["y"])], constants))
    assert found.files == {"model.onnx.data": 120, "../x": 4}
    assert found.operators == {("", "Identity")}


def test_sizes_of_inputs_that_are_open_are_none(tmp_path: Path) -> None:
    sizes: list[Any] = ["batch", 3, -1, 0]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes), helper.make_tensor_value_info("y", 1, None)]
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(helper.make_graph([], "g", inputs, [])).SerializeToString())
    assert graph_contents.input_shapes(path) == {"x": (None, 3, None, None), "y": ()}
    path.write_bytes(b"no model")
    with pytest.raises(EngineFailed, match="cannot be read"):
        graph_contents.input_shapes(path)


def test_bodies_of_branches_and_attributes_are_read(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Odd", [], ["z"], domain="com.example")], "b", [], [], [outside("d", "in")]
    )
    branch = helper.make_node("If", ["a"], ["y"], then_branch=inner, else_branch=inner)
    constant = helper.make_node("Constant", [], ["v"], value=outside("e", "attribute"))
    found = graph_contents.read(written(tmp_path, [branch, constant]))
    assert set(found.files) == {"in", "attribute"}
    assert ("com.example", "Odd") in found.operators


def test_operators_that_it_defines_itself_need_nobody(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("mine", 1)]
    own = helper.make_function("mine", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], opsets)
    node = helper.make_node("Twice", ["a"], ["y"], domain="mine")
    found = graph_contents.read(written(tmp_path, [node], [outside("a", "d")], functions=[own], opset_imports=opsets))
    assert found.operators == {("", "Add")}


@pytest.mark.parametrize(("embedded", "files"), [(0, {"../cache.bin": 0}), (1, {})])
def test_a_saved_context_is_a_file(embedded: int, files: dict[str, int], tmp_path: Path) -> None:
    node = helper.make_node(
        "EPContext", [], ["y"], domain="com.microsoft", embed_mode=embedded, ep_cache_context="../cache.bin"
    )
    assert graph_contents.read(written(tmp_path, [node])).files == files


def test_what_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineFailed, match=r"model\.onnx cannot be read"):
        graph_contents.read(tmp_path / "model.onnx")
