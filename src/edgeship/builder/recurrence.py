"""Layers that keep a state of a fixed size in place of keys and values: their sizes, as config.json gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from edgeship.checkpoint.families import RecurrenceKind, Traits
from edgeship.system.fields import Fields


@dataclass(frozen=True)
class GatedDelta:
    """The gated delta rule behind a short convolution (Yang et al. 2024), as Qwen3-Next has it.

    Each key head serves value_heads / key_heads value heads side by side. taps: tokens that the convolution sees.
    """

    key_heads: int
    value_heads: int
    key_size: int
    value_size: int
    taps: int
    kind: ClassVar[RecurrenceKind] = "gated_delta"

    @property
    def channels(self) -> int:
        """Of the convolution: queries, keys and values of all heads."""
        return 2 * self.key_heads * self.key_size + self.value_heads * self.value_size

    @property
    def states(self) -> dict[str, tuple[int, ...]]:
        """What a sequence leaves behind: the last inputs of the convolution, and a matrix for each head."""
        matrices = (self.value_heads, self.key_size, self.value_size)
        return {"conv": (self.channels, self.taps - 1), "recurrent": matrices}


@dataclass(frozen=True)
class ShortConvolution:
    """A gated convolution over the last `taps` tokens, as LFM2 has it."""

    channels: int
    taps: int
    kind: ClassVar[RecurrenceKind] = "short_convolution"

    @property
    def states(self) -> dict[str, tuple[int, ...]]:
        """What a sequence leaves behind: the last inputs of the convolution."""
        return {"conv": (self.channels, self.taps - 1)}


Recurrence = GatedDelta | ShortConvolution
LAYER_TYPES: Mapping[RecurrenceKind, str] = {"gated_delta": "linear_attention", "short_convolution": "conv"}
"""What config.json calls such layers in its layer_types."""


def read_recurrence(traits: Traits, config: Fields, hidden_size: int) -> Recurrence | None:
    """The sizes of a family's recurrent layers; None for a family that has none. Raises CheckpointInvalid."""
    if traits.recurrence == "gated_delta":
        names = ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim", "conv_kernel_dim")
        found = GatedDelta(*(config.required_count(f"linear_{name}") for name in names))
        if found.value_heads % found.key_heads:
            raise config.refuse(
                f"has linear_num_value_heads {found.value_heads}, "
                f"which is no multiple of linear_num_key_heads {found.key_heads}"
            )
        return found
    if traits.recurrence == "short_convolution":
        return ShortConvolution(hidden_size, config.required_count("conv_L_cache", least=2))
    return None


def recurrent_layers(traits: Traits, config: Fields, layers: int) -> list[bool]:
    """Whether each layer keeps a state in place of keys and values."""
    if traits.recurrence is None:
        return [False] * layers
    name = LAYER_TYPES[traits.recurrence]
    if types := config.texts("layer_types"):
        return [kind == name for kind in types]
    if (interval := config.count("full_attention_interval")) is not None:
        return [(index + 1) % interval != 0 for index in range(layers)]
    attending = config.items("full_attn_idxs")
    return [bool(attending) and index not in attending for index in range(layers)]
