"""The keys of each layer, as config.json says them."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.builder.layer_keys import Keys, read_keys
from edgeship.checkpoint.dimensions import Dimensions
from edgeship.errors import CheckpointInvalid
from edgeship.system.fields import Fields

SIZES = Dimensions("gemma4_text", 64, 6, 8, 2, 16, 128, 300, 256)
SLIDING = [True, True, False] * 2


def keys(**config: Any) -> tuple[Keys, ...]:
    return read_keys(Fields(config, CheckpointInvalid), SIZES, SLIDING)


def test_layers_are_alike_where_nothing_says_otherwise() -> None:
    assert set(keys()) == {Keys(2, 16)}


def test_layers_that_see_all_tokens_have_heads_of_their_own() -> None:
    stated = {"global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": True}
    assert keys(**stated)[:3] == (Keys(2, 16), Keys(2, 16), Keys(1, 32, are_values=True))
    assert keys(**stated | {"attention_k_eq_v": False})[2] == Keys(2, 32)


def test_both_ways_to_write_them_say_the_same() -> None:
    on_the_hub = keys(global_head_dim=32, num_kv_shared_layers=3)
    for written in ("{}", "{:02}"):  # transformers fills numbers up with zeros where there are ten layers or more
        single = {written.format(layer): {"head_dim": 32} for layer in (2, 5)}
        assert keys(per_layer_config=single, num_kv_shared_layers=3) == on_the_hub


def test_the_last_layers_look_at_the_last_of_their_kind() -> None:
    assert [layer.of_layer for layer in keys(num_kv_shared_layers=3)] == [None, None, None, 1, 1, 2]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"num_kv_shared_layers": 4}, "num_kv_shared_layers 4, and no layer of layer 2's kind"),
        ({"num_kv_shared_layers": 9}, "num_kv_shared_layers 9, and no layer of layer 0's kind"),
        ({"per_layer_config": {"2": {"intermediate_size": 8}}}, r"per_layer_config\.2\.intermediate_size 8"),
        ({"per_layer_config": {"0": {"num_key_value_heads": 3}}}, "gives layer 0 3 key heads for 8 heads"),
        ({"per_layer_config": {"6": {}}}, "per_layer_config with '6', which is not one of its 6 layers"),
        ({"per_layer_config": {"full_attention": {}}}, "per_layer_config with 'full_attention', which is not one"),
        ({"per_layer_config": {"1": {}, "01": {}}}, "per_layer_config with '01', which is not one"),
        ({"global_head_dim": "32"}, "global_head_dim '32'"),
    ],
)
def test_what_cannot_be_is_refused_by_field(config: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointInvalid, match=named):
        keys(**config)
