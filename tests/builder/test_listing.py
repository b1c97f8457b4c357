"""Which weights a graph has, and of which tensors."""

from __future__ import annotations

import pytest

from edgeship.builder.architecture import Architecture, read_architecture
from edgeship.builder.layout import Matrix
from edgeship.builder.listing import list_weights
from edgeship.checkpoint import open_checkpoint
from edgeship.errors import CheckpointInvalid
from tests import checkpoints

Shapes = dict[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Architecture:
    folder = checkpoints.make_checkpoint(tmp_path_factory.mktemp("layout") / "tiny")
    return read_architecture(open_checkpoint(str(folder)))


@pytest.fixture
def shapes() -> Shapes:
    return {name: values.shape for name, values in checkpoints.qwen2_weights().items()}


def test_every_tensor_of_the_checkpoint_has_one_place(architecture: Architecture, shapes: Shapes) -> None:
    parts = [part for weight in list_weights(architecture, shapes, "here") for part in weight.parts]
    assert sorted(part.tensor for part in parts) == sorted(shapes)
    assert all((part.start, part.stop) == (0, shapes[part.tensor][0]) for part in parts)


def test_queries_keys_and_values_are_one_matrix(architecture: Architecture, shapes: Shapes) -> None:
    weights = {weight.name: weight for weight in list_weights(architecture, shapes, "here")}
    packed = weights["layers.0.qkv"]
    assert isinstance(packed, Matrix)
    assert packed.rows == checkpoints.HIDDEN + 2 * checkpoints.KV_HEADS * checkpoints.HEAD_SIZE
    assert "layers.0.qkv.bias" in weights
    assert "head" not in weights, "the embedding of a tied model is its output layer"


def test_a_tensor_without_a_place_is_named(architecture: Architecture, shapes: Shapes) -> None:
    with pytest.raises(CheckpointInvalid, match=r"model\.layers\.0\.mlp\.extra"):
        list_weights(architecture, shapes | {"model.layers.0.mlp.extra": (3,)}, "here")


def test_a_missing_tensor_is_named(architecture: Architecture, shapes: Shapes) -> None:
    del shapes["model.layers.1.mlp.down_proj.weight"]
    with pytest.raises(CheckpointInvalid, match=r"model\.layers\.1\.mlp\.down_proj\.weight is missing"):
        list_weights(architecture, shapes, "here")


@pytest.mark.parametrize("part", ["gate", "up", "down"])
def test_a_tensor_that_holds_nothing_is_named(architecture: Architecture, shapes: Shapes, part: str) -> None:
    """An MLP may be as wide as its tensors make it, but for no width at all."""
    empty = {
        f"model.layers.1.mlp.{each}_proj.weight": (checkpoints.HIDDEN, 0) if each == "down" else (0, checkpoints.HIDDEN)
        for each in ("gate", "up", "down")
    }
    name = f"model.layers.1.mlp.{part}_proj.weight"
    with pytest.raises(CheckpointInvalid, match=rf"tensor {name} is \[\d+, \d+\], which holds nothing"):
        list_weights(architecture, shapes | {name: empty[name]}, "here")
    with pytest.raises(CheckpointInvalid, match="which holds nothing"):
        list_weights(architecture, shapes | empty, "here")
