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
    found = []
    for index, slides in enumerate(sliding):
        heads, size = _shape(config, sizes, index, slides=slides)
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


def _shape(config: Fields, sizes: Dimensions, index: int, *, slides: bool) -> tuple[int, int]:
    """Key heads and their size, as transformers 5 writes them for each layer, or as they are on the Hub."""
    if config.values.get("per_layer_config") is not None:
        layer = config.part("per_layer_config").part(str(index))
        other = next((key for key in layer.values if key not in _OVERRIDDEN), None)
        if other is not None:
            raise config.refuse(f"has {layer.name}{other} {shown(layer.values[other])}, which cannot be converted")
        heads, size = layer.count("num_key_value_heads", most=_MOST_HEADS), layer.count("head_dim", most=_LARGEST_HEAD)
    elif slides:
        heads, size = None, None
    else:
        gated = config.flag("attention_k_eq_v")
        heads = config.count("num_global_key_value_heads", most=_MOST_HEADS) if gated else None
        size = config.count("global_head_dim", most=_LARGEST_HEAD)
    return heads or sizes.kv_heads, size or sizes.head_size


def _source(config: Fields, sliding: Sequence[bool], index: int, own: int) -> int:
    """The last layer of the same kind that has keys of its own."""
    same = [earlier for earlier in range(max(own, 0)) if sliding[earlier] == sliding[index]]
    if not same:
        raise config.refuse(
            f"has num_kv_shared_layers {config.values['num_kv_shared_layers']}, and no layer of layer {index}'s kind "
            "has keys of its own"
        )
    return same[-1]
