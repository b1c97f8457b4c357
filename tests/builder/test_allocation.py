"""Which matrices get 8 bits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.builder import sensitivities
from edgeship.builder.allocation import COST_OF_SMALL_BLOCKS, allocate, keepable
from edgeship.builder.layout import Matrix, Part, Stack, matrix_bytes
from edgeship.builder.quantize import Scheme
from edgeship.checkpoint.packed import Grid
from edgeship.errors import PrecisionUnsupported
from edgeship.recipe import Recipe

MATRICES = [Matrix(name, (Part(name, 0, rows),), 128) for name, rows in (("a", 64), ("b", 64), ("c", 256), ("d", 8))]
INT4 = Recipe.model_validate({"precision": "int4", "block_size": 128})
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


# --- experts ---------------------------------------------------------------------------------------------------------


def experts(unit: int) -> list[Matrix]:
    """The matrices of two experts, whose widths are 3 and 5 times this."""
    parts = {"gate_up": 3 * unit, "down": 5 * unit}
    return [Matrix(name, (Part(name, 0, 16),), width, stack=Stack(2, unit)) for name, width in parts.items()]


def test_all_experts_have_blocks_of_one_size_that_divides_their_rows() -> None:
    for unit, size in ((16, 16), (32, 32), (64, 64), (96, 32), (512, 128)):
        chosen = allocate(experts(unit), INT4)
        assert {each.block_size for each in chosen.values() if isinstance(each, Scheme)} == {size}


def test_experts_whose_rows_are_no_whole_blocks_are_refused_by_name() -> None:
    with pytest.raises(
        PrecisionUnsupported, match="gate_up holds experts whose rows are not made of whole blocks of 16"
    ):
        allocate(experts(24), INT4)
    assert set(allocate(experts(24), Recipe.model_validate({"precision": "fp16"})).values()) == {"float16"}


def test_experts_get_no_more_bits_and_keep_no_integers() -> None:
    found = allocate([*MATRICES, *experts(64)], tolerating(0.0), dict.fromkeys("abcd", 1.0))
    assert {each.bits for name, each in found.items() if name in "abcd" and isinstance(each, Scheme)} == {8}
    assert {each.bits for name, each in found.items() if name not in "abcd" and isinstance(each, Scheme)} == {4}
    grid = Grid(4, 64, symmetric=True)
    assert keepable(experts(64), {"gate_up": grid, "down": grid}, INT4) == {}


# --- integers that a checkpoint has ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "scheme"),
    [
        (Grid(4, 64, symmetric=False), Scheme(4, 64, False, "kept")),
        (Grid(4, 256, symmetric=True), Scheme(4, 256, True, "kept")),
        (Grid(4, 512, symmetric=True), Scheme(4, 128, True, "kept")),
        (Grid(4, 48, symmetric=True), Scheme(4, 16, True, "kept")),
        (Grid(4, 127, symmetric=True), None),
        (Grid(8, 64, symmetric=True), None),
    ],
)
def test_groups_become_blocks(grid: Grid, scheme: Scheme | None) -> None:
    assert keepable(MATRICES, {"a": grid}, INT4) == ({} if scheme is None else {"a": scheme})


def test_a_scale_for_each_row_fits_whatever_its_width() -> None:
    odd = Matrix("odd", (Part("odd", 0, 8),), 90)
    assert keepable([odd], {"odd": Grid(4, 90, symmetric=True)}, INT4) == {"odd": Scheme(4, 128, True, "kept")}


def test_a_matrix_is_kept_where_all_of_its_parts_are() -> None:
    fused = Matrix("qkv", (Part("q", 0, 8), Part("k", 0, 8)), 128)
    grids = {"q": Grid(4, 64, symmetric=True)}
    assert keepable([fused], grids, INT4) == {}
    grids["k"] = Grid(4, 32, symmetric=False)
    assert keepable([fused], grids, INT4) == {"qkv": Scheme(4, 32, False, "kept")}


def test_what_is_kept_is_given_no_more_bits() -> None:
    kept = {"a": Scheme(4, 16, False, "kept"), "d": Scheme(4, 16, False, "kept")}
    found = allocate(MATRICES, tolerating(0.0), {"b": 1.0, "c": 1.0}, kept)
    assert {name: found[name] for name in kept} == kept
    assert {scheme.bits for name, scheme in found.items() if name not in kept and isinstance(scheme, Scheme)} == {8}


def test_a_budget_below_what_is_kept_is_refused_by_its_reason() -> None:
    kept = {matrix.name: Scheme(4, 16, False, "kept") for matrix in MATRICES}
    recipe = Recipe.model_validate({"precision": "int4", "bits": 4.5})
    with pytest.raises(PrecisionUnsupported, match=r"the checkpoint's own integers take 5\.[0-9]+ bits a weight"):
        allocate(MATRICES, recipe, None, kept)
