"""The keys and values of each layer, which are not alike in every family.

Gemma 4's layers that see all tokens have larger heads than those with a window, and its last layers have no keys and
values of their own: they look at those of the last layer of their kind that has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.checkpoint.dimensions import Dimensions
from edgeship.system.fields import Fields, shown

_MOST_HEADS, _LARGEST_HEAD = 1 << 16, 1 << 14
_DIGITS = 9
_OVERRIDDEN = ("head_dim", "num_key_value_heads")


@dataclass(frozen=True)
class Keys:
    """The keys of one layer, and its values, which have the same shape.

    of_layer: the earlier layer whose keys and values are used; None where the layer has its own.
    are_values: the values are the keys as they are before any norm.
    """

    heads: int
    size: int
    of_layer: int | None = None
    are_values: bool = False

    @property
    def numbers(self) -> int:
        """Kept of each token."""
        return 2 * self.heads * self.size if self.of_layer is None else 0


def read_keys(config: Fields, sizes: Dimensions, sliding: Sequence[bool]) -> tuple[Keys, ...]:
    """Of every layer. sliding: whether each has a window. Raises CheckpointInvalid naming the field."""
    own = sizes.layers - (config.count("num_kv_shared_layers", least=0) or 0)
    single = _single_layers(config, sizes.layers)
    found = []
    for index, slides in enumerate(sliding):
        heads, size = _shape(config, sizes, slides=slides) if single is None else _of_layer(single.get(index), sizes)
        if sizes.heads % heads:
            raise config.refuse(f"gives layer {index} {heads} key heads for {sizes.heads} heads")
        found.append(
            Keys(
                heads,
                size,
                of_layer=_source(config, sliding, index, own) if index >= own else None,
                are_values=bool(config.flag("attention_k_eq_v")) and not slides,
            )
        )
    return tuple(found)


def _shape(config: Fields, sizes: Dimensions, *, slides: bool) -> tuple[int, int]:
    """Key heads of a layer and their size, as they are on the Hub."""
    if slides:
        return sizes.kv_heads, sizes.head_size
    heads = config.count("num_global_key_value_heads", most=_MOST_HEADS) if config.flag("attention_k_eq_v") else None
    return heads or sizes.kv_heads, config.count("global_head_dim", most=_LARGEST_HEAD) or sizes.head_size


def _of_layer(layer: Fields | None, sizes: Dimensions) -> tuple[int, int]:
    """The same by what is said of one layer; None for nothing."""
    if layer is None:
        return sizes.kv_heads, sizes.head_size
    other = next((key for key in layer.values if key not in _OVERRIDDEN), None)
    if other is not None:
        raise layer.refuse(f"has {layer.name}{other} {shown(layer.values[other])}, which cannot be converted")
    heads, size = layer.count("num_key_value_heads", most=_MOST_HEADS), layer.count("head_dim", most=_LARGEST_HEAD)
    return heads or sizes.kv_heads, size or sizes.head_size


def _single_layers(config: Fields, layers: int) -> dict[int, Fields] | None:
    """What transformers 5 writes of single layers, by their numbers, which it writes with leading zeros."""
    if config.values.get("per_layer_config") is None:
        return None
    stated = config.part("per_layer_config")
    found: dict[int, Fields] = {}
    for key in stated.values:
        index = int(key) if key.isascii() and key.isdigit() and len(key) <= _DIGITS else layers
        if index >= layers or index in found:
            raise config.refuse(f"has per_layer_config with {shown(key)}, which is not one of its {layers} layers")
        found[index] = stated.part(key)
    return found


def _source(config: Fields, sliding: Sequence[bool], index: int, own: int) -> int:
    """The last layer of the same kind that has keys of its own."""
    same = [earlier for earlier in range(max(own, 0)) if sliding[earlier] == sliding[index]]
    if not same:
        raise config.refuse(
            f"has num_kv_shared_layers {config.values['num_kv_shared_layers']}, and no layer of layer {index}'s kind "
            "has keys of its own"
        )
    return same[-1]
