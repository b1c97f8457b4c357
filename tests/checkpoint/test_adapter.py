from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship.checkpoint.adapter import (
    WEIGHTS_NAME,
    Adapter,
    find_changes,
    leave_out,
    open_adapter,
    rank_and_scale,
)
from edgeship.checkpoint.adapter_fit import check_fits
from edgeship.errors import AdapterInvalid, NotFound, PickleRefused, WeightsDamaged
from tests import checkpoints

BASE = {name: array.shape for name, array in checkpoints.qwen2_weights().items()}
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"
DOWN_PROJ = "base_model.model.model.layers.0.mlp.down_proj"


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
        ({"peft_type": ["LORA"]}, r"has peft_type \['LORA'\], which is not a text"),
        ({"r": 0}, "has r 0, which is not a whole number of at least 1"),
        ({"r": "4"}, "has r '4', which is not a whole number"),
        ({"r": None}, "has no r, which must be a whole number"),
        ({"lora_alpha": None}, "has no lora_alpha, which must be a number"),
        ({"lora_alpha": "8"}, "has lora_alpha '8', which is not a number"),
        ({"lora_alpha": float("nan")}, "has lora_alpha nan, which is not a number"),
        ({"lora_alpha": float("inf")}, "has lora_alpha inf, which is not a number"),
        ({"lora_alpha": 10**400}, "has lora_alpha 1000"),
        ({"use_dora": "false"}, "has use_dora 'false', which is not true or false"),
        ({"use_rslora": 1}, "has use_rslora 1, which is not true or false"),
        ({"fan_in_fan_out": []}, r"has fan_in_fan_out \[\], which is not true or false"),
        ({"lora_bias": 0.5}, "has lora_bias 0.5, which is not true or false"),
        ({"modules_to_save": "lm_head"}, "has modules_to_save 'lm_head', which is not a list"),
        ({"modules_to_save": [1]}, r"has modules_to_save \[1\], which is not a list of texts"),
        ({"rank_pattern": []}, r"has rank_pattern \[\], which is not an object"),
        ({"rank_pattern": {"q_proj": "4"}}, r"has rank_pattern\.q_proj '4', which is not a whole number"),
        ({"rank_pattern": {"q_proj": 0}}, r"has rank_pattern\.q_proj 0, which is not a whole number of at least 1"),
        ({"rank_pattern": {"[": 4}}, r"has rank_pattern '\[', which is not a regular expression"),
        ({"rank_pattern": {str(n): 4 for n in range(10_001)}}, "has rank_pattern with 10001 regular expressions"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, r"has alpha_pattern\.q_proj nan, which is not a number"),
        ({"alpha_pattern": {"(?=q)q_proj": 4}}, r"has alpha_pattern '\(\?=q\)q_proj', which is not a regular"),
        ({"trainable_token_indices": "1"}, "has trainable_token_indices '1', which is not a list"),
        ({"trainable_token_indices": {"embed": ["1"]}}, r"has trainable_token_indices\.embed \['1'\], which is not a"),
        ({"base_model_name_or_path": 7}, "has base_model_name_or_path 7, which is not a text"),
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
    folder = checkpoints.make_adapter(tmp_path / "a", rank_pattern={r"layers\.0\.self_attn\.q_proj": 2})
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


@pytest.mark.parametrize(
    "twin", [f"{Q_PROJ}.lora_A", f"{Q_PROJ.replace('model.layers', 'language_model.model.layers')}.lora_A.weight"]
)
def test_a_matrix_that_is_there_twice(tiny_adapter: Path, twin: str) -> None:
    stored = load_file(tiny_adapter / WEIGHTS_NAME)
    save_file(stored | {twin: 2 * stored[f"{Q_PROJ}.lora_A.weight"]}, tiny_adapter / WEIGHTS_NAME)
    with pytest.raises(AdapterInvalid, match=r"lora_A\S* and .*lora_A\S* are the same matrix"):
        open_adapter(tiny_adapter)


