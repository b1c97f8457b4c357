"""Bits for INT4 where the smallest candidate does not hold: which budget to try next, and what became of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.recipe import Recipe

STEP_BITS = 0.5
"""Budgets lie so far apart: a tenth of INT4's size."""
BUDGETS = tuple(STEP_BITS * step for step in range(9, 17))
"""Bits a weight, up to about what INT8 takes, which is a candidate of its own."""
MOST_TRIES = len(BUDGETS).bit_length()


@dataclass(frozen=True)
class Attempt:
    """A candidate, its bits a weight with scales included, and whether its quality holds."""

    label: str
    bits: float
    holds: bool


def next_budget(attempts: Sequence[Attempt]) -> float | None:
    """The middle of the budgets that may be the smallest that holds; None where none is left.

    More bits are taken to hold where fewer do.
    """
    failed = max((found.bits for found in attempts if not found.holds), default=0.0)
    held = min((found.bits for found in attempts if found.holds), default=math.inf)
    left = [bits for bits in BUDGETS if failed + STEP_BITS / 2 < bits < held - STEP_BITS / 2]
    return left[(len(left) - 1) // 2] if left else None


def next_step(failed_bits: float) -> float | None:
    """The smallest budget above what just does not hold; None where that has as many bits as there are."""
    return next((bits for bits in BUDGETS if bits > failed_bits + STEP_BITS / 2), None)


def with_budget(recipe: Recipe, bits: float) -> Recipe:
    """The recipe with so many bits to spend, under a name that says so."""
    return recipe.model_copy(update={"name": f"{recipe.label}-{bits:g}bits", "bits": bits, "tolerance": None})


def in_words(attempts: Sequence[Attempt]) -> str:
    """How many bits hold, and how many do not; some do not."""
    held = [found.bits for found in attempts if found.holds]
    *others, last = [f"{bits:.3g}" for bits in sorted(found.bits for found in attempts if not found.holds)]
    failed = [*([", ".join(others)] if others else []), last]
    if not held:
        return f"INT4 does not hold at {' or '.join(failed)} bits a weight"
    return f"INT4 holds at {min(held):.3g} bits a weight; at {' and '.join(failed)} it does not"
