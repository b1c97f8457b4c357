"""Reading layer by layer: what is seen is what the whole graph sees, and a killed walk goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir
import pytest
from safetensors.numpy import load_file, save_file

from edgeship import builder
from edgeship.builder import data_file, nodes, onnx_model, walk
from edgeship.builder.layout import lay_out
from edgeship.builder.stream import design
from edgeship.builder.walk import Walk
from edgeship.checkpoint import open_checkpoint
from edgeship.errors import CheckpointInvalid
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from tests import checkpoints, families

TEXTS = [list(range(5, 45)), [7, 7, 300, 9], list(range(90, 107))]
LAYERS = checkpoints.qwen2_config()["num_hidden_layers"]
Floats = npt.NDArray[np.float32]


def start(
    checkpoint: Path,
    folder: Path,
    tell: Callable[[str], object] = lambda _: None,
    texts: Sequence[Sequence[int]] = TEXTS,
) -> Walk:
    folder.mkdir(exist_ok=True)
    opened = open_checkpoint(str(checkpoint))
    architecture, weights, _ = design(opened, Recipe(precision=Precision.FP32))
    return Walk(architecture, weights, str(checkpoint), opened.digest, texts, folder, tell)


def seen(reader: Walk, layer: int) -> dict[str, Floats]:
    found: dict[str, list[Floats]] = {}
    reader.read(layer, lambda name, inputs: found.setdefault(name, []).append(np.array(inputs)))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def of_whole_graph(folder: Path, tokens: list[int]) -> dict[str, Floats]:
    """What the matrices of an FP32 model read, [positions, width]; the last layer ends with the last position alone."""
    model = onnx_ir.load(folder / "model.onnx")
    readers = [node for node in model.graph if node.op_type == "FusedMatMul"]
    inputs = {str(node.inputs[1].name): node.inputs[0] for node in readers if node.inputs[1] is not None}
    for value in {id(value): value for value in inputs.values() if value is not None}.values():
        value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
        model.graph.outputs.append(value)
    onnx_ir.save(model, folder / "model.onnx")
    runner = onnx_model.Runner(folder, 2)
    names = {name: str(value.name) for name, value in inputs.items() if value is not None}
    states = {
        str(value.name): np.zeros([1, *(size for size in value.shape.dims[1:] if isinstance(size, int))], np.float32)
        for value in model.graph.inputs
        if str(value.name).startswith("past.") and value.shape is not None
    }
    return {name: runner.run(tokens, [output], **states)[0][0] for name, output in names.items()}


@pytest.mark.parametrize("tied", [True, False])
def test_every_matrix_reads_what_it_reads_in_the_whole_graph(tmp_path: Path, settings: Settings, tied: bool) -> None:
    config, tensors = checkpoints.qwen2_config(tie_word_embeddings=tied), checkpoints.qwen2_weights()
    folder = checkpoints.make_checkpoint(tmp_path / "checkpoint", config=config)
    if not tied:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"][::-1].copy()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    built = builder.build(open_checkpoint(str(folder)), Recipe(precision=Precision.FP32), settings)
    reader = start(folder, tmp_path / "walk")
    found = {name: inputs for layer in range(LAYERS) for name, inputs in seen(reader, layer).items()}
    begin = 0
    wholes = [of_whole_graph(built.folder, tokens) for tokens in TEXTS]
    assert found.keys() == wholes[0].keys()
    for tokens, whole in zip(TEXTS, wholes, strict=True):
        for name, expected in whole.items():
            part = found[name][begin : begin + len(tokens)][-len(expected) :]
            assert np.allclose(part, expected, rtol=1e-4, atol=1e-5), name
        begin += len(tokens)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma4", "gemma4-untied"])
def test_layers_that_need_more_than_hidden_states_get_it(tmp_path: Path, settings: Settings, name: str) -> None:
    require_reads_of_whole_graph(name, tmp_path, settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3-moe", "mixtral", "gpt-oss", "granite4-moe", "lfm2-moe"])
def test_experts_that_are_read_piece_by_piece_make_what_they_make_in_the_whole_graph(
    tmp_path: Path, settings: Settings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where all texts do not fit at once, nor all rows of an expert."""
    monkeypatch.setattr(walk, "MIXED_POSITIONS", len(TEXTS[0]))
    monkeypatch.setattr(data_file, "CHUNK_ELEMENTS", 700)
    require_reads_of_whole_graph(name, tmp_path, settings)
    layer = onnx_ir.load(tmp_path / "walk" / "model.onnx").graph
    assert nodes.MADE in [value.name for value in layer.inputs]
    assert not [weight for weight in layer.initializers if weight.startswith("layers") and ".experts." in weight]


