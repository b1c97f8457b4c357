"""Which budget of bits is tried next, and how it is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.choice.escalation import (
    BUDGETS,
    MOST_TRIES,
    STEP_BITS,
    Attempt,
    in_words,
    next_budget,
    with_budget,
)
from edgeship.package.names import is_name
from edgeship.recipe import Precision, Recipe

SMALLEST = Attempt("int4", 4.23, good_enough=False)


def tries(needed: float, *known: Attempt) -> list[Attempt]:
    """All that is tried where `needed` bits hold and fewer do not."""
    attempts = list(known)
    while (bits := next_budget(attempts)) is not None:
        attempts.append(Attempt(f"int4-{bits}", bits, good_enough=bits >= needed))
    return attempts[len(known) :]


@given(st.floats(4.3, 8.0))
def test_the_smallest_budget_that_holds_is_found(needed: float) -> None:
    found = tries(needed, SMALLEST)
    held = min((attempt.bits for attempt in found if attempt.good_enough), default=None)
    assert held == next((bits for bits in BUDGETS if bits >= needed), None)
    assert len(found) <= MOST_TRIES


@given(st.floats(4.5, 9.0), st.floats(4.0, 8.5))
def test_what_is_known_is_not_tried_again(needed: float, base: float) -> None:
    int8 = Attempt("int8", 8.13, good_enough=True)
    for attempt in tries(needed, Attempt("int4", base, good_enough=False), int8):
        assert base + STEP_BITS / 2 < attempt.bits < int8.bits - STEP_BITS / 2


def test_where_int8_does_not_hold_nothing_smaller_is_tried() -> None:
    assert (
        next_budget([SMALLEST, Attempt("int8", 8.13, good_enough=False), Attempt("fp16", 16.0, good_enough=True)])
        is None
    )


@pytest.mark.parametrize("bits", BUDGETS)
def test_a_name_says_the_budget(bits: float) -> None:
    recipe = with_budget(Recipe(precision=Precision.INT4, bits=6.1, tolerance=0.15), bits)
    assert (recipe.bits, recipe.tolerance, recipe.label) == (bits, None, f"int4-{bits:g}bits")
    assert is_name(f"model-{recipe.label}")


@pytest.mark.parametrize(
    ("attempts", "said"),
    [
        (
            [SMALLEST, Attempt("a", 5.5, good_enough=True)],
            "INT4 is good enough at 5.5 bits a weight; at 4.23 it is not",
        ),
        (
            [
                Attempt("a", 6.0, good_enough=True),
                Attempt("b", 5.0, good_enough=False),
                SMALLEST,
                Attempt("c", 7.0, good_enough=True),
            ],
            "INT4 is good enough at 6 bits a weight; at 4.23 and 5 it is not",
        ),
        (
            [SMALLEST, *(Attempt("a", bits, good_enough=False) for bits in (6.0, 7.0, 8.0))],
            "INT4 is not good enough at 4.23, 6, 7 or 8 bits a weight",
        ),
    ],
)
def test_what_became_of_all_tries_is_said(attempts: list[Attempt], said: str) -> None:
    assert in_words(attempts) == said
