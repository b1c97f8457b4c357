"""What a checkpoint does when it reads texts: which inputs of its matrices are large, and how they go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeship.builder.feedback import ErrorFactors, error_factors
from edgeship.builder.products import add_gram, mirror
from edgeship.builder.walk import Walk
from edgeship.recipe import BLOCK_SIZES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

WIDEST_GRAM = 6144
"""Inputs: of wider matrices it is measured in parts, since memory grows with the square."""


class Feedback:
    """Guidance for rounding with error feedback: how each matrix's errors are best handed on.

    Measured of a layer's matrices when the first of them is asked for, and dropped for the next layer's.
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._layers = {matrix.name: layer for layer in range(walk.layers) for matrix in walk.matrices(layer)}
        self._grams: dict[str, list[Floats]] = {}
        self._factors: dict[str, list[ErrorFactors]] = {}

    def get(self, name: str, /) -> list[ErrorFactors] | None:
        """By the matrix's name: of every part of its width (`gram_parts`). None for a matrix that only looks up."""
        source = _shares_inputs(name) or name
        if source not in self._layers:
            return None
        if source not in self._factors:
            self._factors.clear()
            if source not in self._grams:
                self._grams.clear()
                self._grams = grams(self._walk, self._layers[source])
            # One at a time, since the rows of a matrix come together.
            self._factors = {source: [error_factors(gram) for gram in self._grams.pop(source)]}
        return self._factors[source]


_SAME_INPUTS = {"up": "gate", "rates": "inputs"}
"""Matrices of a layer that read the same as another."""


def grams(walk: Walk, layer: int) -> dict[str, list[Floats]]:
    """The mean of x'x over the inputs x of a layer's matrices, a part of their width after the other, by their names.

    Each x has length 1: else a few positions would decide, the first of a text above all, whose inputs can be a
    thousand times as large as others. Matrices that read the same inputs share the first one's.
    """
    import numpy as np

    widths = {matrix.name: matrix.width for matrix in walk.matrices(layer) if not _shares_inputs(matrix.name)}
    found = {
        name: [np.zeros((part.stop - part.start,) * 2, np.float32) for part in gram_parts(width)]
        for name, width in widths.items()
    }

    def see(name: str, inputs: Floats) -> None:
        if name in found:
            directions = _of_length_1(inputs)
            for part, gram in zip(gram_parts(inputs.shape[1]), found[name], strict=True):
                add_gram(gram, directions[:, part])

    walk.read(layer, see)
    for gram in (gram for parts in found.values() for gram in parts):
        mirror(gram)
        gram /= np.float32(walk.positions)
    return found


def _of_length_1(rows: Floats) -> Floats:
    """Rows divided by their lengths; those of zeros stay."""
    import numpy as np

    lengths = np.sqrt(np.einsum("nk,nk->n", rows, rows))[:, None]
    directions: Floats = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return directions


def energies(walk: Walk) -> dict[str, Floats]:
    """The mean square of every input of every matrix that multiplies, float32 [width], by the matrix's name."""
    import numpy as np

    found: dict[str, Floats] = {}

    def see(name: str, inputs: Floats) -> None:
        found[name] = found.get(name, np.float32(0)) + np.square(inputs).sum(axis=0)

    for layer in range(walk.layers):
        walk.read(layer, see)
    return {name: total / np.float32(walk.positions) for name, total in found.items()}


def gram_parts(width: int) -> list[slice]:
    """Columns that hand on errors among themselves: all, or as few parts of about one size as are narrow enough."""
    count = -(-width // WIDEST_GRAM)
    # Whole blocks of every size, an even number: so many zero points fill whole bytes.
    step = width if count == 1 else -(-width // (2 * max(BLOCK_SIZES) * count)) * 2 * max(BLOCK_SIZES)
    return [slice(start, min(start + step, width)) for start in range(0, width, step)]


def _shares_inputs(name: str) -> str | None:
    """The matrix before it that reads the same inputs."""
    layer, _, matrix = name.rpartition(".")
    first = _SAME_INPUTS.get(matrix)
    return first and f"{layer}.{first}"
