"""Bits for INT4 where the smallest candidate is not good enough: which budget to try next, and what became of all."""

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
    """A candidate, its bits a weight with scales included, and whether its quality is good enough to ship."""

    label: str
    bits: float
    good_enough: bool


def next_budget(attempts: Sequence[Attempt]) -> float | None:
    """The middle of the budgets that may be the smallest that is good enough; None where none is left.

    More bits are taken to be so where fewer are.
    """
    too_few = max((found.bits for found in attempts if not found.good_enough), default=0.0)
    enough = min((found.bits for found in attempts if found.good_enough), default=math.inf)
    left = [bits for bits in BUDGETS if too_few + STEP_BITS / 2 < bits < enough - STEP_BITS / 2]
    return left[(len(left) - 1) // 2] if left else None


def next_step(failed_bits: float) -> float | None:
    """The smallest budget above what is just not good enough; None where that has as many bits as there are."""
    return next((bits for bits in BUDGETS if bits > failed_bits + STEP_BITS / 2), None)


def with_budget(recipe: Recipe, bits: float) -> Recipe:
    """The recipe with so many bits to spend, under a name that says so."""
    return recipe.model_copy(update={"name": f"{recipe.label}-{bits:g}bits", "bits": bits, "tolerance": None})


def in_words(attempts: Sequence[Attempt]) -> str:
    """How many bits are enough, and how many are not; some are not."""
    enough = [found.bits for found in attempts if found.good_enough]
    *others, last = [f"{bits:.3g}" for bits in sorted(found.bits for found in attempts if not found.good_enough)]
    failed = [*([", ".join(others)] if others else []), last]
    if not enough:
        return f"INT4 is not good enough at {' or '.join(failed)} bits a weight"
    return f"INT4 is good enough at {min(enough):.3g} bits a weight; at {' and '.join(failed)} it is not"
