"""Names of tensors under what training wrapped around a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship import builder
from edgeship.builder.weights import open_weights
from edgeship.checkpoint import open_checkpoint
from edgeship.checkpoint.tensor_names import guesses_ahead, others_than_text, usual_names
from edgeship.errors import CheckpointInvalid, UsageError
from edgeship.measure.choice.choose import Thresholds
from edgeship.preflight import Shipment, choose_reference, preflight
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from tests import checkpoints

USUAL = ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.norm.weight", "lm_head.weight")
WRAPPED = {
    "module.": "module.{}",
    "_orig_mod.": "_orig_mod.{}",
    "both": "_orig_mod.module.{}",
    "peft": "base_model.model.{}",
    "peft of a compiled one": "base_model.model._orig_mod.{}",
    "somebody's": "student.net.{}",
}


@pytest.mark.parametrize("form", WRAPPED.values(), ids=WRAPPED)
def test_what_stands_before_all_names_is_taken_off(form: str) -> None:
    found, said = usual_names([form.format(name) for name in USUAL])
    assert tuple(found.values()) == USUAL
    assert f"{form.format(USUAL[0])} is read as {USUAL[0]}" in said


@pytest.mark.parametrize(
    "names",
    [
        ("embed_tokens.weight", "layers.0.self_attn.q_proj.weight", "norm.weight", "lm_head.weight"),
        tuple(name.replace("model.", "model.language_model.") for name in USUAL),
        tuple(f"language_model.{name}" for name in USUAL),
        (USUAL[0], "model.layers.0._fsdp_wrapped_module._orig_mod.self_attn.q_proj.weight", *USUAL[2:]),
        (USUAL[0], "model.layers.0._checkpoint_wrapped_module.self_attn.q_proj.weight", *USUAL[2:]),
    ],
)
def test_names_in_other_places(names: tuple[str, ...]) -> None:
    found, said = usual_names(names)
    assert tuple(found.values()) == USUAL
    assert "is read as" in said


@pytest.mark.parametrize("names", [USUAL, ("transformer.wte.weight", "transformer.h.0.attn.c_attn.weight"), ()])
def test_usual_names_and_those_of_others_are_left_as_they_are(names: tuple[str, ...]) -> None:
    assert usual_names(names) == ({name: name for name in names}, "")


def test_what_is_beside_the_decoder_keeps_its_own_name() -> None:
    names = [*(f"module.{name}" for name in USUAL), "module.vision.patch.weight"]
    assert usual_names(names)[0]["module.vision.patch.weight"] == "vision.patch.weight"


@pytest.mark.parametrize(
    "wrapped", ["_orig_mod.{}", "module.{}", "module._orig_mod.{}", "language_model.{}", "model.language_model.{}"]
)
def test_an_adapter_fits_whatever_stood_around_its_base(wrapped: str, tiny: Path, tiny_adapter: Path) -> None:
    plain = open_weights(open_checkpoint(str(tiny), adapter=tiny_adapter))
    other = Path(shutil.copytree(tiny_adapter, tiny_adapter.parent / "other"))
    path = other / "adapter_model.safetensors"
    inner = {name.removeprefix("base_model.model."): value for name, value in load_file(path).items()}
    if wrapped.startswith("model.language_model"):
        inner = {name.removeprefix("model."): value for name, value in inner.items()}
    save_file({f"base_model.model.{wrapped.format(name)}": value for name, value in inner.items()}, path)
    found = open_weights(open_checkpoint(str(tiny), adapter=other))
    assert all(np.array_equal(plain.read(name), found.read(name)) for name in plain.sources)


def renamed(tiny: Path, form: str) -> Path:
    weights = load_file(tiny / "model.safetensors")
    named = {form.format(name): value for name, value in weights.items()}
    save_file(named, tiny / "model.safetensors", {"format": "pt"})
    return tiny


def test_a_renamed_checkpoint_says_so_and_is_not_compared_with_transformers(
    tiny: Path, settings: Settings, tmp_path: Path
) -> None:
    plain = open_checkpoint(str(tiny))
    opened = open_checkpoint(str(renamed(tiny, "_orig_mod.module.{}")))
    assert opened.tensors.keys() == plain.tensors.keys()
    assert (plain.notes, plain.renamed, opened.renamed) == ((), False, True)
    assert "is read as" in opened.notes[0]
    recipe = Recipe(precision=Precision.INT4)
    assert opened.notes[0] in builder.plan(opened, recipe, settings).notes
    assert choose_reference(opened) == "fp32"
    with pytest.raises(UsageError, match="whose names are not as it saves them"):
        preflight(Shipment(opened, "tiny", (recipe,), Thresholds(), "transformers"), settings, tmp_path)
    with pytest.raises(CheckpointInvalid, match="Olive would not find"):
        builder.plan(opened, Recipe.model_validate({"precision": "int4", "builder": "olive"}), settings)


def test_a_part_of_a_model_can_be_compared_with_the_whole(tiny: Path, settings: Settings, tmp_path: Path) -> None:
    weights = load_file(tiny / "model.safetensors")
    named = {name.replace("model.", "model.language_model."): value for name, value in weights.items()}
    save_file(named | {"visual.patches.weight": weights["model.norm.weight"]}, tiny / "model.safetensors")
    text = checkpoints.qwen2_config(model_type="qwen2_5_vl_text")
    whole = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "text_config": text}
    checkpoints.write_json(tiny / "config.json", whole)
    opened = open_checkpoint(str(tiny))
    assert (opened.renamed, opened.partial) == (True, True)
    assert choose_reference(opened) == "fp32"
    shipment = Shipment(opened, "tiny", (Recipe(precision=Precision.FP32),), Thresholds(), "transformers")
    assert preflight(shipment, settings, tmp_path)[0].reference == "transformers"


def test_two_names_of_one_weight_are_refused(tiny: Path) -> None:
    weights = load_file(tiny / "model.safetensors")
    twice = weights | {"_orig_mod.model.norm.weight": weights["model.norm.weight"]}
    save_file(twice, tiny / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointInvalid, match="two tensors are the same weight"):
        open_checkpoint(str(tiny))


def test_an_adapter_that_was_not_merged_is_named(tiny: Path) -> None:
    weights = load_file(tiny / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.lora_A.weight"] = np.zeros((4, 8), np.float32)
    save_file(weights, tiny / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointInvalid, match="hold an adapter beside the base") as caught:
        open_checkpoint(str(tiny))
    assert "merge_and_unload" in (caught.value.hint or "")


LORA = "model.layers.0.self_attn.q_proj.lora_{}.{}.weight"
SENSES = {"architectures": ["Phi4MMForCausalLM"], "model_type": "phi4mm"}


def with_lora(folder: Path, *adapters: str, **config: object) -> Path:
    """The checkpoint with adapters beside the base of one module."""
    weights = load_file(folder / "model.safetensors")
    weights = {name.replace("0.self_attn.q_proj.", "0.self_attn.q_proj.base_layer."): weights[name] for name in weights}
    weights |= {LORA.format(side, name): np.ones((4, 4), np.float32) for name in adapters for side in "AB"}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    checkpoints.write_json(folder / "config.json", checkpoints.qwen2_config(**config))
    return folder


def test_adapters_for_pictures_and_sound_are_left_out_of_a_text(tiny: Path) -> None:
    plain = open_checkpoint(str(tiny))
    opened = open_checkpoint(str(with_lora(tiny, "vision", "speech", **SENSES)))
    assert opened.tensors.keys() == plain.tensors.keys()
    assert opened.renamed
    assert "LoRA for vision (2 tensors, 0% of the weights)" in opened.notes[0]
    assert "LoRA for speech (2 tensors, " in opened.notes[0]


@pytest.mark.parametrize(
    ("adapters", "config", "named"),
    [
        (("vision", "speech"), {}, "q_proj.base_layer."),
        (("vision",), {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}, "q_proj.base_layer."),
        (("vision", "mine"), SENSES, "q_proj.lora_A.mine.weight"),
        ((), SENSES, "q_proj.base_layer."),
    ],
)
def test_other_adapters_beside_their_base_are_refused(
    tiny: Path, adapters: tuple[str, ...], config: dict[str, object], named: str
) -> None:
    with pytest.raises(CheckpointInvalid, match=f"hold an adapter beside the base: model.layers.0.self_attn.{named}"):
        open_checkpoint(str(with_lora(tiny, *adapters, **config)))


@pytest.mark.slow
@pytest.mark.parametrize("builder_name", ["stream", "genai"])
def test_the_same_model_is_built_whatever_the_names(builder_name: str, tmp_path: Path, settings: Settings) -> None:
    recipe = Recipe.model_validate({"precision": "fp32", "builder": builder_name})
    made: list[bytes] = []
    for form in ("{}", "base_model.model._orig_mod.{}"):
        folder = renamed(checkpoints.make_checkpoint(tmp_path / f"made{len(made)}"), form)
        built = builder.build(open_checkpoint(str(folder)), recipe, settings)
        made.append((built.folder / "model.onnx.data").read_bytes())
    assert made[0] == made[1]


TEXT = ["embed_tokens.weight", "layers.0.mlp.up_proj.weight", "norm.weight", "embedding_norm.weight"]


@pytest.mark.parametrize("prefix", ["model.", "model.language_model.", "language_model.model."])
def test_what_is_not_of_the_text_model_is_named_by_its_module(prefix: str) -> None:
    others = ["model.visual.blocks.0.weight", "model.visual.norm.weight", "mtp.layers.0.norm.weight", "mtp.fc.weight"]
    names = [*(f"{prefix}{name}" for name in TEXT), "lm_head.weight", *others]

    assert others_than_text(names) == {"visual": others[:2], "mtp": others[2:]}


def test_layers_between_the_texts_are_named_by_their_numbers() -> None:
    layers = [f"language_model.model.layers.{number}.cross_attn.q_proj.weight" for number in (13, 3)]
    names = [*(f"language_model.model.{name}" for name in TEXT), "language_model.model.layers.1.norm.weight", *layers]
    assert others_than_text(names, {13, 3}) == {"cross-attention layers 3, 13": layers}


def test_layers_that_guess_ahead_are_known_by_their_name() -> None:
    assert guesses_ahead(["model.norm.weight", "mtp.fc.weight"])
    assert not guesses_ahead(["model.norm.weight", "model.layers.0.mtp.weight"])