def test_an_adapter_that_changes_nothing(tiny_adapter: Path) -> None:
    stored = load_file(tiny_adapter / WEIGHTS_NAME)
    zeroed = {name: array * 0 if "lora_B" in name else array for name, array in stored.items()}
    save_file(zeroed, tiny_adapter / WEIGHTS_NAME)
    with pytest.raises(AdapterInvalid, match="changes nothing"):
        open_adapter(tiny_adapter)
    save_file(zeroed | {"base_model.model.lm_head.weight": np.ones(3)}, tiny_adapter / WEIGHTS_NAME)
    open_adapter(tiny_adapter)
    zeroed = {name: array * 0 if "lora_A" in name else array for name, array in stored.items()}
    save_file(zeroed, tiny_adapter / WEIGHTS_NAME)
    with pytest.raises(AdapterInvalid, match="changes nothing"):
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
    checkpoints.write_json(
        folder / "adapter_config.json",
        {"peft_type": "LORA", "r": 4, "fan_in_fan_out": True, "target_modules": ["embed_tokens"]},
    )
    adapter = open_adapter(folder)
    assert adapter.targets == ("embed_tokens",)
    check_fits(adapter, BASE)


# --- more than plain LoRA ------------------------------------------------------------------------------------------

HIDDEN, VOCAB = checkpoints.HIDDEN, checkpoints.VOCAB
EMBEDDING = "base_model.model.model.embed_tokens"
HEAD = "base_model.model.lm_head"


def adapter_with(folder: Path, tensors: Mapping[str, tuple[int, ...]], **config: Any) -> Adapter:
    """An adapter that holds tensors of ones besides its LoRA matrices."""
    checkpoints.make_adapter(folder, **config)
    stored = load_file(folder / WEIGHTS_NAME)
    save_file(stored | {name: np.ones(shape, np.float32) for name, shape in tensors.items()}, folder / WEIGHTS_NAME)
    return open_adapter(folder)


MAGNITUDES: dict[str, tuple[int, ...]] = {
    f"base_model.model.model.layers.{layer}.{module}.lora_magnitude_vector": (HIDDEN,)
    for layer in range(checkpoints.LAYERS)
    for module in ("self_attn.q_proj", "mlp.down_proj")
}


def test_what_becomes_of_each_tensor(tmp_path: Path) -> None:
    tensors = {
        **MAGNITUDES,
        f"{Q_PROJ}.base_layer.bias": (HIDDEN,),
        f"{Q_PROJ}.lora_B.bias": (HIDDEN,),
        f"{HEAD}.weight": (VOCAB, HIDDEN),
        f"{HEAD}.original_module.weight": (VOCAB, HIDDEN),
        f"{EMBEDDING}.token_adapter.trainable_tokens_delta": (2, HIDDEN),
    }
    config = {"modules_to_save": ["lm_head"], "trainable_token_indices": [5, 7], "use_dora": True}
    changes = find_changes(adapter_with(tmp_path / "a", tensors, **config))
    assert len(changes) == 4 + 3
    weight, bias = (changes[f"model.layers.0.self_attn.q_proj.{name}"] for name in ("weight", "bias"))
    assert weight.pair is not None
    assert (weight.pair.a, weight.scale) == (f"{Q_PROJ}.lora_A.weight", 2.0)
    assert weight.magnitude == f"{Q_PROJ}.lora_magnitude_vector"
    assert (bias.replacement, bias.own) == (f"{Q_PROJ}.base_layer.bias", False)
    assert (bias.added, bias.scale) == (f"{Q_PROJ}.lora_B.bias", 2.0)
    assert (changes["lm_head.weight"].replacement, changes["lm_head.weight"].own) == (f"{HEAD}.weight", True)
    assert changes["model.embed_tokens.weight"].tokens == (5, 7)


@pytest.mark.parametrize(
    "name",
    [
        f"{Q_PROJ}.lora_C.weight",
        f"{Q_PROJ}.lora_A.extra.weight",
        f"{HEAD}.modules_to_save.weight",
        f"{HEAD}.original_module.weight",
        "model.embed_tokens.weight",
        f"{EMBEDDING}.scale",
    ],
)
def test_a_tensor_of_no_known_kind_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(AdapterInvalid, match=f"it holds the tensor {name}, which nothing") as caught:
        find_changes(adapter_with(tmp_path / "a", {name: (VOCAB, HIDDEN)}))
    assert "merge_and_unload" in str(caught.value.hint)