def require_reads_of_whole_graph(name: str, tmp_path: Path, settings: Settings) -> None:
    """That the matrices of this case read in a walk, layer by layer, what they read in its FP32 build."""
    case = next(case for case in families.CASES if case.name == name)
    folder = families.make_checkpoint(case, tmp_path / "checkpoint")
    built = builder.build(open_checkpoint(str(folder)), Recipe(precision=Precision.FP32), settings)
    reader = start(folder, tmp_path / "walk")
    layers = range(reader.layers)
    found = {name: inputs for layer in layers for name, inputs in seen(reader, layer).items()}
    again = seen(start(folder, tmp_path / "walk"), layers[-1])
    begin = 0
    for tokens, whole in [(tokens, of_whole_graph(built.folder, tokens)) for tokens in TEXTS]:
        assert found.keys() == whole.keys() - {"per_layer.projection"}
        for matrix, inputs in found.items():
            part = inputs[begin : begin + len(tokens)][-len(whole[matrix]) :]
            assert np.allclose(part, whole[matrix], rtol=1e-3, atol=1e-4), matrix
            assert matrix not in again or np.array_equal(again[matrix], inputs)
        begin += len(tokens)


def test_a_killed_walk_goes_on_with_the_layer_in_hand(tiny: Path, tmp_path: Path) -> None:
    first = start(tiny, tmp_path / "walk")
    seen(first, 0)
    expected = seen(first, 1)
    told: list[str] = []
    found = seen(start(tiny, tmp_path / "walk", told.append), 1)
    assert_same(found, expected)
    assert {message.split(",")[0] for message in told} == {f"calibrate: layer 2 of {LAYERS}"}


def flip(path: Path, place: float) -> None:
    """One bit of the byte that lies so far into the file."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(path.read_bytes()[:20]),
        *(partial(flip, place=place) for place in (0.0, 0.2, 0.5, 1.0)),
    ],
)
def test_a_walk_whose_states_are_lost_begins_again(tiny: Path, tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    first = start(tiny, tmp_path / "walk")
    expected = seen(first, 1)
    damage(tmp_path / "walk" / "states-1.bin")
    assert_same(seen(start(tiny, tmp_path / "walk"), 1), expected)
    assert_same(seen(first, 1), expected)


def test_what_another_walk_left_is_not_taken(tiny: Path, tmp_path: Path) -> None:
    """Texts of as many tokens, a checkpoint of the same shape, a layer before this one: all fit by their size."""
    seen(start(tiny, tmp_path / "texts", texts=[text[::-1] for text in TEXTS]), 1)
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    weights = load_file(other / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] *= 2
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    killed = start(other, tmp_path / "checkpoint")
    seen(killed, 1)
    # As it was killed when it wrote this layer, and had not forgotten yet what of it was there.
    layout = lay_out(killed.of_layer(0), {matrix.name: "float32" for matrix in killed.matrices(0)})
    data_file.write(layout, killed._weights, tmp_path / "checkpoint" / nodes.DATA_NAME)
    seen(start(tiny, tmp_path / "layer"), 0)
    (tmp_path / "layer" / "states-0.bin").rename(tmp_path / "layer" / "states-1.bin")
    expected = seen(start(tiny, tmp_path / "empty"), 1)
    for left in ("texts", "checkpoint", "layer"):
        assert_same(seen(start(tiny, tmp_path / left), 1), expected)


def test_the_same_is_seen_on_however_many_cores(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(walk, "usable_cores", lambda cores=cores: cores)
        found.append(seen(start(tiny, tmp_path / f"walk-{cores}"), LAYERS - 1))
    assert_same(*found)


def test_a_layer_that_gives_no_numbers_is_named(tiny: Path, tmp_path: Path) -> None:
    granite = {"architectures": ["GraniteForCausalLM"], "model_type": "granite", "residual_multiplier": 3e38}
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(**granite))
    weights = load_file(tiny / "model.safetensors")
    weights["model.layers.0.self_attn.o_proj.weight"] *= 1000
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointInvalid, match=r"layer 0 makes NaN, infinity or numbers .* of calibration text 1"):
        start(tiny, tmp_path / "walk").read(1)


def test_numbers_whose_squares_add_up_to_infinity_are_named_with_the_layer(tiny: Path, tmp_path: Path) -> None:
    """The states that leave the layer stay small."""
    weights = load_file(tiny / "model.safetensors")
    weights["model.layers.1.post_attention_layernorm.weight"] *= 1e4
    for name, factor in (("gate", 1e4), ("up", 1e4), ("down", 1e-16)):
        weights[f"model.layers.1.mlp.{name}_proj.weight"] *= np.float32(factor)
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    reader = start(tiny, tmp_path / "walk")
    reader.read(1)
    with pytest.raises(CheckpointInvalid, match=r"layer 1 makes .* numbers above 1e\+15"):
        seen(reader, 1)


def assert_same(found: dict[str, Floats], expected: dict[str, Floats]) -> None:
    assert found.keys() == expected.keys()
    for name, inputs in found.items():
        assert np.array_equal(inputs, expected[name]), name
