"""Which matrices get 8 bits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.builder import sensitivities
from edgeship.builder.allocation import COST_OF_SMALL_BLOCKS, allocate
from edgeship.builder.layout import Matrix, Part, matrix_bytes
from edgeship.builder.quantize import Scheme
from edgeship.recipe import Recipe

MATRICES = [Matrix(name, (Part(name, 0, rows),), 128) for name, rows in (("a", 64), ("b", 64), ("c", 256), ("d", 8))]
COSTS = st.fixed_dictionaries(
    {matrix.name: st.floats(0, 10) | st.just(sensitivities.UNBEARABLE) for matrix in MATRICES}
)


def stored(recipe: Recipe, costs: dict[str, float] | None = None) -> dict[str, tuple[int, int]]:
    """Bits and block size of every matrix."""
    schemes = {name: each for name, each in allocate(MATRICES, recipe, costs).items() if isinstance(each, Scheme)}
    return {name: (each.bits, each.block_size) for name, each in schemes.items()}


def fine(recipe: Recipe, costs: dict[str, float] | None = None) -> set[str]:
    """The matrices that have 8 bits."""
    return {name for name, (bits, _) in stored(recipe, costs).items() if bits == 8}


def tolerating(nats: float, bits: float | None = None, block_size: int = 32) -> Recipe:
    return Recipe.model_validate({"precision": "int4", "tolerance": nats, "bits": bits, "block_size": block_size})


def test_those_that_cost_most_for_their_size_first_until_the_rest_is_tolerable() -> None:
    costs = {"a": 0.3, "b": 0.1, "c": 0.4, "d": 0.05}
    # For its size "d" costs most: 8 rows, then "a", "c" and "b".
    assert fine(tolerating(1.0), costs) == set()
    assert fine(tolerating(0.8), costs) == {"d"}
    assert fine(tolerating(0.5), costs) == {"d", "a"}
    assert fine(tolerating(0.0), costs) == {"a", "b", "c", "d"}


def test_small_blocks_come_before_8_bits() -> None:
    costs = {"a": 0.3, "b": 0.1, "c": 0.4, "d": 0.05}
    low, small, high = (4, 128), (4, 32), (8, 128)
    assert stored(tolerating(0.85, block_size=128), costs) == {"a": low, "b": low, "c": low, "d": low}
    assert stored(tolerating(0.7, block_size=128), costs) == {"a": small, "b": small, "c": low, "d": small}
    assert stored(tolerating(0.5, block_size=128), costs) == {"a": small, "b": small, "c": small, "d": high}


@given(costs=COSTS, nats=st.floats(0, 20))
def test_what_stays_at_4_bits_costs_no_more_than_is_tolerated(costs: dict[str, float], nats: float) -> None:
    left = {(4, 128): 1.0, (4, 32): COST_OF_SMALL_BLOCKS, (8, 128): 0.0}
    found = stored(tolerating(nats, block_size=128), costs)
    assert math.fsum(costs[name] * left[each] for name, each in found.items()) <= nats


@given(costs=COSTS, nats=st.floats(0, 20), bits=st.floats(4.51, 9))
def test_a_budget_bounds_what_a_tolerance_asks_for(costs: dict[str, float], nats: float, bits: float) -> None:
    chosen = allocate(MATRICES, tolerating(nats, bits), costs)
    elements = sum(matrix.rows * matrix.width for matrix in MATRICES)
    assert sum(matrix_bytes(matrix, chosen[matrix.name]) for matrix in MATRICES) * 8 <= bits * elements


def test_before_anything_is_measured_the_size_is_the_largest_possible() -> None:
    assert fine(tolerating(0.5)) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_tolerance_means_nothing_to_other_precisions(precision: str) -> None:
    recipe, plain = (Recipe.model_validate({"precision": precision, **extra}) for extra in ({"tolerance": 0.1}, {}))
    assert allocate(MATRICES, recipe) == allocate(MATRICES, plain)
    assert recipe.to_key() == plain.to_key()
