"""Adapters that were trained on a mixture's experts, in every form that people have, on bases of every form."""

from __future__ import annotations

import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from edgeship.builder import weights
from edgeship.checkpoint import open_checkpoint
from edgeship.errors import AdapterInvalid
from tests import checkpoints, families
from tests.builder import test_mixture
from tests.onnx_decoder import OnnxDecoder

Floats = npt.NDArray[np.float32]
Tensors = dict[str, Floats]
HIDDEN, COUNT, RANK, ALPHA = checkpoints.HIDDEN, test_mixture.EXPERTS, 4, 8
INNER = 24
LAYER = "model.layers.1.mlp."
MODULE = f"base_model.model.{LAYER}experts"
ROLES = {"gate": (INNER, HIDDEN), "up": (INNER, HIDDEN), "down": (HIDDEN, INNER)}
"""Outputs and inputs of each matrix of an expert."""


def base(folder: Path, form: str = "apart", inner: int = INNER) -> Tensors:
    """Writes a checkpoint, its experts "apart", "together" or so but stored [in, out]; returns its tensors."""
    test_mixture.make(folder)
    tensors: Tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if ".experts." in name]:  # they are half as wide as the model
        tensors[name] = (tensors[name][:, :inner] if "down_proj" in name else tensors[name][:inner]).copy()
    if form != "apart":
        for layer in range(checkpoints.LAYERS):
            name = test_mixture.MLP.format(layer)
            gates, ups, downs = (
                np.stack([tensors.pop(f"{name}experts.{expert}.{role}_proj.weight") for expert in range(COUNT)])
                for role in ROLES
            )
            stacks = {"gate_up": np.concatenate([gates, ups], axis=1), "down": downs}
            for role, stack in stacks.items():
                stored = stack.swapaxes(1, 2) if form == "turned" else stack
                tensors[f"{name}experts.{role}_proj"] = stored.copy()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


def factors(*, swapped: bool = False, inner: int = INNER) -> Tensors:
    """Of parameters, as peft stores them: rank rows of each expert in A, a column of each in turn in B."""
    rng, found = np.random.default_rng(5), {}
    for wrapper, (outputs, inputs) in (("experts.base_layer", (2 * inner, HIDDEN)), ("experts", (HIDDEN, inner))):
        of_a, of_b = (outputs, inputs) if swapped else (inputs, outputs)
        found[f"base_model.model.{LAYER}{wrapper}.lora_A.weight"] = rng.normal(0, 0.2, (COUNT * RANK, of_a))
        found[f"base_model.model.{LAYER}{wrapper}.lora_B.weight"] = rng.normal(0, 0.2, (of_b, RANK * COUNT))
    return {name: values.astype(np.float32) for name, values in found.items()}


def write_adapter(folder: Path, tensors: Tensors, **config: Any) -> Path:
    checkpoints.make_adapter(folder, rank=RANK, alpha=ALPHA, **{"target_modules": [], **config})
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def of_parameters(folder: Path, *, swapped: bool = False, **config: Any) -> tuple[Path, list[Tensors]]:
    """An adapter on both parameters of a layer's experts, and what it adds to each expert's matrices."""
    tensors = factors(swapped=swapped)
    names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    write_adapter(folder, tensors, **{"target_parameters": names, "peft_version": "0.21.2", **config})
    sums = []
    for wrapper in (".base_layer", ""):
        a, b = (tensors[f"{MODULE}{wrapper}.lora_{side}.weight"] for side in "AB")
        order = "o r e, e r i -> e i o" if swapped else "o r e, e r i -> e o i"
        sums.append(np.einsum(order, b.reshape(-1, RANK, COUNT), a.reshape(COUNT, RANK, -1)) * (ALPHA / RANK))
    sides, downs = sums
    return folder, [
        {"gate": side[:INNER], "up": side[INNER:], "down": down} for side, down in zip(sides, downs, strict=True)
    ]