def test_two_tensors_for_one_place(tmp_path: Path) -> None:
    names = {f"{Q_PROJ}.weight": (HIDDEN, HIDDEN), f"{Q_PROJ}.base_layer.weight": (HIDDEN, HIDDEN)}
    with pytest.raises(AdapterInvalid, match=r"both take the place of model.layers.0.self_attn.q_proj.weight"):
        find_changes(adapter_with(tmp_path / "a", names))


def test_two_pairs_for_one_matrix(tmp_path: Path) -> None:
    twins = {f"{Q_PROJ}.lora_embedding_A": (4, HIDDEN), f"{Q_PROJ}.lora_embedding_B": (HIDDEN, 4)}
    with pytest.raises(AdapterInvalid, match=r"lora_A.weight and .*lora_embedding_A both change .*q_proj.weight"):
        find_changes(adapter_with(tmp_path / "a", twins))


FAULTS: list[tuple[dict[str, tuple[int, ...]], dict[str, Any], str]] = [
    (
        {f"{EMBEDDING}.weight": (VOCAB, 32)},
        {},
        r"embed_tokens.weight is \[384, 32\], but model.embed_tokens.weight is \[384, 64\]",
    ),
    (
        {f"{Q_PROJ}.base_layer.bias": (63,)},
        {},
        r"base_layer.bias is \[63\], but model.layers.0.self_attn.q_proj.bias is \[64\]",
    ),
    ({"base_model.model.model.norm.bias": (HIDDEN,)}, {}, "it changes model.norm.bias, which this one does not store"),
    ({f"{HEAD}.weight": (VOCAB, HIDDEN)}, {"tied": False}, "it changes lm_head.weight, which this one does not store"),
    ({}, {"use_dora": True}, "use_dora true, but model.layers.0.mlp.down_proj.weight has no lora_magnitude_vector"),
    (MAGNITUDES, {}, f"use_dora false, but it holds {DOWN_PROJ}.lora_magnitude_vector"),
    (MAGNITUDES | {next(iter(MAGNITUDES)): (9,)}, {"use_dora": True}, r"is \[9\], but .* makes it \[64\]"),
    ({}, {"lora_bias": True}, "lora_bias is true, but model.layers.0.mlp.down_proj has no lora_B.bias"),
    (
        {f"{DOWN_PROJ}.lora_B.bias": (HIDDEN,)},
        {},
        "it changes model.layers.0.mlp.down_proj.bias, which this one does not store",
    ),
    ({}, {"modules_to_save": ["lm_head"]}, "modules_to_save names lm_head, but the adapter does not hold it"),
    ({}, {"modules_to_save": ["norm"]}, "modules_to_save names model.norm, but"),
    ({}, {"trainable_token_indices": [1]}, "rows of these tokens are not in the adapter"),
    (
        {f"{EMBEDDING}.token_adapter.trainable_tokens_delta": (2, HIDDEN)},
        {"trainable_token_indices": [1]},
        r"is \[2, 64\], but model.embed_tokens.weight makes it \[1, 64\]",
    ),
    (
        {f"{EMBEDDING}.token_adapter.trainable_tokens_delta": (2, HIDDEN)},
        {"trainable_token_indices": {"embed_tokens": [1, VOCAB]}},
        "names the token 384, but model.embed_tokens.weight has 384 rows",
    ),
    (
        {f"{EMBEDDING}.token_adapter.trainable_tokens_delta": (2, HIDDEN)},
        {},
        "trainable_token_indices gives no list of token ids for model.embed_tokens",
    ),
    (
        {f"{EMBEDDING}.weight": (VOCAB + 6, HIDDEN)},
        {"modules_to_save": ["embed_tokens"]},
        "leaves model.embed_tokens.weight 390 rows and lm_head.weight 384 rows",
    ),
]


