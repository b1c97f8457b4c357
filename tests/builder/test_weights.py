"""Weights with an adapter merged: arithmetic, chunks, ties, the merged checkpoint on disk, and what is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from edgeship.builder import weights
from edgeship.checkpoint import open_checkpoint
from edgeship.checkpoint.adapter import open_adapter
from edgeship.errors import AdapterInvalid, CheckpointInvalid, PickleRefused, WeightsDamaged
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


def test_the_merged_checkpoint_is_written_in_chunks(
    tmp_path: Path, tiny: Path, tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = merged(tmp_path, tiny, tiny_adapter)
    monkeypatch.setattr(weights, "_CHUNK_ELEMENTS", 1000)
    (tmp_path / "again").mkdir()
    in_chunks = merged(tmp_path / "again", tiny, tiny_adapter)
    for name, value in at_once.items():
        np.testing.assert_allclose(in_chunks[name], value, rtol=0, atol=1e-6)


def test_integers_are_copied_as_they_are(tmp_path: Path, tiny: Path, tiny_adapter: Path) -> None:
    path = tiny / "model.safetensors"
    position = np.arange(5)
    save_file(load_file(path) | {"model.position_ids": position}, path)
    result = merged(tmp_path, tiny, tiny_adapter)
    assert result["model.position_ids"].dtype == np.int64
    np.testing.assert_array_equal(result["model.position_ids"], position)


# --- read by rows ---------------------------------------------------------------------------------------------------

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
HIDDEN, VOCAB = checkpoints.HIDDEN, checkpoints.VOCAB


def opened(base: Path, adapter: Path | None = None) -> weights.Weights:
    return weights.open_weights(open_checkpoint(str(base), adapter=adapter))


def extend(adapter: Path, tensors: Tensors, **config: Any) -> Path:
    """Adds tensors, named by what follows "base_model.model.", to an adapter."""
    path = adapter / "adapter_model.safetensors"
    save_file(load_file(path) | {f"base_model.model.{name}": value for name, value in tensors.items()}, path)
    change_config(adapter, **config)
    return adapter


def random(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(len(shape) + shape[0]).normal(0, 0.1, shape).astype(np.float32)


def untie(base: Path) -> Path:
    path = base / "model.safetensors"
    save_file(load_file(path) | {HEAD: random(VOCAB, HIDDEN)}, path)
    checkpoints.write_json(base / "config.json", checkpoints.qwen2_config(tie_word_embeddings=False))
    return base


def test_without_an_adapter_the_weights_are_those_stored(tiny: Path) -> None:
    read = opened(tiny)
    stored = load_file(tiny / "model.safetensors")
    assert read.shapes == {name: value.shape for name, value in stored.items()}
    assert read.tied
    for name, value in stored.items():
        np.testing.assert_array_equal(read.read(name), value)
    np.testing.assert_array_equal(read.rows(f"{MODULE}.bias", 3, 9), stored[f"{MODULE}.bias"][3:9])
    assert not opened(untie(tiny)).tied


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 64), st.integers(0, 64))
def test_any_rows_are_those_of_the_whole(tiny: Path, tiny_adapter: Path, one: int, other: int) -> None:
    read = opened(tiny, tiny_adapter)
    start, stop = sorted((one, other))
    whole = read.read(f"{MODULE}.weight")
    rows = read.rows(f"{MODULE}.weight", start, stop)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, whole[start:stop], rtol=0, atol=1e-6)


def test_threads_read_the_same(tiny: Path, tiny_adapter: Path) -> None:
    read = opened(tiny, tiny_adapter)
    names = [name for name in read.shapes for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read.read, names))
    for name, value in zip(names, found, strict=True):
        np.testing.assert_array_equal(value, read.read(name))


@pytest.mark.parametrize("of_adapter", [False, True])
def test_a_bad_number_is_named_when_it_is_read(tiny: Path, tiny_adapter: Path, of_adapter: bool) -> None:
    path = tiny_adapter / "adapter_model.safetensors" if of_adapter else tiny / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if f"{MODULE}.{'lora_B.' if of_adapter else ''}weight" in name)
    tensors[name][9, 0] = np.nan
    save_file(tensors, path)
    read = opened(tiny, tiny_adapter)
    assert np.isfinite(read.rows(f"{MODULE}.weight", 0, 9)).all()
    with pytest.raises(WeightsDamaged, match=rf"tensor {name} holds nan at element"):
        read.rows(f"{MODULE}.weight", 9, 10)


def test_a_sum_that_is_no_number_is_refused_by_name(tiny: Path, tiny_adapter: Path) -> None:
    """Each matrix is finite and within bounds; their product is not."""
    path = tiny_adapter / "adapter_model.safetensors"
    tensors = {name: np.full_like(array, 1e5) for name, array in load_file(path).items()}
    save_file(tensors, path)
    change_config(tiny_adapter, lora_alpha=1e38)
    opened = weights.open_weights(open_checkpoint(str(tiny), adapter=tiny_adapter))
    with pytest.raises(AdapterInvalid, match=rf"{MODULE}\.weight holds inf in size: no trained weight") as caught:
        opened.read(f"{MODULE}.weight")
    assert caught.value.where == str(path)
    assert "alpha" in (caught.value.hint or "")


def test_a_sum_that_no_trained_weight_can_be_is_refused_by_name(tiny: Path, tiny_adapter: Path) -> None:
    change_config(tiny_adapter, lora_alpha=1e30)
    opened = weights.open_weights(open_checkpoint(str(tiny), adapter=tiny_adapter))
    with pytest.raises(AdapterInvalid, match=rf"whose scale is 2.5e\+29, {MODULE}\.weight holds [0-9.]+e\+28 in size"):
        opened.read(f"{MODULE}.weight")


def test_pickles_are_refused(tiny: Path) -> None:
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with pytest.raises(PickleRefused):
        weights.open_weights(open_checkpoint(str(tiny), allow_pickle=True))


# --- more than plain LoRA -------------------------------------------------------------------------------------------


def test_dora_brings_every_output_to_the_trained_length(tiny: Path, tiny_adapter: Path) -> None:
    modules = [f"model.layers.{layer}.{name}" for layer in range(2) for name in ("self_attn.q_proj", "mlp.down_proj")]
    lengths = np.abs(random(HIDDEN)) + 0.5
    extend(tiny_adapter, {f"{module}.lora_magnitude_vector": lengths for module in modules}, use_dora=True)
    read = opened(tiny, tiny_adapter)
    a, b = lora(tiny_adapter)
    plain = load_file(tiny / "model.safetensors")[f"{MODULE}.weight"] + 2 * (b @ a)
    result = read.read(f"{MODULE}.weight")
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), lengths, rtol=1e-5)
    np.testing.assert_allclose(result, lengths[:, None] * plain / np.linalg.norm(plain, axis=1)[:, None], atol=1e-6)


def test_dora_cannot_lengthen_nothing(tiny: Path, tiny_adapter: Path) -> None:
    modules = [f"model.layers.{layer}.{name}" for layer in range(2) for name in ("self_attn.q_proj", "mlp.down_proj")]
    extend(tiny_adapter, {f"{module}.lora_magnitude_vector": random(HIDDEN) for module in modules}, use_dora=True)
    for path, name in (
        (tiny / "model.safetensors", f"{MODULE}.weight"),
        (tiny_adapter / "adapter_model.safetensors", f"base_model.model.{MODULE}.lora_B.weight"),
    ):
        tensors = load_file(path)
        tensors[name][4] = 0
        save_file(tensors, path)
    with pytest.raises(AdapterInvalid, match=rf"{MODULE}\.weight has an output of length zero"):
        opened(tiny, tiny_adapter).read(f"{MODULE}.weight")


def test_biases_are_replaced_and_added_to(tiny: Path, tiny_adapter: Path) -> None:
    trained, added = random(HIDDEN), random(HIDDEN) * 2
    extend(tiny_adapter, {f"{MODULE}.base_layer.bias": trained, f"{MODULE}.lora_B.bias": added}, bias="lora_only")
    read = opened(tiny, tiny_adapter)
    np.testing.assert_allclose(read.rows(f"{MODULE}.bias", 5, 20), (trained + 2 * added)[5:20], rtol=1e-6)


def test_an_embedding_takes_the_transpose(tiny: Path, tiny_adapter: Path) -> None:
    a, b = random(4, VOCAB), random(HIDDEN, 4)
    embedding = {"model.embed_tokens.lora_embedding_A": a, "model.embed_tokens.lora_embedding_B": b}
    extend(tiny_adapter, embedding, target_modules=["q_proj", "down_proj", "embed_tokens"])
    read = opened(untie(tiny), tiny_adapter)
    base = load_file(tiny / "model.safetensors")
    np.testing.assert_allclose(read.rows(EMBEDDING, 30, 50), (base[EMBEDDING] + 2 * (b @ a).T)[30:50], atol=1e-6)
    np.testing.assert_array_equal(read.read(HEAD), base[HEAD])


def test_an_embeddings_dora_scales_its_columns(tiny: Path, tiny_adapter: Path) -> None:
    path = tiny_adapter / "adapter_model.safetensors"
    prefix = "base_model.model.model.embed_tokens.lora_"
    lengths = np.abs(random(HIDDEN)) + 0.5
    save_file(
        {
            f"{prefix}embedding_A": random(4, VOCAB),
            f"{prefix}embedding_B": random(HIDDEN, 4),
            f"{prefix}magnitude_vector": lengths,
        },
        path,
    )
    change_config(tiny_adapter, use_dora=True, target_modules=["embed_tokens"])
    read = opened(untie(tiny), tiny_adapter)
    parts = [read.rows(EMBEDDING, start, start + 96) for start in range(0, VOCAB, 96)]
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(parts), axis=0), lengths, rtol=1e-5)


def test_trained_tokens_take_the_place_of_rows(tiny: Path, tiny_adapter: Path) -> None:
    rows = random(3, HIDDEN)
    name = "model.embed_tokens.token_adapter.trainable_tokens_delta"
    extend(tiny_adapter, {name: rows}, trainable_token_indices=[7, 2, 383])
    read = opened(tiny, tiny_adapter)
    expected = load_file(tiny / "model.safetensors")[EMBEDDING]
    expected[[7, 2, 383]] = rows
    np.testing.assert_array_equal(read.read(EMBEDDING), expected)
    np.testing.assert_array_equal(read.rows(EMBEDDING, 3, 9), expected[3:9])
    assert read.tied


def test_tokens_of_one_of_two_tied_layers(tiny: Path, tiny_adapter: Path) -> None:
    names = ("model.embed_tokens", "lm_head")
    tensors = {f"{name}.token_adapter.trainable_tokens_delta": random(1, HIDDEN) for name in names}
    read = opened(tiny, extend(tiny_adapter, tensors, trainable_token_indices={"embed_tokens": [3], "lm_head": [4]}))
    assert not read.tied
    assert not np.array_equal(read.rows(HEAD, 3, 4), read.rows(EMBEDDING, 3, 4))
    change_config(tiny_adapter, trainable_token_indices=[3])
    assert opened(tiny, tiny_adapter).tied


@pytest.mark.parametrize("module", ["model.embed_tokens", "lm_head"])
def test_a_saved_module_is_no_longer_tied(tmp_path: Path, tiny: Path, tiny_adapter: Path, module: str) -> None:
    trained = random(VOCAB, HIDDEN)
    extend(tiny_adapter, {f"{module}.weight": trained}, modules_to_save=[module])
    read = opened(tiny, tiny_adapter)
    assert not read.tied
    other = HEAD if module != "lm_head" else EMBEDDING
    np.testing.assert_array_equal(read.read(f"{module}.weight"), trained)
    np.testing.assert_array_equal(read.read(other), load_file(tiny / "model.safetensors")[EMBEDDING])
    result = merged(tmp_path, tiny, tiny_adapter)
    np.testing.assert_array_equal(result[f"{module}.weight"], trained)
    assert json.loads((tmp_path / "merged/config.json").read_text())["tie_word_embeddings"] is False
    assert not open_checkpoint(str(tmp_path / "merged")).tied_embeddings


def test_both_saved_alike_stay_tied(tiny: Path, tiny_adapter: Path) -> None:
    trained = random(VOCAB, HIDDEN)
    tensors = {EMBEDDING: trained, HEAD: trained.copy()}
    extend(tiny_adapter, tensors, modules_to_save=["embed_tokens", "lm_head"])
    read = opened(tiny, tiny_adapter)
    assert read.tied
    assert HEAD not in read.shapes
    np.testing.assert_array_equal(read.read(EMBEDDING), trained)
    trained[0, 0] += 1
    assert not opened(tiny, extend(tiny_adapter, {HEAD: trained})).tied


def test_lora_on_both_tied_layers(tiny: Path, tiny_adapter: Path) -> None:
    a, b = random(4, VOCAB), random(HIDDEN, 4)
    embedding = {"model.embed_tokens.lora_embedding_A": a, "model.embed_tokens.lora_embedding_B": b}
    head = {"lm_head.lora_A.weight": b.T.copy(), "lm_head.lora_B.weight": a.T.copy()}
    change_config(tiny_adapter, target_modules=["q_proj", "down_proj", "embed_tokens", "lm_head"])
    assert not opened(tiny, extend(tiny_adapter, embedding)).tied
    assert opened(tiny, extend(tiny_adapter, head)).tied
    a[2, 2] += 1
    assert not opened(tiny, extend(tiny_adapter, {"lm_head.lora_B.weight": a.T.copy()})).tied


def test_tied_weights_that_are_stored_twice_must_be_equal(tiny: Path) -> None:
    path = tiny / "model.safetensors"
    stored = load_file(path)
    save_file(stored | {HEAD: stored[EMBEDDING].copy()}, path)
    assert HEAD not in opened(tiny).shapes
    stored[HEAD] = stored[EMBEDDING].copy()
    stored[HEAD][-1, -1] += 1e-3
    save_file(stored, path)
    with pytest.raises(CheckpointInvalid, match=rf"tied weights that are not equal.*{HEAD} is not {EMBEDDING}"):
        opened(tiny)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_tied_weights_may_be_stored_in_two_types(tiny: Path, dtype: type[np.floating[Any]]) -> None:
    path = tiny / "model.safetensors"
    stored = load_file(path)
    stored[EMBEDDING] = stored[EMBEDDING].astype(np.float16).astype(np.float32)
    save_file(stored | {HEAD: stored[EMBEDDING].astype(dtype)}, path)
    read = opened(tiny)
    assert (read.tied, HEAD in read.shapes) == (True, False)


def test_new_vocabulary_comes_with_the_adapter(tmp_path: Path, tiny: Path, tiny_adapter: Path) -> None:
    trained = random(VOCAB + 6, HIDDEN)
    extend(tiny_adapter, {EMBEDDING: trained, HEAD: trained.copy()})
    checkpoint = open_checkpoint(str(tiny), adapter=tiny_adapter)
    assert checkpoint.vocab_size == VOCAB + 6
    read = weights.open_weights(checkpoint)
    assert (read.tied, read.shapes[EMBEDDING]) == (True, (VOCAB + 6, HIDDEN))
    np.testing.assert_array_equal(read.rows(EMBEDDING, VOCAB - 1, VOCAB + 6), trained[VOCAB - 1 :])
    np.testing.assert_array_equal(merged(tmp_path, tiny, tiny_adapter)[EMBEDDING], trained)
    again = open_checkpoint(str(tmp_path / "merged"))
    assert (again.vocab_size, again.tied_embeddings) == (VOCAB + 6, True)


def test_the_tokenizer_that_knows_the_new_tokens_is_merged_in(tmp_path: Path, tiny: Path, tiny_adapter: Path) -> None:
    trained = random(VOCAB + 1, HIDDEN)
    extend(tiny_adapter, {EMBEDDING: trained, HEAD: trained.copy()})
    tokenizer = json.loads((tiny / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"id": VOCAB, "content": "<|new|>"})
    checkpoints.write_json(tiny_adapter / "tokenizer.json", tokenizer)
    merged(tmp_path, tiny, tiny_adapter)
    assert (tmp_path / "merged/tokenizer.json").read_bytes() == (tiny_adapter / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"init_lora_weights": "pissa"}, "'pissa'"),
        ({"init_lora_weights": "olora"}, "'olora'"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"use_qalora": True, "use_bdlora": {}, "kasa_config": {"beta": 1}}, "kasa_config is set; use_qalora is set"),
    ],
)
def test_what_cannot_be_merged_is_refused_by_name(
    tiny: Path, tiny_adapter: Path, changes: dict[str, Any], named: str
) -> None:
    change_config(tiny_adapter, **changes)
    with pytest.raises(AdapterInvalid, match=named) as caught:
        opened(tiny, tiny_adapter)
    assert "merge_and_unload" in str(caught.value.hint)


def test_tensors_of_no_known_kind_are_refused_by_name(tiny_adapter: Path) -> None:
    extend(tiny_adapter, {f"{MODULE}.lora_diag": np.ones(4, np.float32)})
    with pytest.raises(AdapterInvalid, match="lora_diag"):
        weights.check_mergeable(open_adapter(tiny_adapter))


# --- what peft makes of it ------------------------------------------------------------------------------------------

LINEAR = ["q_proj", "down_proj"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ranks": {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"layers.1.*q_proj": 3}, "use_rslora": True},
    "DoRA": {"use_dora": True},
    "all biases": {"bias": "all"},
    "LoRA's biases": {"bias": "lora_only"},
    "bias in LoRA": {"target_modules": ["q_proj"], "lora_bias": True},
    "saved head": {"modules_to_save": ["lm_head"]},
    "saved embedding": {"modules_to_save": ["embed_tokens"]},
    "saved both": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "saved, kept tied": {"modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
    "saved norms and k_proj": {"modules_to_save": ["norm", "k_proj"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "embedding, kept tied": {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
    "embedding, DoRA": {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding and head": {"target_modules": ["q_proj", "lm_head", "embed_tokens"]},
    "tokens": {"trainable_token_indices": [5, 7]},
    "tokens by layer": {"trainable_token_indices": {"embed_tokens": [5, 7], "lm_head": [5, 8]}},
    "new rows": {"rows": VOCAB + 6},
    "fewer rows": {"rows": VOCAB - 4},
    "new rows, embedding": {"rows": VOCAB + 6, "target_modules": ["q_proj", "embed_tokens"]},
    "new rows, saved": {"rows": VOCAB + 6, "modules_to_save": ["embed_tokens", "lm_head"]},
    "new rows, tokens": {"rows": VOCAB + 6, "trainable_token_indices": [5, VOCAB + 4]},
}
# peft merges these into the matrix that both layers share: what it merges is not the model that was trained.
MERGED_TWICE = (
    "embedding",
    "embedding, kept tied",
    "embedding, DoRA",
    "head",
    "embedding and head",
    "tokens by layer",
    "new rows, embedding",
)
KEPT_TIED = ("saved, kept tied", "embedding, kept tied")
UNTIED = ("saved head", "saved embedding", "saved both", "new rows, saved", *MERGED_TWICE)


def trained_by_peft(base: Path, folder: Path, rows: int | None = None, **config: Any) -> Any:
    """Saves an adapter of random numbers; the model with it, not merged."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    def load() -> Any:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if rows:
            model.resize_token_embeddings(rows)
        return model

    torch.manual_seed(0)
    config = {"target_modules": LINEAR, "r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"} | config
    model = get_peft_model(load(), LoraConfig(**config))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return PeftModel.from_pretrained(load(), folder)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.filterwarnings("ignore")
