from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgeship.checkpoint.weight_files import INDEX, SINGLE, find_weights
from edgeship.errors import CheckpointInvalid, PickleRefused, WeightsDamaged
from tests import checkpoints

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A folder with the tiny weights in two shards and an index."""
    weights = checkpoints.qwen2_weights()
    names = list(weights)
    weight_map = {name: SHARDS[position % 2] for position, name in enumerate(names)}
    for shard in SHARDS:
        save_file({name: weights[name] for name in names if weight_map[name] == shard}, tmp_path / shard)
    write_index(tmp_path, weight_map)
    return tmp_path


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def read_index(folder: Path) -> dict[str, str]:
    return dict(json.loads((folder / INDEX).read_text())["weight_map"])


def test_shards_hold_what_one_file_holds(sharded: Path, tiny: Path) -> None:
    one, many = find_weights(tiny), find_weights(sharded)
    assert [path.name for path in many.files] == list(SHARDS)
    assert {name: tensor.shape for name, tensor in many.tensors.items()} == {
        name: tensor.shape for name, tensor in one.tensors.items()
    }
    assert many.size_bytes == sum((sharded / name).stat().st_size for name in SHARDS)


def test_one_file_wins_over_an_index(sharded: Path) -> None:
    save_file({"w": np.ones(2, np.float32)}, sharded / SINGLE)
    assert list(find_weights(sharded).tensors) == ["w"]


def test_parameters_count_tied_ones_once_and_buffers_never(tmp_path: Path) -> None:
    arrays = {
        "model.embed_tokens.weight": np.ones((5, 2), np.float32),
        "lm_head.weight": np.ones((5, 2), np.float32),
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(7, np.float32),
    }
    save_file(arrays, tmp_path / SINGLE)
    weights = find_weights(tmp_path)
    assert weights.parameters(tied=True, dtype="float32") == 10
    assert weights.parameters(tied=False, dtype="float32") == 20


def test_dtype_is_that_of_most_bytes(tmp_path: Path) -> None:
    arrays = {"a": np.ones(9, np.float16), "b": np.ones(4, np.float32), "c": np.ones(1, np.float32)}
    save_file(arrays, tmp_path / SINGLE)
    assert find_weights(tmp_path).dtype(None) == "float32"


@pytest.mark.parametrize("shard", SHARDS)
def test_a_missing_shard_is_named(sharded: Path, shard: str) -> None:
    (sharded / shard).unlink()
    with pytest.raises(WeightsDamaged, match=f"{shard} is missing"):
        find_weights(sharded)


def test_a_truncated_shard_is_named(sharded: Path) -> None:
    path = sharded / SHARDS[1]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsDamaged, match=f"{SHARDS[1]} is damaged: it is truncated"):
        find_weights(sharded)


def test_a_missing_index_is_named(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    with pytest.raises(WeightsDamaged, match=rf"{INDEX} is missing"):
        find_weights(sharded)


def test_a_tensor_that_is_not_where_the_index_says(sharded: Path) -> None:
    weight_map = read_index(sharded)
    write_index(sharded, weight_map | {"model.norm.weight": SHARDS[0]})
    with pytest.raises(WeightsDamaged, match=rf"model.norm.weight is not in {SHARDS[0]}"):
        find_weights(sharded)
    write_index(sharded, weight_map | {"model.extra": SHARDS[0]})
    with pytest.raises(WeightsDamaged, match=r"model.extra is not in"):
        find_weights(sharded)


def test_a_tensor_in_two_shards(sharded: Path) -> None:
    (sharded / SHARDS[1]).write_bytes((sharded / SHARDS[0]).read_bytes())
    with pytest.raises(WeightsDamaged, match="is there twice"):
        find_weights(sharded)


@pytest.mark.parametrize("weight_map", [None, {}])
def test_an_index_without_a_map(sharded: Path, weight_map: object) -> None:
    write_index(sharded, weight_map)
    with pytest.raises(WeightsDamaged, match="has no weight_map"):
        find_weights(sharded)


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        ([], r"has weight_map \[\], which is not an object"),
        ({"w": 1}, r"has weight_map\.w 1, which is not a text"),
        ({"w": None}, r"has no weight_map\.w, which must be a text"),
    ],
)
def test_a_map_of_other_types(sharded: Path, weight_map: object, said: str) -> None:
    write_index(sharded, weight_map)
    with pytest.raises(WeightsDamaged, match=said):
        find_weights(sharded)


def test_a_name_that_no_file_can_have(sharded: Path) -> None:
    write_index(sharded, {"w": "a" * 256})
    with pytest.raises(CheckpointInvalid, match=r"names 'aaaaa.*\.\.\..*a', which is no file of this folder"):
        find_weights(sharded)


@pytest.mark.parametrize("name", ["../model.safetensors", "sub/a.safetensors", "..\\a.safetensors", "/etc/passwd"])
def test_an_index_cannot_point_out_of_the_folder(sharded: Path, name: str) -> None:
    write_index(sharded, {"w": name})
    with pytest.raises(CheckpointInvalid, match="no file of this folder"):
        find_weights(sharded)


def test_a_file_without_tensors(tmp_path: Path) -> None:
    save_file({}, tmp_path / SINGLE)
    with pytest.raises(WeightsDamaged, match="hold no tensors"):
        find_weights(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(PickleRefused, match=name) as caught:
        find_weights(tmp_path)
    assert "--allow-pickle" in (caught.value.hint or "")


def test_allowed_pickles_are_estimated_from_their_size(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(1000))
    weights = find_weights(tmp_path, allow_pickle=True)
    assert (weights.pickle, dict(weights.tensors)) == (True, {})
    assert weights.dtype("bfloat16") == "bfloat16"
    assert weights.parameters(tied=True, dtype="bfloat16") == 500


def test_allowed_pickles_must_be_in_transformers_layout(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(CheckpointInvalid, match=r"model\.pt cannot be read"):
        find_weights(tmp_path, allow_pickle=True)


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["model.gguf"], "llama.cpp"),
        (["model.nemo"], "NeMo"),
        (["model.onnx", "genai_config.json"], "ONNX"),
        (["params.json"], "Convert it with transformers"),
        (["training_args.bin", "optimizer.pt"], "A checkpoint is a folder"),
        (["checkpoint-500/config.json"], "Did you mean"),
    ],
)
def test_a_folder_without_weights_says_what_it_holds_instead(tmp_path: Path, names: list[str], hint: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointInvalid, match=names[0].partition("/")[0]) as caught:
        find_weights(tmp_path)
    assert hint in (caught.value.hint or "")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointInvalid, match="it is empty"):
        find_weights(tmp_path)


def test_all_missing_shards_are_counted(sharded: Path) -> None:
    for shard in SHARDS:
        (sharded / shard).unlink()
    with pytest.raises(WeightsDamaged, match=rf"{SHARDS[0]}, {SHARDS[1]} are missing, of 2 that {INDEX} lists"):
        find_weights(sharded)


def test_shards_without_an_index_are_named_with_those_that_lack(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    (sharded / SHARDS[0]).unlink()
    with pytest.raises(WeightsDamaged, match=rf"{INDEX} is missing.*shard number 1 of 2 is missing too"):
        find_weights(sharded)


def test_weights_of_another_name_are_asked_about(tmp_path: Path) -> None:
    save_file({"w": np.ones(2, np.float32)}, tmp_path / "merged.safetensors")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointInvalid) as caught:
        find_weights(tmp_path)
    assert "Is merged.safetensors the weights?" in (caught.value.hint or "")
