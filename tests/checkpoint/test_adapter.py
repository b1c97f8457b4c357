from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship.checkpoint.adapter import WEIGHTS_NAME, check_fits, open_adapter
from edgeship.errors import AdapterInvalid, NotFound, PickleRefused, WeightsDamaged
from tests import checkpoints

BASE = {name: array.shape for name, array in checkpoints.qwen2_weights().items()}
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


def change(folder: Path, **tensors: np.ndarray | None) -> None:
    """Replaces tensors of q_proj in layer 0 by their last part ("lora_A"); None removes one."""
    stored = load_file(folder / WEIGHTS_NAME)
    for part, array in tensors.items():
        name = f"{Q_PROJ}.{part}.weight"
        stored.pop(name, None)
        if array is not None:
            stored[name] = array
    save_file(stored, folder / WEIGHTS_NAME)


def test_what_an_adapter_is(tiny_adapter: Path) -> None:
    adapter = open_adapter(tiny_adapter)
    assert (adapter.rank, adapter.alpha, adapter.base) == (4, 8.0, "tiny")
    assert adapter.targets == ("down_proj", "q_proj")
    assert (adapter.use_rslora, adapter.use_dora) == (False, False)
    assert adapter.tensors[f"{Q_PROJ}.lora_A.weight"] == (4, checkpoints.HIDDEN)
    assert all(path.is_file() for path in adapter.files)
    check_fits(adapter, BASE)


def test_targets_are_those_in_the_tensors_not_those_in_the_config(tmp_path: Path) -> None:
    folder = checkpoints.make_adapter(tmp_path / "a", target_modules="all-linear")
    assert open_adapter(folder).targets == ("down_proj", "q_proj")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no adapter folder"):
        open_adapter(tmp_path / "none")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(tiny_adapter: Path, name: str) -> None:
    (tiny_adapter / name).unlink()
    with pytest.raises(AdapterInvalid, match=f"there is no {name}"):
        open_adapter(tiny_adapter)


def test_pickled_weights_are_refused(tiny_adapter: Path) -> None:
    (tiny_adapter / WEIGHTS_NAME).rename(tiny_adapter / "adapter_model.bin")
    with pytest.raises(PickleRefused, match=r"adapter_model\.bin"):
        open_adapter(tiny_adapter)


def test_truncated_weights_are_damaged(tiny_adapter: Path) -> None:
    path = tiny_adapter / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsDamaged, match=r"adapter_model\.safetensors is damaged"):
        open_adapter(tiny_adapter)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"r": 0}, "r must be"),
        ({"r": "4"}, "r must be"),
        ({"lora_alpha": None}, "lora_alpha must be"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be"),
        ({"r": 8}, r"lora_A.weight is \[4, 96\], but adapter_config.json says r 8"),
    ],
)
def test_a_config_that_cannot_be_followed(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = checkpoints.make_adapter(tmp_path / "a")
    checkpoints.make_adapter(folder, **changes)
    with pytest.raises(AdapterInvalid, match=message):
        open_adapter(folder)


def test_a_damaged_config_is_told_with_its_line(tiny_adapter: Path) -> None:
    (tiny_adapter / "adapter_config.json").write_text("{\n")
    with pytest.raises(AdapterInvalid, match=r"adapter_config\.json is damaged: line 2"):
        open_adapter(tiny_adapter)


def test_ranks_may_differ_by_module_where_the_config_says_so(tmp_path: Path) -> None:
    folder = checkpoints.make_adapter(tmp_path / "a", rank_pattern={"q_proj": 2})
    change(folder, lora_A=np.ones((2, 64), np.float32), lora_B=np.ones((64, 2), np.float32))
    check_fits(open_adapter(folder), BASE)


def test_matrices_that_do_not_multiply(tiny_adapter: Path) -> None:
    change(tiny_adapter, lora_B=np.ones((64, 3), np.float32))
    with pytest.raises(AdapterInvalid, match=rf"{Q_PROJ}.lora_A.weight \[4, 64\] and its lora_B \[64, 3\]"):
        open_adapter(tiny_adapter)


def test_one_matrix_without_the_other(tiny_adapter: Path) -> None:
    change(tiny_adapter, lora_B=None)
    with pytest.raises(AdapterInvalid, match=rf"{Q_PROJ}.lora_A.weight has no lora_B"):
        open_adapter(tiny_adapter)


def test_an_adapter_that_changes_nothing(tiny_adapter: Path) -> None:
    stored = load_file(tiny_adapter / WEIGHTS_NAME)
    zeroed = {name: array * 0 if "lora_B" in name else array for name, array in stored.items()}
    save_file(zeroed, tiny_adapter / WEIGHTS_NAME)
    with pytest.raises(AdapterInvalid, match="changes nothing"):
        open_adapter(tiny_adapter)
    save_file(zeroed | {"base_model.model.lm_head.weight": np.ones(3)}, tiny_adapter / WEIGHTS_NAME)
    open_adapter(tiny_adapter)


def test_a_file_without_lora_matrices(tiny_adapter: Path) -> None:
    save_file({"base_model.model.lm_head.weight": np.ones(3)}, tiny_adapter / WEIGHTS_NAME)
    with pytest.raises(AdapterInvalid, match="holds no LoRA matrices"):
        open_adapter(tiny_adapter)


def test_a_base_of_other_sizes_is_told_with_both_shapes(tiny_adapter: Path) -> None:
    base = BASE | {"model.layers.0.self_attn.q_proj.weight": (128, 64)}
    with pytest.raises(
        AdapterInvalid, match=r"make \[64, 64\], but model.layers.0.self_attn.q_proj.weight is \[128, 64\]"
    ):
        check_fits(open_adapter(tiny_adapter), base)


def test_a_base_without_the_module_is_told_with_the_adapters_own_base(tiny_adapter: Path) -> None:
    base = {name: shape for name, shape in BASE.items() if "layers.1." not in name}
    with pytest.raises(AdapterInvalid, match=r"it changes model\.layers\.1\.") as caught:
        check_fits(open_adapter(tiny_adapter), base)
    assert caught.value.hint == "The adapter was trained on tiny."


def test_transposed_weights_and_embeddings_are_compared_the_other_way_round(tmp_path: Path) -> None:
    folder = checkpoints.make_adapter(tmp_path / "a", fan_in_fan_out=True)
    transposed = {name: shape[::-1] for name, shape in BASE.items()}
    check_fits(open_adapter(folder), transposed)
    embedding = "base_model.model.model.embed_tokens"
    save_file(
        {
            f"{embedding}.lora_embedding_A": np.ones((4, checkpoints.VOCAB), np.float32),
            f"{embedding}.lora_embedding_B": np.ones((checkpoints.HIDDEN, 4), np.float32),
        },
        folder / WEIGHTS_NAME,
    )
    adapter = open_adapter(folder)
    assert adapter.targets == ("embed_tokens",)
    check_fits(adapter, BASE)
