"""Which layers have experts, and where the weights of those lie in a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship import builder
from edgeship.builder.architecture import Architecture, read_architecture
from edgeship.builder.layout import Matrix, Part
from edgeship.builder.listing import list_weights
from edgeship.checkpoint import open_checkpoint
from edgeship.errors import CheckpointInvalid
from edgeship.recipe import Recipe
from edgeship.settings import Settings
from tests import checkpoints, families, packings
from tests.onnx_decoder import OnnxDecoder

HIDDEN = checkpoints.HIDDEN
MLP = "model.layers.{}.mlp."
EXPERTS = 3
Shapes = dict[str, tuple[int, ...]]


def architecture(folder: Path, **changes: Any) -> Architecture:
    config = checkpoints.qwen2_config(
        architectures=["Qwen3MoeForCausalLM"],
        model_type="qwen3_moe",
        **{"num_experts": EXPERTS, "num_experts_per_tok": 2, **changes},
    )
    return read_architecture(open_checkpoint(str(checkpoints.make_checkpoint(folder, config=config))))


def mixed(folder: Path, **changes: Any) -> list[bool]:
    return [layer.mixed for layer in architecture(folder, **changes).layers]


def shapes(*, together: bool = False) -> Shapes:
    """Of a checkpoint whose experts are as wide as half of the model."""
    found = {name: values.shape for name, values in checkpoints.qwen2_weights().items() if ".mlp." not in name}
    for layer in range(checkpoints.LAYERS):
        found |= {f"model.layers.{layer}.self_attn.{of}_norm.weight": (checkpoints.HEAD_SIZE,) for of in "qk"}
        mlp = MLP.format(layer)
        found[f"{mlp}gate.weight"] = (EXPERTS, HIDDEN)
        if together:
            found[f"{mlp}experts.gate_up_proj"] = (EXPERTS, HIDDEN, HIDDEN)
            found[f"{mlp}experts.down_proj"] = (EXPERTS, HIDDEN, HIDDEN // 2)
        else:
            for expert in range(EXPERTS):
                for part in ("gate", "up"):
                    found[f"{mlp}experts.{expert}.{part}_proj.weight"] = (HIDDEN // 2, HIDDEN)
                found[f"{mlp}experts.{expert}.down_proj.weight"] = (HIDDEN, HIDDEN // 2)
    return found


def make(folder: Path, **changes: Any) -> Path:
    """A whole checkpoint of these shapes, random; two experts for each token."""
    architecture(folder, **changes)  # writes one of them
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 1 / shape[-1] ** 0.5, shape).astype(np.float32) for name, shape in shapes().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(("family", "heeded"), [("qwen3_moe", True), ("mixtral", False)])
def test_whether_weights_of_experts_add_up_to_1_is_said_where_it_can_be_chosen(
    family: str, heeded: bool, tmp_path: Path
) -> None:
    names = {"qwen3_moe": "Qwen3MoeForCausalLM", "mixtral": "MixtralForCausalLM"}
    for stated in (True, False):
        named: dict[str, Any] = {"architectures": [names[family]], "model_type": family}
        config = checkpoints.qwen2_config(**named, num_experts=EXPERTS, num_experts_per_tok=2, norm_topk_prob=stated)
        folder = checkpoints.make_checkpoint(tmp_path / str(stated), config=config)
        mixture = read_architecture(open_checkpoint(str(folder))).mixture
        assert mixture is not None
        assert mixture.normalised == (stated or not heeded)


def test_layers_have_experts_where_config_json_says_so(tmp_path: Path) -> None:
    assert mixed(tmp_path / "all") == [True, True]
    assert mixed(tmp_path / "none", num_experts=0) == [False, False]
    assert mixed(tmp_path / "second", decoder_sparse_step=2) == [False, True]
    assert mixed(tmp_path / "first", mlp_only_layers=[1]) == [True, False]


@pytest.mark.parametrize("together", [False, True])
def test_gates_and_what_goes_up_are_one_stack_by_turns(tmp_path: Path, *, together: bool) -> None:
    weights = {
        each.name: each for each in list_weights(architecture(tmp_path / "c"), shapes(together=together), "here")
    }
    above, below, router = (weights[f"layers.1.{name}"] for name in ("experts.gate_up", "experts.down", "router"))
    inner, name = HIDDEN // 2, f"{MLP.format(1)}experts."
    assert isinstance(above, Matrix)
    assert isinstance(below, Matrix)
    assert isinstance(router, Matrix)
    assert router.exact
    assert (above.rows, above.width) == (EXPERTS * 2 * inner, HIDDEN)
    assert (below.rows, below.width) == (EXPERTS * HIDDEN, inner)
    if together:
        start, tensor = 2 * HIDDEN, f"{name}gate_up_proj"
        assert above.parts[2] == Part(tensor, start, start + inner, (tensor, start + inner))
        assert below.parts[2] == Part(f"{name}down_proj", 2 * HIDDEN, 3 * HIDDEN)
    else:
        assert above.parts[2] == Part(f"{name}2.gate_proj.weight", 0, inner, (f"{name}2.up_proj.weight", 0))
        assert below.parts[2] == Part(f"{name}2.down_proj.weight", 0, HIDDEN)


def test_experts_that_are_stored_with_inputs_first_are_turned(tmp_path: Path) -> None:
    """As Qwen 3 VL MoE's are. What is as wide as high is taken to be as usual, as transformers does."""
    found = shapes(together=True)
    for layer in range(checkpoints.LAYERS):
        name = f"{MLP.format(layer)}experts."
        found[f"{name}gate_up_proj"] = (EXPERTS, HIDDEN, 2 * HIDDEN)
        found[f"{name}down_proj"] = (EXPERTS, HIDDEN, HIDDEN)
    weights = {each.name: each for each in list_weights(architecture(tmp_path / "c"), found, "here")}
    first, start, tensor = weights["layers.1.experts.gate_up"].parts[1], 2 * HIDDEN, f"{name}gate_up_proj"
    assert first == Part(tensor, start, start + HIDDEN, (tensor, start + HIDDEN), turned=True)
    assert weights["layers.1.experts.down"].parts[1] == Part(f"{name}down_proj", HIDDEN, 2 * HIDDEN)

    found[f"{name}down_proj"] = (EXPERTS, HIDDEN + 1, HIDDEN)
    with pytest.raises(CheckpointInvalid, match="down_proj is"):
        list_weights(architecture(tmp_path / "d"), found, "here")


