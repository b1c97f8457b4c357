"""Layers that keep a state of a fixed size in place of keys and values: their sizes, as config.json gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from edgeship.checkpoint.traits import RecurrenceKind, Traits
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


@dataclass(frozen=True)
class Mamba:
    """Mamba-2's selective state space (Dao and Gu 2024), behind a short convolution.

    Each of `groups` serves heads / groups heads side by side. taps: tokens that the convolution sees.
    norm: what is made is normalised, group by group, "before" it is gated or "after"; None where it never is.
    factors: of the gate, what goes in, how it is written and read, and the steps, before anything is done with them.
    """

    heads: int
    head_size: int
    state_size: int
    groups: int
    taps: int
    norm: Literal["before", "after"] | None
    factors: tuple[float, ...] = (1.0,) * 5
    kind: ClassVar[RecurrenceKind] = "mamba"

    @property
    def width(self) -> int:
        """What all heads make."""
        return self.heads * self.head_size

    @property
    def channels(self) -> int:
        """Of the convolution: what goes into the states, and how it is put in and read, by group."""
        return self.width + 2 * self.groups * self.state_size

    @property
    def states(self) -> dict[str, tuple[int, ...]]:
        """What a sequence leaves behind: the last inputs of the convolution, and a matrix for each head."""
        return {"conv": (self.channels, self.taps - 1), "recurrent": (self.heads, self.state_size, self.head_size)}


Recurrence = GatedDelta | ShortConvolution | Mamba
LAYER_TYPES: Mapping[RecurrenceKind, tuple[str, ...]] = {
    "gated_delta": ("linear_attention",),
    "short_convolution": ("conv",),
    "mamba": ("mamba", "linear_attention"),
}
"""What config.json calls such layers in its layer_types; the first is what onnxruntime-genai calls them."""


_NO_LIMITS = ([0.0, math.inf], [0.0, {"__float__": "Infinity"}])
"""Of the steps of Mamba's states, as transformers writes that there are none."""


def read_recurrence(traits: Traits, config: Fields, hidden_size: int) -> Recurrence | None:
    """The sizes of a family's recurrent layers; None for a family that has none. Raises CheckpointInvalid."""
    if traits.recurrence == "gated_delta":
        return _read_gated_delta(config)
    if traits.recurrence == "short_convolution":
        return ShortConvolution(hidden_size, config.required_count("conv_L_cache", least=2))
    return None if traits.recurrence is None else _read_mamba(config, hidden_size)


def recurrent_layers(traits: Traits, config: Fields, layers: int) -> list[bool]:
    """Whether each layer keeps a state."""
    if traits.recurrence is None:
        return [False] * layers
    if traits.recurs_beside:
        return [True] * layers
    if types := config.texts("layer_types"):
        return [kind in LAYER_TYPES[traits.recurrence] for kind in types]
    if (interval := config.count("full_attention_interval")) is not None:
        return [(index + 1) % interval != 0 for index in range(layers)]
    if attending := config.items("full_attn_idxs"):
        return [index not in attending for index in range(layers)]
    return [traits.recurrence == "mamba"] * layers


def _read_gated_delta(config: Fields) -> GatedDelta:
    names = ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim", "conv_kernel_dim")
    found = GatedDelta(*(config.required_count(f"linear_{name}") for name in names))
    _require_multiple(config, "linear_num_value_heads", found.value_heads, "linear_num_key_heads", found.key_heads)
    return found


def _read_mamba(config: Fields, hidden_size: int) -> Mamba:
    heads = config.required_count("mamba_n_heads")
    width = config.count("mamba_d_ssm") or config.required_count("mamba_expand") * hidden_size
    _require_multiple(config, "the width of its states", width, "mamba_n_heads", heads)
    stated = config.values.get("mamba_d_head")
    if stated not in (None, "auto", width // heads):
        raise config.wrong("mamba_d_head", stated, f"{width // heads}, which mamba_n_heads makes it")
    groups = config.required_count("mamba_n_groups")
    _require_multiple(config, "mamba_n_heads", heads, "mamba_n_groups", groups)
    limits = config.items("time_step_limit")
    if limits and limits not in _NO_LIMITS:
        raise config.wrong("time_step_limit", limits, "[0, Infinity]: transformers heeds others for prompts alone")
    norm: Literal["before", "after"] = "before" if config.flag("mamba_norm_before_gate") else "after"
    return Mamba(
        heads=heads,
        head_size=width // heads,
        state_size=config.required_count("mamba_d_state"),
        groups=groups,
        taps=config.required_count("mamba_d_conv", least=2),
        norm=None if config.flag("mamba_rms_norm") is False else norm,
        factors=tuple(config.required_numbers("ssm_multipliers", 5)) if config.items("ssm_multipliers") else (1.0,) * 5,
    )


def _require_multiple(config: Fields, name: str, number: int, of_name: str, of: int) -> None:
    if number % of:
        raise config.refuse(f"has {name} {number}, which is no multiple of {of_name} {of}")