def of_modules(folder: Path, **config: Any) -> tuple[Path, list[Tensors]]:
    """One on the matrices of two experts, as modules."""
    rng, tensors = np.random.default_rng(6), {}
    added = [{role: np.zeros(shape, np.float32) for role, shape in ROLES.items()} for _ in range(COUNT)]
    for expert in (0, 2):
        for role, (outputs, inputs) in ROLES.items():
            a, b = (rng.normal(0, 0.2, shape).astype(np.float32) for shape in ((RANK, inputs), (outputs, RANK)))
            tensors[f"{MODULE}.{expert}.{role}_proj.lora_A.weight"] = a
            tensors[f"{MODULE}.{expert}.{role}_proj.lora_B.weight"] = b
            added[expert][role] = b @ a * (ALPHA / RANK)
    targets = ["gate_proj", "up_proj", "down_proj"]
    return write_adapter(folder, tensors, **{"target_modules": targets, **config}), added


def of_lists(folder: Path) -> tuple[Path, list[Tensors]]:
    """One on modules that hold an expert's gate and what goes up."""
    rng = np.random.default_rng(7)
    a, b = (rng.normal(0, 0.2, shape).astype(np.float32) for shape in ((RANK, HIDDEN), (2 * INNER, RANK)))
    tensors = {f"{MODULE}.gate_up_projs.1.lora_A.weight": a, f"{MODULE}.gate_up_projs.1.lora_B.weight": b}
    added = [{role: np.zeros(shape, np.float32) for role, shape in ROLES.items()} for _ in range(COUNT)]
    added[1] |= {"gate": (b @ a)[:INNER] * (ALPHA / RANK), "up": (b @ a)[INNER:] * (ALPHA / RANK)}
    return write_adapter(folder, tensors, target_modules=["1"]), added


def opened(folder: Path, adapter: Path) -> weights.Weights:
    return weights.open_weights(open_checkpoint(str(folder), adapter=adapter))


def outputs_of(found: weights.Weights, form: str, expert: int, role: str, start: int, stop: int) -> Floats:
    """Rows of one matrix as the builder reads them."""
    if form == "apart":
        return found.stacked(f"{LAYER}experts.{expert}.{role}_proj.weight", start, stop)
    tensor = f"{LAYER}experts.{'down' if role == 'down' else 'gate_up'}_proj"
    top = expert * (HIDDEN if role == "down" else 2 * INNER) + (INNER if role == "up" else 0)
    return (found.columns if form == "turned" else found.stacked)(tensor, top + start, top + stop)


MAKERS = {
    "parameters": of_parameters,
    "older": lambda folder: of_parameters(folder, swapped=True, peft_version="0.18.1"),
    "modules": of_modules,
    "lists": of_lists,
}


@pytest.mark.parametrize("form", ["apart", "together", "turned"])
@pytest.mark.parametrize("maker", MAKERS)
def test_every_adapter_fits_every_base(tmp_path: Path, form: str, maker: str) -> None:
    stored = base(tmp_path / "apart")
    if form != "apart":
        base(tmp_path / form, form)
    adapter, added = MAKERS[maker](tmp_path / "adapter")
    found = opened(tmp_path / form, adapter)
    for expert in range(COUNT):
        for role, (rows, _) in ROLES.items():
            expected = stored[f"{LAYER}experts.{expert}.{role}_proj.weight"] + added[expert][role]
            for start, stop in ((0, rows), (3, rows - 2)):
                values = outputs_of(found, form, expert, role, start, stop)
                assert np.abs(values - expected[start:stop]).max() < 1e-6
    elsewhere = f"{test_mixture.MLP.format(0)}experts." + ("1.up_proj.weight" if form == "apart" else "down_proj")
    assert not found.sources[elsewhere].changed