@pytest.mark.parametrize(("tensors", "config", "message"), FAULTS)
def test_parts_that_do_not_fit(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], config: dict[str, Any], message: str
) -> None:
    tied = config.get("tied", True)
    adapter = adapter_with(tmp_path / "a", tensors, **{key: value for key, value in config.items() if key != "tied"})
    with pytest.raises(AdapterInvalid, match=message):
        check_fits(adapter, BASE, tied=tied)


def test_a_base_with_a_single_number_in_place_of_a_matrix(tiny_adapter: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    with pytest.raises(AdapterInvalid, match=rf"make \[64, 64\], but {name} is \[\]"):
        check_fits(open_adapter(tiny_adapter), BASE | {name: ()})


def test_a_resized_vocabulary_is_told_by_its_shape(tmp_path: Path) -> None:
    grown, shrunk = (VOCAB + 6, HIDDEN), (VOCAB - 6, HIDDEN)
    both = adapter_with(tmp_path / "both", {f"{EMBEDDING}.weight": grown, f"{HEAD}.weight": grown})
    assert check_fits(both, BASE, tied=True)["model.embed_tokens.weight"] == grown
    # What is not one module's own copy replaces the matrix that both share.
    for name in (f"{EMBEDDING}.base_layer.weight", f"{HEAD}.weight"):
        one = adapter_with(tmp_path / name, {name: shrunk})
        after = check_fits(one, BASE, tied=True)
        assert (after["model.embed_tokens.weight"], after["lm_head.weight"]) == (shrunk, shrunk)


def test_an_embedding_of_more_rows_than_the_output_layer_grows_beside_it(tmp_path: Path) -> None:
    base = BASE | {"model.embed_tokens.weight": (VOCAB + 8, HIDDEN), "lm_head.weight": (VOCAB, HIDDEN)}
    grown = {f"{EMBEDDING}.weight": (VOCAB + 14, HIDDEN), f"{HEAD}.weight": (VOCAB + 6, HIDDEN)}
    check_fits(open_adapter(checkpoints.make_adapter(tmp_path / "plain")), base)
    check_fits(adapter_with(tmp_path / "both", grown), base)
    with pytest.raises(AdapterInvalid, match=r"392 rows and lm_head.weight 390 rows"):
        check_fits(adapter_with(tmp_path / "one", {f"{HEAD}.weight": (VOCAB + 6, HIDDEN)}), base)


def test_changes_of_what_is_left_out_are_left_out_too(tiny_adapter: Path) -> None:
    adapter = open_adapter(tiny_adapter)
    assert leave_out(adapter, frozenset({"vision_model.patch.weight"})) == (adapter, "")
    # The names of the base may lack the first part of those of the adapter.
    kept, told = leave_out(adapter, frozenset({"layers.0.self_attn.q_proj.weight"}))
    assert len(find_changes(kept)) == len(find_changes(adapter)) - 1
    assert told.startswith("2 of the adapter's 8 tensors change what is left out: ")
    with pytest.raises(AdapterInvalid, match="all that it changes is left out of a text model") as caught:
        leave_out(adapter, frozenset(find_changes(adapter)))
    assert "modules of the text model" in (caught.value.hint or "")


def test_a_resized_embedding_beside_an_untied_output_layer(tmp_path: Path) -> None:
    base = BASE | {"lm_head.weight": (VOCAB, HIDDEN)}
    adapter = adapter_with(tmp_path / "a", {f"{EMBEDDING}.weight": (VOCAB + 6, HIDDEN)})
    with pytest.raises(AdapterInvalid, match=r"390 rows and lm_head.weight 384 rows") as caught:
        check_fits(adapter, base)
    assert "modules_to_save" in str(caught.value.hint)


def test_patterns_take_time_in_proportion_to_a_name(tiny_adapter: Path) -> None:
    pattern = "(.+)+" * 30 + "x"
    folder = checkpoints.make_adapter(tiny_adapter, alpha_pattern={pattern: 1, "layers.0.*q_proj": 2})
    adapter = open_adapter(folder)
    assert rank_and_scale(adapter, "base_model.model.model.layers.0.self_attn.q_proj") == (4, 0.5)
    assert rank_and_scale(adapter, "base_model.model.model.layers.1.self_attn.q_proj") == (4, 2.0)
