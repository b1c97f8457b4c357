"""Quantization with error feedback: columns are rounded one after another, and the next ones make up for each error.

The idea is GPTQ's (Frantar et al., 2022). What counts is the error of a layer's output on calibration inputs X,
|X (W - W')^T|^2, and that depends on X^T X alone. After column j is rounded, the best change of the columns after it is
its error times row j of the upper Cholesky factor of (X^T X)^-1. When all are rounded, each block's scale and integers
are chosen once more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeship.builder.products import in_tiles, product, subtract_product
from edgeship.builder.quantize import Blocks, Scheme, as_stored, pack, quantize, unpack

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Floats = npt.NDArray[np.float32]
    Halves = npt.NDArray[np.float16]
    Bytes = npt.NDArray[np.uint8]

_GROUP = 128
"""Columns whose errors reach all later columns together, in one matrix product."""
_WHOLE = 128
"""A triangle of this size is inverted as it is."""
_OWN_DAMPING = 1e-4
"""Of each element of the diagonal. Sums in float32 may be off by that, where inputs hardly differ from each other."""
_WIDEST = 1e7
"""How often the diagonal's median goes into its largest element, at most; with more there, float32 loses the small."""


@dataclass(frozen=True)
class ErrorFactors:
    """How errors are handed on, for every matrix that reads the same inputs.

    gram: [width, width], the damped Gram matrix of the inputs, in units of its diagonal's median.
    """

    gram: Floats
    _made: dict[int, Ordered] = field(default_factory=dict)

    def for_blocks(self, size: int) -> Ordered:
        """Made when it is first asked for, in time of order width^3 and with four matrices of memory."""
        if size not in self._made:
            self._made.clear()  # one is large, and hardly anybody needs two
            self._made[size] = _ordered(self.gram, size)
        return self._made[size]


@dataclass(frozen=True)
class Ordered:
    """The factor for columns in a certain order.

    order: [width], the columns as they are rounded, in whole blocks; the one that is not whole is the last.
    factor: [width, width], the upper Cholesky factor of the inverse of the Gram matrix, in that order. importance:
    [width], the cost of a unit of squared error in a column when the columns after it have made up for what they can.
    """

    order: npt.NDArray[np.intp]
    factor: Floats
    importance: Floats


def error_factors(gram: Floats, damping: float = 0.2) -> ErrorFactors:
    """The part that is the same for all rows and schemes.

    gram: [width, width], X^T X of the layer's calibration inputs X, finite. damping: what is added to its diagonal, as
    a share of the diagonal's median, above 0. It keeps weights of inputs that calibration never saw, and what is only
    by chance so in the calibration texts counts for less. The mean would be no measure: an input or two can be a
    thousand times as large as the others.
    """
    import numpy as np

    diagonal = np.diagonal(gram)
    largest = float(diagonal.max())
    alive = diagonal[diagonal > largest / _WIDEST**2]
    unit = max(float(np.median(alive)), largest / _WIDEST, float(np.finfo(np.float32).tiny)) if len(alive) else 1.0
    damped = gram / np.float32(unit)  # only its shape matters
    own = np.einsum("ii->i", damped)  # a view of the diagonal
    own *= np.float32(1 + _OWN_DAMPING)
    own += np.float32(damping)
    return ErrorFactors(damped)


def quantize_with_feedback(rows: Floats, factors: ErrorFactors, scheme: Scheme) -> Blocks:
    """Rows [n, width] as blocks. Rows may come in parts."""
    import numpy as np

    size, ordered = scheme.block_size, factors.for_blocks(scheme.block_size)
    blocks = scheme.blocks(rows.shape[1])
    columns = np.ascontiguousarray(rows.T)  # a column lies together in memory
    integers, scales, zeros = _in_order(columns[ordered.order], ordered, scheme)
    place = np.argsort(ordered.order[::size])  # of each block among those as they were rounded
    integers = integers.reshape(blocks, size, -1)[place].reshape(integers.shape)
    scales, zeros = scales[place], zeros[place]
    _refine(columns, integers, scales, zeros, factors.gram, scheme)
    packed = pack(integers.T.reshape(len(rows), blocks, size), scheme.bits)
    zero_points = None if scheme.symmetric else pack(np.ascontiguousarray(zeros.T), scheme.bits)
    return Blocks(packed, np.ascontiguousarray(scales.T), zero_points)


def _in_order(columns: Floats, ordered: Ordered, scheme: Scheme) -> tuple[Bytes, Halves, Bytes]:
    """Integers [padded width, n], scales and zero points [blocks, n] of columns [width, n], which are used up."""
    import numpy as np

    (width, count), size = columns.shape, scheme.block_size
    blocks = scheme.blocks(width)
    integers = np.empty((blocks * size, count), np.uint8)
    scales, zeros = np.empty((blocks, count), np.float16), np.empty((blocks, count), np.uint8)
    step = max(_GROUP, size)
    for start in range(0, width, step):
        stop = min(start + step, width)
        errors = np.empty((stop - start, count), np.float32)
        for begin in range(start, stop, size):
            index, end = begin // size, min(begin + size, width)
            scales[index], zeros[index] = _choose(columns[begin:end], scheme, ordered.importance[begin:end])
            scale, zero = scales[index].astype(np.float32), zeros[index].astype(np.float32)
            for column in range(begin, end):
                error, integers[column] = _round(columns[column], scale, zero, scheme.bits)
                error /= ordered.factor[column, column]
                errors[column - start] = error
                columns[column + 1 : end] -= ordered.factor[column, column + 1 : end, None] * error
            integers[end : begin + size] = zeros[index]  # padding
            subtract_product(
                columns[end:stop], ordered.factor[begin:end, end:stop].T, errors[begin - start : end - start]
            )
        subtract_product(columns[stop:], ordered.factor[start:stop, stop:].T, errors)
    return integers, scales, zeros