@pytest.mark.parametrize("form", ["together", "turned"])
def test_whole_tensors_are_merged_as_they_are_stored(tmp_path: Path, form: str) -> None:
    stored = base(tmp_path / "base", form)
    adapter, added = of_parameters(tmp_path / "adapter")
    (tmp_path / "merged").mkdir()
    weights.merge(open_checkpoint(str(tmp_path / "base"), adapter=adapter), tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    for role in ("gate_up", "down"):
        name = f"{LAYER}experts.{role}_proj"
        parts = ("gate", "up") if role == "gate_up" else ("down",)
        expected = np.stack([np.concatenate([each[part] for part in parts]) for each in added])
        expected = expected.swapaxes(1, 2) if form == "turned" else expected
        assert np.abs(merged[name] - stored[name] - expected).max() < 1e-6
    assert {name for name in stored if not np.array_equal(stored[name], merged[name])} == {
        f"{LAYER}experts.{role}_proj" for role in ("gate_up", "down")
    }


@pytest.mark.parametrize("role", ["gate_up", "down"])
def test_one_of_the_parameters_is_the_one_that_the_config_names(tmp_path: Path, role: str) -> None:
    base(tmp_path / "base")
    both = factors()
    wrapper = ".base_layer" if role == "gate_up" else ""
    one = {f"{MODULE}.lora_{side}.weight": both[f"{MODULE}{wrapper}.lora_{side}.weight"] for side in "AB"}
    names = {"target_parameters": [f"{role}_proj"], "peft_version": "0.21.2"}
    checkpoint = open_checkpoint(str(tmp_path / "base"), adapter=write_adapter(tmp_path / "adapter", one, **names))
    assert checkpoint.adapter is not None
    assert checkpoint.adapter.targets == (f"{role}_proj",)
    changed = {name for name, source in weights.open_weights(checkpoint).sources.items() if source.changed}
    parts = ("gate", "up") if role == "gate_up" else ("down",)
    assert changed == {f"{LAYER}experts.{expert}.{part}_proj.weight" for expert in range(COUNT) for part in parts}


def test_parameters_that_the_config_names_and_the_adapter_lacks_are_noted(tmp_path: Path) -> None:
    base(tmp_path / "base")
    names = ["layers.1.mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    adapter, _ = of_parameters(tmp_path / "adapter", target_parameters=[*names, "gate.weight"])
    notes = [note for note in open_checkpoint(str(tmp_path / "base"), adapter=adapter).notes if "lacks" in note]
    said = "target_parameters in adapter_config.json asks for gate.weight, which the adapter lacks: the base's is taken"
    assert notes == [said]


def test_patterns_and_rslora_count_for_parameters(tmp_path: Path) -> None:
    stored = base(tmp_path / "base")
    adapter, added = of_parameters(
        tmp_path / "adapter", r=2, rank_pattern={r".*\.gate_up_proj": RANK, "down_proj": RANK}, use_rslora=True,
        alpha_pattern={r"layers\.1\.mlp\.experts\.down_proj": 3},
    )  # fmt: skip
    found = opened(tmp_path / "base", adapter)
    for role, alpha in (("up", ALPHA), ("down", 3)):
        name = f"{LAYER}experts.2.{role}_proj.weight"
        expected = added[2][role] / (ALPHA / RANK) * alpha / RANK**0.5
        assert np.abs(found.read(name) - stored[name] - expected).max() < 1e-6


def test_a_router_is_trained_as_a_parameter_or_saved(tmp_path: Path) -> None:
    stored = base(tmp_path / "base")
    rng, name = np.random.default_rng(8), f"base_model.model.{LAYER}gate"
    a, b = (rng.normal(0, 0.2, shape).astype(np.float32) for shape in ((RANK, HIDDEN), (COUNT, RANK)))
    pair = {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    adapter = write_adapter(tmp_path / "one", pair, target_parameters=["gate.weight"])
    sum_ = stored[f"{LAYER}gate.weight"] + b @ a * (ALPHA / RANK)
    assert np.abs(opened(tmp_path / "base", adapter).read(f"{LAYER}gate.weight") - sum_).max() < 1e-6

    new = {f"{test_mixture.MLP.format(layer)}gate.weight": sum_ + layer for layer in range(checkpoints.LAYERS)}
    saved = {**factors(), **{f"base_model.model.{tensor}": values for tensor, values in new.items()}}
    names = {"target_parameters": ["gate_up_proj", "down_proj"], "modules_to_save": ["gate"]}
    found = opened(tmp_path / "base", write_adapter(tmp_path / "other", saved, **names))
    assert all(np.array_equal(found.read(tensor), values) for tensor, values in new.items())


@pytest.mark.parametrize("form", ["together", "turned"])
def test_rows_of_one_expert_are_all_that_is_held(tmp_path: Path, form: str) -> None:
    base(tmp_path / "base", form)
    found = opened(tmp_path / "base", of_parameters(tmp_path / "adapter")[0])
    outputs_of(found, form, 0, "up", 0, 4)
    tracemalloc.start()
    outputs_of(found, form, 1, "up", 0, 4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < COUNT * 2 * INNER * HIDDEN * 4 // 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, r"names gate_up_proj of .*experts.*it holds 2"),
        ({"target_parameters": ["layers.0.mlp.experts.gate_up_proj"]}, r"names none of .*experts.*it holds 2"),
        ({"r": 3}, r"base_layer\.lora_A\.weight is \[12, 64\], but .*gate_up_proj the rank 3, times 3 experts"),
        ({"use_dora": True}, r"as DoRA on .*experts\.\w+_proj, which the base does not"),
    ],
)
def test_parameters_that_are_not_as_the_config_says(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    base(tmp_path / "base")
    adapter, _ = of_parameters(tmp_path / "adapter", **config)
    with pytest.raises(AdapterInvalid, match=said):
        open_checkpoint(str(tmp_path / "base"), adapter=adapter)


def test_experts_of_another_base_are_told_by_their_shapes(tmp_path: Path) -> None:
    base(tmp_path / "base")
    tensors = factors()
    tensors[f"{MODULE}.lora_A.weight"] = np.ones((COUNT * RANK, INNER + 1), np.float32)
    adapter = write_adapter(tmp_path / "adapter", tensors, target_parameters=["gate_up_proj", "down_proj"])
    with pytest.raises(AdapterInvalid, match=r"make \[64, 25\] of each expert, whose down is \[64, 24\]"):
        open_checkpoint(str(tmp_path / "base"), adapter=adapter)
    beyond = {name.replace("experts.2", f"experts.{COUNT}"): value for name, value in load_file(
        of_modules(tmp_path / "modules")[0] / "adapter_model.safetensors").items()}  # fmt: skip
    adapter = write_adapter(tmp_path / "modules", beyond, target_modules=["gate_proj", "up_proj", "down_proj"])
    with pytest.raises(AdapterInvalid, match=rf"experts\.{COUNT}\.\w+, and this one has {COUNT} experts"):
        open_checkpoint(str(tmp_path / "base"), adapter=adapter)


@pytest.mark.parametrize("number", ["02", "1" * 10, "1" * 5000, "\u0662"])
def test_an_expert_has_one_number(tmp_path: Path, number: str) -> None:
    base(tmp_path / "base")
    tensors = load_file(of_modules(tmp_path / "modules")[0] / "adapter_model.safetensors")
    other = {name.replace("experts.2", f"experts.{number}"): values for name, values in tensors.items()}
    targets = ["gate_proj", "up_proj", "down_proj"]
    adapter = write_adapter(tmp_path / "other", tensors | other, target_modules=targets)
    with pytest.raises(AdapterInvalid, match=rf"it changes .*experts\.{number[:9]}"):
        open_checkpoint(str(tmp_path / "base"), adapter=adapter)


@pytest.mark.parametrize("deeper", [True, False])
def test_parameters_that_are_nested_with_a_gap(tmp_path: Path, deeper: bool) -> None:
    base(tmp_path / "base")
    inner = f"{MODULE}.base_layer"
    tensors = factors()
    if deeper:
        tensors = {name.replace(inner, f"{inner}.base_layer"): values for name, values in tensors.items()}
    else:
        tensors = {name: values for name, values in tensors.items() if name.startswith(inner)}
    names = ["gate_up_proj", "down_proj"][: 2 if deeper else 1]
    adapter = write_adapter(tmp_path / "adapter", tensors, target_parameters=names, peft_version="0.21.2")
    lacking = re.escape(f"and not {inner if deeper else MODULE}.lora_A.weight")
    with pytest.raises(AdapterInvalid, match=lacking):
        open_checkpoint(str(tmp_path / "base"), adapter=adapter)


def test_the_version_of_peft_tells_how_square_factors_lie(tmp_path: Path) -> None:
    stored = base(tmp_path / "base", "together", inner=HIDDEN // 2)
    name = f"{LAYER}experts.gate_up_proj"
    found = factors(inner=HIDDEN // 2)
    a, b = (found[f"{MODULE}.base_layer.lora_{side}.weight"] for side in "AB")
    pair = {f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b}
    added = np.einsum("o r e, e r i -> e o i", b.reshape(-1, RANK, COUNT), a.reshape(COUNT, RANK, -1)) * (ALPHA / RANK)
    for version, expected in (("0.21.2", added), ("0.19.1", added), ("0.18.1", added.swapaxes(1, 2))):
        names = {"target_parameters": ["gate_up_proj"], "peft_version": version}
        adapter = write_adapter(tmp_path / version, pair, **names)
        assert np.abs(opened(tmp_path / "base", adapter).read(name) - stored[name] - expected).max() < 1e-6
    names = {"target_parameters": ["gate_up_proj"], "peft_version": "0.19.0"}
    with pytest.raises(AdapterInvalid, match=r"PEFT 0\.19\.0 saved it, and .*gate_up_proj is square"):
        open_checkpoint(str(tmp_path / "base"), adapter=write_adapter(tmp_path / "adapter", pair, **names))


def test_dora_on_one_expert_is_merged_where_it_is_stored_by_itself(tmp_path: Path) -> None:
    stored, _ = base(tmp_path / "apart"), base(tmp_path / "together", "together")
    folder, added = of_modules(tmp_path / "adapter", use_dora=True)
    tensors = load_file(folder / "adapter_model.safetensors")
    for expert in (0, 2):
        for role, (outputs, _) in ROLES.items():
            tensors[f"{MODULE}.{expert}.{role}_proj.lora_magnitude_vector"] = np.full(outputs, 2, np.float32)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    name = f"{LAYER}experts.2.up_proj.weight"
    expected = stored[name] + added[2]["up"]
    expected *= 2 / np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(opened(tmp_path / "apart", folder).read(name) - expected).max() < 1e-6
    with pytest.raises(AdapterInvalid, match=r"as DoRA on .*experts\.0\.\w+_proj.weight, which the base") as caught:
        open_checkpoint(str(tmp_path / "together"), adapter=folder)
    assert "merge_and_unload" in (caught.value.hint or "")


# --- as peft does ----------------------------------------------------------------------------------------------------


def case_named(name: str) -> families.Case:
    return next(case for case in families.CASES if case.name == name)


def adapted(made: families.Made, adapter: Path) -> Floats:
    """Logits after the prompt of our FP32 build."""
    return OnnxDecoder(made.built(adapter, precision="fp32")).logits(made.case.prompt)


@pytest.mark.slow
def test_modules_that_peft_makes_parameters_of(tmp_path: Path) -> None:
    """What people have named for years, and what an INT4 build makes of it."""
    import peft
    import torch

    made = families.make(case_named("qwen3-moe"), tmp_path)
    original = families.Original(made.folder)
    torch.manual_seed(0)
    targets = ["q_proj", "gate_proj", "up_proj", "down_proj"]
    config = peft.LoraConfig(r=3, target_modules=targets, init_lora_weights=False)
    plain = original.logits(made.case.prompt)
    trained = peft.get_peft_model(original.model, config)
    trained.save_pretrained(tmp_path / "adapter")
    stated = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert set(stated["target_parameters"]) == {"gate_up_proj", "down_proj"}
    expected = original.logits(made.case.prompt)
    assert families.distance(plain, expected) > 0.05
    assert families.distance(adapted(made, tmp_path / "adapter"), expected) < 1e-5

    rounded = OnnxDecoder(made.built(tmp_path / "adapter", precision="int4", block_size=32)).logits(made.case.prompt)
    assert families.distance(rounded, expected) < families.distance(rounded, plain)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "roles"), [("qwen3-moe", ROLES), ("mixtral", {"w1": 0, "w3": 0, "w2": 0})])
def test_modules_of_each_expert_as_peft_reads_them(tmp_path: Path, name: str, roles: dict[str, Any]) -> None:
    """An adapter of earlier versions, which peft turns into parameters when it reads it."""
    import peft

    made = families.make(case_named(name), tmp_path)
    stored = open_checkpoint(str(made.folder)).tensors
    rng, tensors = np.random.default_rng(3), {}
    ends = tuple(f".{role}.weight" for role in (*roles, *(f"{role}_proj" for role in roles)))
    for tensor in (name for name in stored if ".experts." in name and name.endswith(ends)):
        outputs, inputs = stored[tensor].shape
        for side, shape in (("A", (RANK, inputs)), ("B", (outputs, RANK))):
            key = f"base_model.model.{tensor.removesuffix('.weight')}.lora_{side}.weight"
            tensors[key] = rng.normal(0, 0.3, shape).astype(np.float32)
    assert tensors
    targets = [role if role.startswith("w") else f"{role}_proj" for role in roles]
    adapter = write_adapter(tmp_path / "adapter", tensors, target_modules=targets)
    original = families.Original(made.folder)
    plain = original.logits(made.case.prompt)
    peft.PeftModel.from_pretrained(original.model, adapter)
    expected = original.logits(made.case.prompt)
    assert families.distance(plain, expected) > 0.05
    assert families.distance(adapted(made, adapter), expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt-oss-tied", "gpt-oss", "lfm2-moe", "granite4-moe", "qwen3-moe"])
def test_experts_are_merged_in_other_storage_as_well(tmp_path: Path, name: str) -> None:
    """GPT-OSS's in MXFP4, of which one case has square matrices; others together where they were apart."""
    made = families.make(case_named(name), tmp_path)
    other = tmp_path / "other"
    if name.startswith("gpt-oss") and made.case.fields["intermediate_size"] % 32 == 0:
        test_mixture.in_mxfp4(made.folder, other)
    elif not together(made.folder, other):
        other = made.folder
    original = families.train_adapter(made.case, made.folder, tmp_path / "adapter")
    expected = original.logits(made.case.prompt)
    assert families.distance(families.Original(made.folder).logits(made.case.prompt), expected) > 0.05
    assert families.distance(adapted(replace(made, folder=other), tmp_path / "adapter"), expected) < 1e-5


def together(plain: Path, folder: Path) -> bool:
    """Writes a copy whose experts are in two tensors for each layer; whether they were apart."""
    tensors = load_file(plain / "model.safetensors")
    names = next((names for names in (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))
                  if any(f".experts.0.{names[0]}." in name for name in tensors)), None)  # fmt: skip
    if names is None:
        return False
    folder.mkdir()
    for path in plain.iterdir():
        if path.suffix == ".json":
            (folder / path.name).write_bytes(path.read_bytes())
    for first in [name for name in tensors if name.endswith(f".experts.0.{names[0]}.weight")]:
        module = first.removesuffix(f".0.{names[0]}.weight")
        count = sum(name.startswith(f"{module}.") for name in tensors) // 3
        gates, ups, downs = (
            np.stack([tensors.pop(f"{module}.{expert}.{name}.weight") for expert in range(count)]) for name in names
        )
        tensors[f"{module}.gate_up_proj"] = np.concatenate([gates, ups], axis=1)
        tensors[f"{module}.down_proj"] = downs
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return True