@pytest.mark.parametrize(
    "tensor", ["experts.1.gate_proj.weight", "experts.2.up_proj.weight", "experts.0.down_proj.weight"]
)
def test_experts_of_another_shape_or_missing_are_named(tmp_path: Path, tensor: str) -> None:
    made, found = architecture(tmp_path / "c"), shapes()
    name = MLP.format(0) + tensor
    found[name] = (HIDDEN // 2 + 1, HIDDEN)
    with pytest.raises(CheckpointInvalid, match=name.replace(".", r"\.")):
        list_weights(made, found, "here")
    del found[name]
    with pytest.raises(CheckpointInvalid, match=name.replace(".", r"\.") + " is missing"):
        list_weights(made, found, "here")


# --- experts in MXFP4 ------------------------------------------------------------------------------------------------


def in_mxfp4(plain: Path, packed: Path) -> None:
    """Gives a checkpoint of GPT-OSS other experts, and writes a copy that keeps these in MXFP4, as OpenAI does."""
    rng, tensors = np.random.default_rng(1), load_file(plain / "model.safetensors")
    kept = {}
    for name, values in tensors.items():
        if not name.endswith(families.EXPERTS):
            kept[name] = values
            continue
        count, width, rows = values.shape
        parts, numbers = packings.mxfp4(rng, count * rows, width)
        tensors[name] = numbers.reshape(count, rows, width).swapaxes(1, 2).copy()
        kept[f"{name}_blocks"] = parts["weight_packed"].reshape(count, rows, width // 32, 16)
        kept[f"{name}_scales"] = parts["weight_scale"].reshape(count, rows, width // 32)
    packed.mkdir()
    for path in plain.iterdir():
        if path.suffix == ".json":
            (packed / path.name).write_bytes(path.read_bytes())
    config = json.loads((plain / "config.json").read_text(encoding="utf-8"))
    checkpoints.write_json(packed / "config.json", config | {"quantization_config": {"quant_method": "mxfp4"}})
    save_file(tensors, plain / "model.safetensors", metadata={"format": "pt"})
    save_file(kept, packed / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.slow
def test_experts_in_mxfp4_are_the_numbers_that_they_stand_for(tmp_path: Path, settings: Settings) -> None:
    case = next(case for case in families.CASES if case.name == "gpt-oss")
    plain, packed = families.make_checkpoint(case, tmp_path / "plain"), tmp_path / "packed"
    in_mxfp4(plain, packed)
    recipe = Recipe.model_validate({"precision": "fp32", "builder": "stream"})
    checkpoint = open_checkpoint(str(packed))
    assert checkpoint.quantized is not None
    assert checkpoint.quantized.form == "MXFP4 with 4 bits (mxfp4) in groups of 32"
    built = [builder.build(open_checkpoint(str(folder)), recipe, settings).folder for folder in (plain, packed)]
    one, other = ((folder / "model.onnx.data").read_bytes() for folder in built)
    assert one == other
    found = OnnxDecoder(built[1]).logits(case.prompt)
    assert families.distance(found, families.Original(plain).logits(case.prompt)) < 1e-4

    tensors = load_file(packed / "model.safetensors")
    del tensors["model.layers.1.mlp.experts.down_proj_scales"]
    save_file(tensors, packed / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointInvalid, match=r"down_proj_blocks has no model\.layers\.1\..*_scales beside it"):
        open_checkpoint(str(packed))
