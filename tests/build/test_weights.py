"""Merging LoRA: arithmetic, layout on disk, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship.build import weights
from edgeship.checkpoint import open_checkpoint
from edgeship.checkpoint.adapter import open_adapter
from edgeship.errors import AdapterInvalid
from tests import checkpoints

Tensors = dict[str, np.ndarray[Any, Any]]
MODULE = "model.layers.0.self_attn.q_proj"


def merged(tmp_path: Path, base: Path, adapter: Path) -> Tensors:
    out = tmp_path / "merged"
    out.mkdir()
    weights.merge(open_checkpoint(str(base), adapter=adapter), out)
    result: Tensors = load_file(out / "model.safetensors")
    return result


def lora(adapter: Path, module: str = MODULE) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    tensors = load_file(adapter / "adapter_model.safetensors")
    prefix = f"base_model.model.{module}"
    return tensors[f"{prefix}.lora_A.weight"], tensors[f"{prefix}.lora_B.weight"]


def change_config(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    checkpoints.write_json(path, json.loads(path.read_text()) | changes)


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, 8 / 4),
        ({"use_rslora": True}, 8 / 2),
        ({"alpha_pattern": {"q_proj": 2}}, 2 / 4),
        ({"alpha_pattern": {r"layers\.1\.self_attn\.q_proj": 2}}, 8 / 4),
        ({"alpha_pattern": {"proj": 2}}, 8 / 4),
        ({"alpha_pattern": {"self_attn.*": 2, "q_proj": 3}}, 2 / 4),
    ],
)
def test_the_sum_is_base_plus_scaled_product(
    tmp_path: Path, tiny: Path, tiny_adapter: Path, changes: dict[str, Any], scale: float
) -> None:
    change_config(tiny_adapter, **changes)
    result = merged(tmp_path, tiny, tiny_adapter)
    base = load_file(tiny / "model.safetensors")
    a, b = lora(tiny_adapter)
    expected = base[f"{MODULE}.weight"].astype(np.float64) + scale * (b.astype(np.float64) @ a)
    assert np.abs(result[f"{MODULE}.weight"] - expected).max() < 1e-6
    changed = {name for name in base if not np.array_equal(base[name], result[name])}
    assert changed == {
        f"model.layers.{layer}.{module}.weight"
        for layer in range(2)
        for module in ("self_attn.q_proj", "mlp.down_proj")
    }
    assert list(result) == list(base)


def test_a_rank_of_its_own_changes_the_scale(tmp_path: Path, tiny: Path, tiny_adapter: Path) -> None:
    path = tiny_adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    prefix = f"base_model.model.{MODULE}"
    tensors[f"{prefix}.lora_A.weight"] = tensors[f"{prefix}.lora_A.weight"][:2].copy()
    tensors[f"{prefix}.lora_B.weight"] = tensors[f"{prefix}.lora_B.weight"][:, :2].copy()
    save_file(tensors, path)
    change_config(tiny_adapter, rank_pattern={r"layers\.0\.self_attn\.q_proj": 2})
    result = merged(tmp_path, tiny, tiny_adapter)
    base = load_file(tiny / "model.safetensors")[f"{MODULE}.weight"]
    a, b = lora(tiny_adapter)
    assert np.abs(result[f"{MODULE}.weight"] - (base + 8 / 2 * (b @ a))).max() < 1e-6


def test_a_rank_that_config_and_weights_disagree_on_is_named(tmp_path: Path, tiny: Path, tiny_adapter: Path) -> None:
    change_config(tiny_adapter, rank_pattern={"down_proj": 2})
    with pytest.raises(AdapterInvalid, match=r"mlp\.down_proj.*rank 2"):
        merged(tmp_path, tiny, tiny_adapter)


def test_layers_that_store_in_out_are_transposed(tmp_path: Path, tiny: Path, tiny_adapter: Path) -> None:
    change_config(tiny_adapter, fan_in_fan_out=True)
    path = tiny_adapter / "adapter_model.safetensors"
    tensors = {name: value for name, value in load_file(path).items() if "q_proj" in name}
    save_file(tensors, path)
    result = merged(tmp_path, tiny, tiny_adapter)
    base = load_file(tiny / "model.safetensors")[f"{MODULE}.weight"]
    a, b = lora(tiny_adapter)
    assert np.abs(result[f"{MODULE}.weight"] - (base + 2 * (b @ a).T)).max() < 1e-6


@pytest.mark.parametrize("kind", ["BF16", "F16"])
def test_narrow_bases_are_widened_exactly(tmp_path: Path, tiny: Path, tiny_adapter: Path, kind: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    narrow = {"BF16": ml_dtypes.bfloat16, "F16": np.float16}[kind]
    path = tiny / "model.safetensors"
    stored = {name: value.astype(narrow) for name, value in load_file(path).items()}
    save_file(stored, path)
    result = merged(tmp_path, tiny, tiny_adapter)
    name = "model.layers.0.mlp.up_proj.weight"
    assert result[name].dtype == np.float32
    assert np.array_equal(result[name], stored[name].astype(np.float32))
    a, b = lora(tiny_adapter)
    expected = stored[f"{MODULE}.weight"].astype(np.float32) + 2 * (b @ a)
    assert np.abs(result[f"{MODULE}.weight"] - expected).max() < 1e-6


def test_the_result_is_a_whole_checkpoint_in_float32(tmp_path: Path, tiny: Path, tiny_adapter: Path) -> None:
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(dtype="bfloat16", torch_dtype="bfloat16"))
    merged(tmp_path, tiny, tiny_adapter)
    config = json.loads((tmp_path / "merged/config.json").read_text())
    assert config["dtype"] == "float32"
    assert "torch_dtype" not in config
    assert open_checkpoint(str(tmp_path / "merged")).dtype == "float32"
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (tiny / name).read_bytes()


def test_shards_become_one_file(tmp_path: Path, tiny: Path, tiny_adapter: Path) -> None:
    tensors = load_file(tiny / "model.safetensors")
    (tiny / "model.safetensors").unlink()
    names = list(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, tiny / shard)
    where = {name: shard for shard, held in shards.items() for name in held}
    checkpoints.write_json(tiny / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})
    assert set(merged(tmp_path, tiny, tiny_adapter)) == set(tensors)
    assert not (tmp_path / "merged/model.safetensors.index.json").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "'pissa'"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"target_parameters": ["x"]}, "target_parameters"),
    ],
)
def test_more_than_plain_lora_is_refused_by_name(tiny_adapter: Path, changes: dict[str, Any], named: str) -> None:
    change_config(tiny_adapter, **changes)
    with pytest.raises(AdapterInvalid, match=named) as caught:
        weights.check_mergeable(open_adapter(tiny_adapter))
    assert "merge_and_unload" in str(caught.value.hint)


def test_tensors_that_are_no_lora_matrices_are_refused_by_name(tiny_adapter: Path) -> None:
    path = tiny_adapter / "adapter_model.safetensors"
    extra = {f"base_model.model.{MODULE}.lora_magnitude_vector": np.ones(64, np.float32)}
    save_file(load_file(path) | extra, path)
    with pytest.raises(AdapterInvalid, match="lora_magnitude_vector"):
        weights.check_mergeable(open_adapter(tiny_adapter))


def test_an_embedding_is_refused_by_name(tiny_adapter: Path) -> None:
    path = tiny_adapter / "adapter_model.safetensors"
    prefix = "base_model.model.model.embed_tokens.lora_embedding_"
    extra = {f"{prefix}A": np.ones((4, 384), np.float32), f"{prefix}B": np.ones((64, 4), np.float32)}
    save_file(load_file(path) | extra, path)
    with pytest.raises(AdapterInvalid, match=r"model\.embed_tokens is an embedding"):
        weights.check_mergeable(open_adapter(tiny_adapter))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"use_rslora": True}, {"alpha_pattern": {"down_proj": 3}}])
def test_the_result_is_what_peft_merges_and_runs(
    tmp_path: Path, tiny: Path, tiny_adapter: Path, changes: dict[str, Any]
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    change_config(tiny_adapter, **changes)
    ours = merged(tmp_path, tiny, tiny_adapter)
    tokens = torch.arange(20)[None]
    unmerged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32), tiny_adapter)
    with torch.no_grad():
        expected = unmerged(tokens).logits
        theirs = unmerged.merge_and_unload().state_dict()
        got = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(tokens).logits
    for name, value in ours.items():
        assert np.abs(theirs[name].numpy() - value).max() < 1e-6, name
    assert (expected - got).abs().max() < 1e-4
