"""Which matrix is stored how: in the recipe's precision, or by a budget of bits that goes where it helps most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from edgeship.builder.layout import Matrix, Storage, Vector, matrix_bytes
from edgeship.builder.quantize import Scheme
from edgeship.errors import PrecisionUnsupported
from edgeship.recipe import BLOCK_SIZES, Precision, Recipe

_PLAIN: dict[Precision, Storage] = {Precision.FP32: "float32", Precision.FP16: "float16"}


def allocate(
    weights: Sequence[Matrix | Vector], recipe: Recipe, sensitivities: Mapping[str, float] | None = None
) -> dict[str, Storage]:
    """The storage of every matrix by name.

    sensitivities: what each matrix costs in quality at 4 bits, for a recipe with a budget of bits; all the same by
    default. Raises PrecisionUnsupported where not even 4 bits for all fit into that budget.
    """
    matrices = [weight for weight in weights if isinstance(weight, Matrix)]
    plain = _PLAIN.get(recipe.precision)
    if plain is not None:
        return {matrix.name: plain for matrix in matrices}
    chosen: dict[str, Storage] = {matrix.name: scheme(matrix, recipe, recipe.precision.bits) for matrix in matrices}
    if recipe.bits is None:
        return chosen
    return _spend(matrices, recipe, recipe.bits, chosen, sensitivities or {})


def _spend(
    matrices: Sequence[Matrix],
    recipe: Recipe,
    bits: float,
    chosen: dict[str, Storage],
    sensitivities: Mapping[str, float],
) -> dict[str, Storage]:
    """8 bits for the matrices that gain most by a byte, until the budget is spent."""
    elements = sum(matrix.rows * matrix.width for matrix in matrices)
    left = bits * elements / 8 - sum(matrix_bytes(matrix, chosen[matrix.name]) for matrix in matrices)
    if left < 0:
        least = bits - 8 * left / elements
        raise PrecisionUnsupported(
            f"4 bits with blocks of {recipe.block_size} take {least:.2f} bits a weight, scales included, "
            f"and {bits:.2f} are allowed",
            hint="Allow more with --bits or --budget, or take larger blocks.",
        )
    better = {matrix.name: scheme(matrix, recipe, 8) for matrix in matrices}
    costs = {
        matrix.name: matrix_bytes(matrix, better[matrix.name]) - matrix_bytes(matrix, chosen[matrix.name])
        for matrix in matrices
    }
    for name in sorted(costs, key=lambda name: sensitivities.get(name, 1.0) / costs[name], reverse=True):
        if costs[name] <= left:
            chosen[name] = better[name]
            left -= costs[name]
    return chosen


def scheme(matrix: Matrix, recipe: Recipe, bits: int) -> Scheme:
    """The recipe's blocks at `bits`, or smaller ones where those take less: a row's last block is stored whole."""
    method: Literal["rtn", "search"] = "rtn" if recipe.method == "rtn" else "search"
    possible = [Scheme(bits, size, recipe.symmetric, method) for size in BLOCK_SIZES if size <= recipe.block_size]
    return min(reversed(possible), key=lambda scheme: matrix_bytes(matrix, scheme))
