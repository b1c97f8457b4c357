"""Which matrix is stored how: in the recipe's precision, or with more bits where they help most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from edgeship.builder.layout import Matrix, Storage, Vector, matrix_bytes
from edgeship.builder.quantize import Scheme
from edgeship.checkpoint.packed import Grid
from edgeship.errors import PrecisionUnsupported
from edgeship.recipe import BLOCK_SIZES, Precision, Recipe

SMALL_BLOCK, COST_OF_SMALL_BLOCKS = 32, 0.62
"""Weights, and what 4 bits cost in such blocks, of what they cost in blocks of 128.

The error goes with the square of a block's range, and 128 normal numbers range 1.26 times as far as 32.
"""
_PLAIN: dict[Precision, Storage] = {Precision.FP32: "float32", Precision.FP16: "float16"}


def allocate(
    weights: Sequence[Matrix | Vector],
    recipe: Recipe,
    sensitivities: Mapping[str, float] | None = None,
    kept: Mapping[str, Scheme] = MappingProxyType({}),
) -> dict[str, Storage]:
    """The storage of every matrix by name.

    kept: of those that keep the integers they have (`keepable`): more bits would make nothing better. Nor do those of
    experts get more: what each costs is not known, and all of a layer have blocks of one size.
    sensitivities: the KLD that each matrix costs at 4 bits, in nats, for a recipe with a budget of bits or a tolerance.
    As long as they are not known all count as the same, and as intolerable: no build takes more than is allocated then.
    Raises PrecisionUnsupported where not even 4 bits for all fit into the budget.
    """
    every = [weight for weight in weights if isinstance(weight, Matrix)]
    exact: dict[str, Storage] = {matrix.name: "float32" for matrix in every if matrix.exact}
    matrices = [matrix for matrix in every if not matrix.exact]
    plain = _PLAIN.get(recipe.precision)
    if plain is not None:
        return exact | {matrix.name: plain for matrix in matrices}
    chosen: dict[str, Storage] = {matrix.name: scheme(matrix, recipe, recipe.precision.bits) for matrix in matrices}
    chosen |= kept
    if not recipe.budgeted:
        return exact | chosen
    tolerance = (recipe.tolerance or 0.0) if sensitivities else 0.0
    open_to_choice = [matrix for matrix in matrices if matrix.name not in kept and matrix.stack is None]
    costs = {matrix.name: sensitivities[matrix.name] if sensitivities else 1.0 for matrix in open_to_choice}
    return exact | _spend(open_to_choice, recipe, chosen, costs, tolerance, _budget_bytes(matrices, recipe, chosen))


def keepable(weights: Sequence[Matrix | Vector], grids: Mapping[str, Grid], recipe: Recipe) -> dict[str, Scheme]:
    """The matrices, by name, that keep the integers that all of their parts have, and how they are stored.

    grids: by tensor. A group that is a legal block is one; a larger one becomes blocks of the recipe's size or less.
    Columns that lie apart are put together by their groups, in one order for all parts of a matrix, or not at all.
    """
    found = {}
    for matrix in (weight for weight in weights if isinstance(weight, Matrix) and not (weight.exact or weight.stack)):
        parts = [grids.get(part.tensor) for part in matrix.parts]
        known = [grid for grid in parts if grid is not None and grid.bits == recipe.precision.bits]
        sizes = [size for grid in known if (size := _block_size(grid.group_size, matrix.width, recipe.block_size))]
        orders = {grid.order for grid in known}
        if len(sizes) == len(parts) and len(orders) == 1:
            symmetric = all(grid.symmetric for grid in known)
            found[matrix.name] = Scheme(recipe.precision.bits, min(sizes), symmetric, "kept", orders.pop())
    return found


def _block_size(group_size: int, width: int, largest: int) -> int | None:
    """Elements in a block for groups of this size; None where none divides them."""
    if group_size in BLOCK_SIZES:
        return group_size
    fitting = [size for size in BLOCK_SIZES if size <= largest and (group_size % size == 0 or group_size >= width)]
    return max(fitting, default=None)


@dataclass(frozen=True)
class _Step:
    """A matrix stored better than before. saved, left: of its cost, in nats; added: bytes."""

    name: str
    before: Storage
    after: Storage
    saved: float
    left: float
    added: int


def _spend(
    matrices: Sequence[Matrix],
    recipe: Recipe,
    chosen: dict[str, Storage],
    sensitivities: Mapping[str, float],
    tolerance: float,
    budget: float,
) -> dict[str, Storage]:
    """More bits where they save most for their size, until the budget is spent or what is left is tolerable."""
    costs = dict(sensitivities)
    steps = [step for matrix in matrices for step in _steps(matrix, recipe, sensitivities[matrix.name])]
    for step in sorted(steps, key=lambda step: step.saved / step.added, reverse=True):
        if math.fsum(costs.values()) <= tolerance:
            break
        if step.added <= budget and chosen[step.name] == step.before:
            chosen[step.name], costs[step.name] = step.after, step.left
            budget -= step.added
    return chosen


def _steps(matrix: Matrix, recipe: Recipe, cost: float) -> list[_Step]:
    """4 bits in small blocks, which save more for their size, and then 8 bits, to which zero points add nothing."""
    small = recipe.model_copy(update={"block_size": min(SMALL_BLOCK, recipe.block_size)})
    fine = recipe.model_copy(update={"symmetric": True})
    ways = [
        (scheme(matrix, recipe, 4), cost),
        (scheme(matrix, small, 4), cost * COST_OF_SMALL_BLOCKS),
        (scheme(matrix, fine, 8), 0.0),
    ]
    plain, *others = [(storage, left, matrix_bytes(matrix, storage)) for storage, left in ways]
    larger = [way for way in others if way[2] > plain[2]]
    return [
        _Step(matrix.name, before, after, saved=high - low, left=low, added=size - size_before)
        for (before, high, size_before), (after, low, size) in pairwise([plain, *larger])
    ]


def _budget_bytes(matrices: Sequence[Matrix], recipe: Recipe, chosen: Mapping[str, Storage]) -> float:
    """What the recipe allows beyond `chosen`."""
    if recipe.bits is None:
        return math.inf
    elements = sum(matrix.rows * matrix.width for matrix in matrices)
    left = recipe.bits * elements / 8 - sum(matrix_bytes(matrix, chosen[matrix.name]) for matrix in matrices)
    if left < 0 and recipe.tolerance is None:
        least = recipe.bits - 8 * left / elements
        kept = any(isinstance(storage, Scheme) and storage.method == "kept" for storage in chosen.values())
        what = "the checkpoint's own integers" if kept else f"4 bits with blocks of {recipe.block_size}"
        raise PrecisionUnsupported(
            f"{what} take {least:.2f} bits a weight, scales included, and {recipe.bits:.2f} are allowed",
            hint="Allow more with --bits or --budget, or take larger blocks.",
        )
    return left


def scheme(matrix: Matrix, recipe: Recipe, bits: int) -> Scheme:
    """The recipe's blocks at `bits`, or smaller ones where those take less: a row's last block is stored whole.

    Of experts the largest that rows are whole blocks of. Raises PrecisionUnsupported where none is.
    """
    method: Literal["rtn", "search"] = "rtn" if recipe.method == "rtn" else "search"
    possible = [Scheme(bits, size, recipe.symmetric, method) for size in BLOCK_SIZES if size <= recipe.block_size]
    if matrix.stack is not None:
        possible = [scheme for scheme in possible if matrix.stack.unit % scheme.block_size == 0][-1:]
        if not possible:
            raise PrecisionUnsupported(
                f"{matrix.name} holds experts whose rows are not made of whole blocks of {BLOCK_SIZES[0]} or more: "
                f"their widths are multiples of {matrix.stack.unit}",
                hint="Build fp32 or fp16 instead.",
            )
    return min(reversed(possible), key=lambda scheme: matrix_bytes(matrix, scheme))
