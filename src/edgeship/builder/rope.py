"""Rotary position embedding: the frequencies that config.json asks for.

Formulas: RoPE (Su et al. 2021), YaRN (Peng et al. 2023), LongRoPE (Ding et al. 2024) and Llama 3's scaling, in float32
as transformers computes them, since positions multiply whatever is rounded away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeship.checkpoint.contradictions import rope_type
from edgeship.system.fields import Fields, shown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

KINDS = ("default", "linear", "llama3", "yarn", "longrope", "proportional")


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


def make_rope(parameters: Fields, head_size: int, context_tokens: int) -> Rope:
    """The embedding of `parameters`, which hold rope_type, rope_theta and what that type needs.

    Raises what `parameters` raise: for a field that is missing or wrong, for a type that is none of KINDS, and for
    numbers from which no frequencies follow.
    """
    import numpy as np

    kind = rope_type(parameters)
    if kind not in KINDS:
        raise parameters.wrong("rope_type", kind, f"one of {', '.join(KINDS)}")
    try:
        with np.errstate(all="ignore"):
            rope = _make(kind, parameters, head_size, context_tokens)
    except (ArithmeticError, ValueError) as error:  # what mathematics says of a division by zero or a root of less
        raise _unusable(parameters) from error
    if not np.isfinite([rope.scale, *rope.frequencies, *(rope.long_frequencies or ())]).all():
        raise _unusable(parameters)
    return rope


def _make(kind: str, parameters: Fields, head_size: int, context_tokens: int) -> Rope:
    part = parameters.number("partial_rotary_factor", above=0, most=1) or 1.0
    if kind == "proportional":
        return _proportional(parameters, head_size, part)
    size = int(head_size * part)
    plain = _plain(parameters.required_number("rope_theta", above=0), size)
    if kind == "linear":
        return Rope(_tuple(plain / parameters.required_number("factor", above=0)))
    if kind == "llama3":
        return Rope(_tuple(_llama3(plain, parameters)))
    if kind == "yarn":
        return _yarn(plain, size, parameters, context_tokens)
    if kind == "longrope":
        return _longrope(plain, parameters, context_tokens)
    return Rope(_tuple(plain))


def _proportional(parameters: Fields, head_size: int, part: float) -> Rope:
    """The whole head takes part, and all but the first pairs stand still."""
    import numpy as np

    plain = _plain(parameters.required_number("rope_theta", above=0), head_size)
    plain /= np.float32(parameters.number("factor", above=0) or 1.0)
    plain[int(part * head_size // 2) :] = 0.0
    return Rope(_tuple(plain))


def _unusable(parameters: Fields) -> Exception:
    stated = ", ".join(f"{key} {shown(value)}" for key, value in parameters.values.items())
    return parameters.refuse(f"has rotary positions from which no frequencies follow: {stated}"[:500])


def _plain(theta: float, size: int) -> Floats:
    """float32 [size / 2]."""
    import numpy as np

    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    return np.asarray(np.float32(1.0) / np.float32(theta) ** exponents, dtype=np.float32)


def _llama3(plain: Floats, parameters: Fields) -> Floats:
    """Long waves are stretched by `factor`, short ones kept, those between blended."""
    import numpy as np

    factor, low = (parameters.required_number(name, above=0) for name in ("factor", "low_freq_factor"))
    high = parameters.required_number("high_freq_factor", above=low)
    turns = parameters.required_number("original_max_position_embeddings", above=0) * plain / np.float32(2 * math.pi)
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return np.asarray((1 - blend) * plain / factor + blend * plain, dtype=np.float32)


def _yarn(plain: Floats, size: int, parameters: Fields, context_tokens: int) -> Rope:
    import numpy as np

    original = parameters.required_number("original_max_position_embeddings", above=0)
    factor = parameters.number("factor", above=0) or context_tokens / original
    truncate = parameters.flag("truncate") is not False

    def bound(turns: float, toward: Any) -> float:
        """The element that makes so many turns over the original context."""
        log_theta = math.log(parameters.required_number("rope_theta", above=0))
        index = size * math.log(original / (turns * 2 * math.pi)) / (2 * log_theta)
        return float(toward(index)) if truncate else index

    low = max(bound(parameters.number("beta_fast", above=0) or 32.0, math.floor), 0.0)
    high = min(bound(parameters.number("beta_slow", above=0) or 1.0, math.ceil), size - 1.0)
    high += 0.001 if low == high else 0.0
    stretched = np.clip((np.arange(size // 2, dtype=np.float32) - low) / (high - low), 0.0, 1.0)
    frequencies = plain / factor * stretched + plain * (1 - stretched)
    return Rope(_tuple(frequencies), _yarn_scale(factor, parameters))


def _yarn_scale(factor: float, parameters: Fields) -> float:
    stated = parameters.number("attention_factor", above=0)
    if stated is not None:
        return stated

    def grown(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    mscale, over_all = parameters.number("mscale", above=0), parameters.number("mscale_all_dim", above=0)
    return grown(mscale) / grown(over_all) if mscale and over_all else grown(1.0)


def _longrope(plain: Floats, parameters: Fields, context_tokens: int) -> Rope:
    import numpy as np

    original = int(parameters.required_number("original_max_position_embeddings", above=0))
    factor = parameters.number("factor", above=0) or context_tokens / original
    scale = parameters.number("attention_factor", above=0)
    if scale is None:
        scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    short, long = (
        np.asarray(parameters.required_numbers(name, len(plain), above=0), np.float32)
        for name in ("short_factor", "long_factor")
    )
    return Rope(_tuple(plain / short), scale, _tuple(plain / long), original)


def _tuple(values: npt.NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