def test_the_result_is_what_peft_trained_and_merges(tmp_path: Path, tiny: Path, variant: str, tied: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    if not tied:
        untie(tiny)
        if "kept tied" in variant:
            pytest.skip("there is nothing to keep")
    unmerged = trained_by_peft(tiny, tmp_path / "adapter", **VARIANTS[variant])
    if variant == "new rows, embedding" and not tied:
        with pytest.raises(AdapterInvalid, match="390 rows and lm_head"):  # peft left the new rows of the other out
            open_checkpoint(str(tiny), adapter=tmp_path / "adapter")
        return
    checkpoint = open_checkpoint(str(tiny), adapter=tmp_path / "adapter")
    read = weights.open_weights(checkpoint)
    merged(tmp_path, tiny, tmp_path / "adapter")
    assert read.tied == (tied and (variant in KEPT_TIED or variant not in UNTIED))
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        expected = unmerged(tokens).logits
        got = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(tokens).logits
        theirs = unmerged.merge_and_unload().state_dict()
    assert checkpoint.vocab_size == expected.shape[-1]
    assert (expected - got).abs().max() < 1e-5 * expected.abs().max()
    if tied and variant in MERGED_TWICE:
        return
    for name in read.shapes:
        assert np.abs(theirs[name].numpy() - read.read(name)).max() < 1e-6, name


@pytest.mark.slow
@pytest.mark.parametrize("use_dora", [False, True])
def test_layers_that_store_in_out_are_merged_as_peft_does(tmp_path: Path, use_dora: bool) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    base = tmp_path / "gpt2"
    sizes = {"n_embd": HIDDEN, "n_layer": 1, "n_head": 2, "n_positions": 64, "vocab_size": VOCAB}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(base)
    checkpoints.make_tokenizer(base)
    modules = ["c_attn", "c_proj", "c_fc"]
    config: dict[str, Any] = {"target_modules": modules, "fan_in_fan_out": True, "use_dora": use_dora}
    unmerged = trained_by_peft(base, tmp_path / "adapter", **config)
    read = opened(base, tmp_path / "adapter")
    with torch.no_grad():
        theirs = unmerged.merge_and_unload().state_dict()
    for name, shape in read.shapes.items():
        rows = [read.rows(name, row, row + 1) for row in range(shape[0])]
        assert np.abs(theirs[name].numpy() - np.concatenate(rows)).max() < 1e-6, name