def _refine(columns: Floats, integers: Bytes, scales: Halves, zeros: Bytes, gram: Floats, scheme: Scheme) -> None:
    """Chooses each block's scale and integers once more, now that all others are there.

    That takes 3 % off the error, a second time 1.5 %, four more 1 % together; each takes as long as the rounding.
    """
    import numpy as np

    width, size = len(columns), scheme.block_size
    numbers = integers.reshape(len(scales), size, -1) - zeros[:, None].astype(np.float32)
    numbers *= scales[:, None].astype(np.float32)
    pull = product(gram, columns - numbers.reshape(integers.shape)[:width])
    for index in range(len(scales)):
        block = slice(index * size, min((index + 1) * size, width))
        zero = zeros[index].astype(np.float32)
        levels = integers[block] - zero
        change = -levels * scales[index].astype(np.float32)
        inner = gram[block, block]
        scales[index] = _refitted(levels, scales[index], pull[block], inner)
        scale = scales[index].astype(np.float32)
        change += levels * scale
        left = pull[block] - inner @ change
        for column, own in enumerate(inner):
            old = levels[column] * scale
            target = old + left[column] / own[column]
            error, integers[block.start + column] = _round(target, scale, zero, scheme.bits)
            moved = target - error - old
            left -= own[:, None] * moved
            change[column] += moved
        subtract_product(pull[block.stop :], gram[block.stop :, block], change)


def _refitted(levels: Floats, scales: Halves, pull: Floats, gram: Floats) -> Halves:
    """The scales of least error with the levels as they are."""
    import numpy as np

    steepness = np.einsum("kn,kn->n", levels, gram @ levels)
    slope = np.einsum("kn,kn->n", levels, pull)
    return as_stored(scales + np.divide(slope, steepness, out=np.zeros_like(slope), where=steepness > 0))


def _ordered(gram: Floats, size: int) -> Ordered:
    """Blocks with the largest inputs first: there are many columns left then to make up for their errors.

    Columns of a block stay together, for its scale is chosen when all that comes before it is rounded.
    """
    import numpy as np

    whole = len(gram) // size * size
    largest = np.diagonal(gram)[:whole].reshape(-1, size).max(axis=1)
    blocks = np.argsort(-largest, kind="stable")
    order = np.concatenate(((blocks[:, None] * size + np.arange(size)).ravel(), np.arange(whole, len(gram))))
    # Backwards in both directions, the lower factor of the matrix is the upper factor of its inverse, inverted.
    backwards = order[::-1]
    ordered = gram[np.ix_(backwards, backwards)].astype(np.float64)
    _factorize(ordered)
    factor = np.ascontiguousarray(_inverse_of_lower(ordered.astype(np.float32))[::-1, ::-1])
    return Ordered(order, factor, np.diagonal(factor) ** np.float32(-2))


def _choose(columns: Floats, scheme: Scheme, importance: Floats) -> tuple[Halves, Bytes]:
    """Scales and zero points [n] of one block of each row, from its values as they are now: columns [size, n]."""
    import numpy as np

    blocks = quantize(columns.T, scheme, importance)
    if blocks.zero_points is None:
        return blocks.scales[:, 0], np.full(len(blocks.scales), 1 << (scheme.bits - 1), np.uint8)
    return blocks.scales[:, 0], unpack(blocks.zero_points, scheme.bits)[:, 0]


def _round(values: Floats, scale: Floats, zero: Floats, bits: int) -> tuple[Floats, Bytes]:
    """One column: its error, and its integers."""
    import numpy as np

    usable = np.abs(scale) >= np.finfo(np.float32).tiny
    levels = np.rint(np.divide(values, scale, out=np.zeros_like(values), where=usable))
    levels = np.minimum(np.maximum(levels, -zero), np.float32((1 << bits) - 1) - zero)
    error: Floats = values - levels * scale
    return error, (levels + zero).astype(np.uint8)


def _factorize(matrix: npt.NDArray[np.float64]) -> None:
    """Makes a positive definite matrix its lower Cholesky factor, from left to right; zeros above it are not made."""
    import numpy as np

    for start in range(0, len(matrix), _WHOLE):
        stop = start + _WHOLE
        corner, below, rest = matrix[start:stop, start:stop], matrix[stop:, start:stop], matrix[stop:, stop:]
        corner[:] = np.linalg.cholesky(corner)
        below[:] = product(below, np.linalg.inv(corner).T)

        def subtract(rows: slice, below: Array = below, rest: Array = rest) -> None:
            rest[rows, : rows.stop] -= below[rows] @ below[: rows.stop].T

        in_tiles(len(rest), subtract)


def _inverse_of_lower(triangle: Floats) -> Floats:
    """The inverse of a lower triangle, whatever lies above it; by halves, so that nearly all is matrix products."""
    import numpy as np

    size = len(triangle)
    if size <= _WHOLE:
        return np.tril(np.linalg.inv(np.tril(triangle)))
    half = size // 2
    inverse = np.zeros_like(triangle)
    inverse[:half, :half] = _inverse_of_lower(triangle[:half, :half])
    inverse[half:, half:] = _inverse_of_lower(triangle[half:, half:])
    inverse[half:, :half] = product(-inverse[half:, half:], product(triangle[half:, :half], inverse[:half, :half]))
    return inverse
