"""Rotary position embedding: the frequencies that config.json asks for.

Formulas: RoPE (Su et al. 2021), YaRN (Peng et al. 2023), LongRoPE (Ding et al. 2024) and Llama 3's scaling, in float32
as transformers computes them, since positions multiply whatever is rounded away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeship.errors import CheckpointInvalid

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

KINDS = ("default", "linear", "llama3", "yarn", "longrope")


@dataclass(frozen=True)
class Rope:
    """One rotary embedding.

    frequencies: radians a position, one for each pair of rotated elements. scale: on cosine and sine.
    long_frequencies: in their place where a sequence has more than `switch_tokens` tokens; None where they never
    change.
    """

    frequencies: tuple[float, ...]
    scale: float = 1.0
    long_frequencies: tuple[float, ...] | None = None
    switch_tokens: int = 0


def make_rope(parameters: Mapping[str, Any], head_size: int, context_tokens: int, where: str) -> Rope:
    """The embedding of `parameters`, which hold rope_type, rope_theta and what that type needs.

    Raises CheckpointInvalid naming the field that is missing, or the type where it is none of KINDS.
    """
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind not in KINDS:
        raise CheckpointInvalid(
            f"rope_type is {kind!r}, which cannot be converted", where=where, hint=f"Known: {', '.join(KINDS)}."
        )
    need = _Needed(parameters, where)
    size = int(head_size * float(parameters.get("partial_rotary_factor") or 1.0))
    plain = _plain(float(need.number("rope_theta")), size)
    if kind == "linear":
        return Rope(_tuple(plain / need.number("factor")))
    if kind == "llama3":
        return Rope(_tuple(_llama3(plain, need)))
    if kind == "yarn":
        return _yarn(plain, size, need, context_tokens)
    if kind == "longrope":
        return _longrope(plain, need, context_tokens)
    return Rope(_tuple(plain))


class _Needed:
    """Fields of the parameters; a missing one is an error that names it."""

    def __init__(self, parameters: Mapping[str, Any], where: str) -> None:
        self.parameters, self.where = parameters, where

    def number(self, name: str) -> float:
        value = self.parameters.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self._wrong(name, value, "a number above zero")
        return float(value)

    def factors(self, name: str, count: int) -> Floats:
        import numpy as np

        value = self.parameters.get(name)
        if not isinstance(value, list) or len(value) != count:
            raise self._wrong(name, value, f"a list of {count} numbers")
        return np.asarray(value, dtype=np.float32)

    def optional(self, name: str) -> float | None:
        return None if self.parameters.get(name) is None else self.number(name)

    def _wrong(self, name: str, value: object, wanted: str) -> CheckpointInvalid:
        return CheckpointInvalid(
            f"the rope parameter {name} must be {wanted}, not {value!r}",
            where=self.where,
            hint="Take config.json from the model that was fine-tuned.",
        )


def _plain(theta: float, size: int) -> Floats:
    """float32 [size / 2]."""
    import numpy as np

    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    return np.asarray(np.float32(1.0) / np.float32(theta) ** exponents, dtype=np.float32)


def _llama3(plain: Floats, need: _Needed) -> Floats:
    """Long waves are stretched by `factor`, short ones kept, those between blended."""
    import numpy as np

    factor, low, high = (need.number(name) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = need.number("original_max_position_embeddings") * plain / np.float32(2 * math.pi)
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return np.asarray((1 - blend) * plain / factor + blend * plain, dtype=np.float32)


def _yarn(plain: Floats, size: int, need: _Needed, context_tokens: int) -> Rope:
    import numpy as np

    original = need.number("original_max_position_embeddings")
    factor = need.optional("factor") or context_tokens / original
    truncate = need.parameters.get("truncate", True)

    def bound(turns: float, toward: Any) -> float:
        """The element that makes so many turns over the original context."""
        log_theta = math.log(need.number("rope_theta"))
        index = size * math.log(original / (turns * 2 * math.pi)) / (2 * log_theta)
        return float(toward(index)) if truncate else index

    low = max(bound(need.optional("beta_fast") or 32.0, math.floor), 0.0)
    high = min(bound(need.optional("beta_slow") or 1.0, math.ceil), size - 1.0)
    high += 0.001 if low == high else 0.0
    stretched = np.clip((np.arange(size // 2, dtype=np.float32) - low) / (high - low), 0.0, 1.0)
    frequencies = plain / factor * stretched + plain * (1 - stretched)
    return Rope(_tuple(frequencies), _yarn_scale(factor, need))


def _yarn_scale(factor: float, need: _Needed) -> float:
    stated = need.optional("attention_factor")
    if stated is not None:
        return stated

    def grown(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    mscale, over_all = need.optional("mscale"), need.optional("mscale_all_dim")
    return grown(mscale) / grown(over_all) if mscale and over_all else grown(1.0)


def _longrope(plain: Floats, need: _Needed, context_tokens: int) -> Rope:
    original = int(need.number("original_max_position_embeddings"))
    factor = need.optional("factor") or context_tokens / original
    scale = need.optional("attention_factor")
    if scale is None:
        scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    short, long = (need.factors(name, len(plain)) for name in ("short_factor", "long_factor"))
    return Rope(_tuple(plain / short), scale, _tuple(plain / long), original)


def _tuple(values: npt.NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
