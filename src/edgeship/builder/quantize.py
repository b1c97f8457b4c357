"""Block-wise integers for weights, as ONNX Runtime's MatMulNBits and GatherBlockQuantized read them.

A row is cut into blocks along the input dimension; a block is `scale * (integer - zero point)`, and the scale may be
negative. Scales are rounded to the type they are stored in before integers are chosen, so that what is minimised is the
error that remains in the file.

Inside, blocks lie side by side as columns: [block size, blocks]. One scale for each block then broadcasts along memory,
and sums over a block are sums of whole rows, at the same speed for every block size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.checkpoint.packed import Integers

    Floats = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]

Method = Literal["rtn", "search", "kept"]

_CHUNK_ELEMENTS = 1 << 16
"""So many elements are worked on at a time: a few arrays of that size stay in a core's second-level cache."""
_LANES = 16
"""Columns come in multiples of this, so that a block is computed by the same instructions wherever it lies."""
_OVERSHOOTS = {4: (-0.4, 0.4, 1.4), 8: (0.0, 0.4)}
"""Scales that are tried put a block's extreme so many levels beyond the last one there is, where it is clipped.

At 4 bits that pays: one weight loses a little and all others gain. Twice as many gain another hundredth of the error.
At 8 bits there is next to nothing to gain.
"""
_WEIGHTED_OVERSHOOTS = {4: (-0.75, -0.25, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0), 8: (0.0, 0.4)}
"""Tried instead where weights have an importance: the extreme may matter less than the others."""


@dataclass(frozen=True)
class Scheme:
    """How a matrix is quantized.

    bits: 4 or 8. block_size: 16 to 256, elements along a row. symmetric: without zero points. method: "rtn" rounds to
    nearest, "search" looks for the scale of least squared error in each block, and "kept" are integers that a
    checkpoint was quantized to before (`keep`). order: int32, the column of the matrix at each place of a row; None
    where they are as they were.
    """

    bits: int
    block_size: int
    symmetric: bool
    method: Method = "search"
    order: bytes | None = None

    def blocks(self, width: int) -> int:
        """Blocks in a row of `width` elements; the last one may be padded."""
        return -(-width // self.block_size)


@dataclass(frozen=True)
class Blocks:
    """Rows as the operators store them, the low nibble first.

    packed: [rows, blocks, block size * bits / 8]. scales: float16 [rows, blocks]. zero_points:
    [rows, blocks * bits / 8, rounded up], or None, which the operators read as 8 or 128.
    """

    packed: Bytes
    scales: npt.NDArray[np.float16]
    zero_points: Bytes | None

    def __getitem__(self, rows: slice) -> Blocks:
        zero_points = None if self.zero_points is None else self.zero_points[rows]
        return Blocks(self.packed[rows], self.scales[rows], zero_points)


def quantize(rows: Floats, scheme: Scheme, importance: Floats | None = None) -> Blocks:
    """Rows [n, width] as blocks. importance: [width], the weight of each column's squared error; else all are alike.

    Every row is quantized by itself: rows give the same bytes together and apart. "search" is in no block worse than
    "rtn". Values must be finite and at most 1e5 in size, importance finite and not negative.
    """
    import numpy as np

    count, width = rows.shape
    blocks = scheme.blocks(width)
    packed = np.empty((count, blocks, scheme.block_size * scheme.bits // 8), np.uint8)
    scales = np.empty((count, blocks), np.float16)
    zeros = None if scheme.symmetric else np.empty((count, blocks), np.uint8)
    step = _rows_in_chunk(scheme, width)
    bench = _Bench(scheme, blocks * min(step, count))
    if importance is not None:
        bench.weigh(_padded(importance[None], scheme), blocks)
    for start in range(0, count, step):
        part = slice(start, start + step)
        bench.load(_padded(rows[part], scheme))
        scale, zero = bench.choose()
        bench.store(scale, zero, packed[part].reshape(-1, packed.shape[2]))
        columns = scales[part].size
        scales[part] = scale[:columns].reshape(-1, blocks)
        if zeros is not None:
            zeros[part] = zero[:columns].reshape(-1, blocks)
    return Blocks(packed, scales, None if zeros is None else pack(zeros, scheme.bits))


def keep(kept: Integers, scheme: Scheme) -> Blocks:
    """Integers of a checkpoint as blocks, none of them changed. Of a larger group each block gets the scale.

    Scales are rounded to float16, which those of most checkpoints are already.
    """
    import numpy as np

    count, width = kept.values.shape
    blocks = scheme.blocks(width)
    group = np.arange(blocks) * scheme.block_size // kept.group_size
    if kept.zero_points is None:
        zeros = np.full((count, blocks), 1 << (scheme.bits - 1), np.uint8)
    else:
        zeros = np.ascontiguousarray(kept.zero_points[:, group])
    missing = -width % scheme.block_size
    values = kept.values if not missing else np.hstack((kept.values, np.repeat(zeros[:, -1:], missing, axis=1)))
    packed = pack(np.ascontiguousarray(values).reshape(count, blocks, scheme.block_size), scheme.bits)
    scales = as_stored(kept.scales[:, group])
    return Blocks(packed, scales, None if scheme.symmetric else pack(zeros, scheme.bits))


def as_stored(scales: Floats) -> npt.NDArray[np.float16]:
    """Scales as the operators read them; those that are too large for that are the largest there is."""
    import numpy as np

    return np.clip(scales, -65504, 65504).astype(np.float16)


def dequantize(blocks: Blocks, scheme: Scheme, width: int) -> Floats:
    """What the operators compute with: float32 [rows, width]."""
    import numpy as np

    count, per_row = blocks.scales.shape
    levels = unpack(blocks.packed, scheme.bits).astype(np.float32)
    if blocks.zero_points is None:
        levels -= 1 << (scheme.bits - 1)
    else:
        levels -= unpack(blocks.zero_points, scheme.bits)[:, :per_row, None]
    levels *= blocks.scales.astype(np.float32)[:, :, None]
    return levels.reshape(count, -1)[:, :width]


def pack(integers: Bytes, bits: int) -> Bytes:
    """[..., count] -> [..., count * bits / 8, rounded up], the low nibble first."""
    import numpy as np

    if bits == 8:
        return integers
    if integers.shape[-1] % 2:
        integers = np.concatenate((integers, np.zeros_like(integers[..., :1])), axis=-1)
    high: Bytes = np.left_shift(integers[..., 1::2], np.uint8(4))
    return high | integers[..., 0::2]


def unpack(packed: Bytes, bits: int) -> Bytes:
    """[..., bytes] -> [..., bytes * 8 / bits]."""
    import numpy as np

    if bits == 8:
        return packed
    pairs: Bytes = np.stack((packed & 15, packed >> 4), axis=-1)
    return pairs.reshape(*packed.shape[:-1], -1)


class _Bench:
    """Room to work on up to `columns` blocks at a time, in arrays [block size, columns]; scales are [columns]."""

    def __init__(self, scheme: Scheme, columns: int) -> None:
        import numpy as np

        self._scheme = scheme
        shape = (scheme.block_size, -(-columns // _LANES) * _LANES)
        self._values, self._levels, self._spare = (np.zeros(shape, np.float32) for _ in range(3))
        self._integers = np.empty(shape, np.uint8)
        self._weight: Floats | None = None
        self._weighted = self._values

    def weigh(self, importance: Floats, blocks: int) -> None:
        """Importance [1, padded width] of the columns of every row."""
        import numpy as np

        # Only its shape matters. Its size is taken out, or squares of sums could overflow.
        weight = importance / max(float(importance.max()), float(np.finfo(np.float32).tiny))
        columns = np.resize(weight.reshape(blocks, -1), self._values.shape[::-1]).T
        self._weight = np.ascontiguousarray(columns, dtype=np.float32)
        self._weighted = np.zeros_like(self._values)

    def load(self, rows: Floats) -> None:
        """Rows [n, padded width] become columns; those after them keep what they had, which harms nobody."""
        import numpy as np

        columns = rows.reshape(-1, self._scheme.block_size)
        np.copyto(self._values[:, : len(columns)], columns.T)
        if self._weight is not None:
            np.multiply(self._values, self._weight, out=self._weighted)

    def choose(self) -> tuple[Floats, Floats]:
        """Scale and zero point of each block."""
        import numpy as np

        smallest, largest = self._values.min(axis=0), self._values.max(axis=0)
        bits = self._scheme.bits
        if self._scheme.symmetric:
            # The side with the extreme gets the side with one level more; that is what a negative scale is for.
            reach = np.where(largest > -smallest, -largest, -smallest)
            levels = float(1 << (bits - 1))
            zero = np.full_like(reach, levels)
            scale = self._rounded(reach / np.float32(levels))
        else:
            smallest, largest = np.minimum(smallest, 0), np.maximum(largest, 0)
            reach, levels = (largest - smallest) / 2, ((1 << bits) - 1) / 2
            scale = self._rounded(reach / np.float32(levels))
            zero = np.clip(np.rint(-smallest * _inverse(scale)), 0, 2 * np.float32(levels))
        if self._scheme.method == "search":
            beyond = (_OVERSHOOTS if self._weight is None else _WEIGHTED_OVERSHOOTS)[bits]
            scale = self._search(scale, zero, [reach / np.float32(levels + overshoot) for overshoot in beyond])
        return scale, zero

    def store(self, scale: Floats, zero: Floats, packed: Bytes) -> None:
        """The blocks' integers, into packed [blocks, bytes]."""
        import numpy as np

        self._round(scale, zero)
        np.add(self._levels, zero, out=self._integers, casting="unsafe")
        columns = self._integers
        if self._scheme.bits == 4:
            columns, high = self._integers[0::2], self._integers[1::2]
            np.left_shift(high, 4, out=high)
            np.bitwise_or(columns, high, out=columns)
        np.copyto(packed, columns[:, : len(packed)].T)

    def _search(self, nearest: Floats, zero: Floats, candidates: list[Floats]) -> Floats:
        """The best scale found, or `nearest` where none is better.

        With integers q given, the scale of least error is wq / qq (sums over the block), and it takes wq^2 / qq off the
        error: so candidates are compared without computing errors. The best one's integers then give a scale, and that
        scale integers.
        """
        import numpy as np

        best_gain, best = np.zeros_like(nearest), nearest
        for candidate in candidates:
            self._round(candidate, zero)
            wq, qq = self._sums()
            scale = wq * _inverse(qq)
            gain = wq * scale
            better = gain > best_gain
            best_gain, best = np.where(better, gain, best_gain), np.where(better, scale, best)
        best = self._rounded(best)
        self._round(best, zero)
        error = self._error(best)
        self._round(nearest, zero)
        return np.where(error < self._error(nearest), best, nearest)

    def _round(self, scale: Floats, zero: Floats) -> None:
        """The levels, integers less zero point, that are nearest to the values."""
        import numpy as np

        levels = self._levels
        np.multiply(self._values, _inverse(scale), out=levels)
        np.rint(levels, out=levels)
        if self._scheme.symmetric:
            half = np.float32(1 << (self._scheme.bits - 1))
            np.clip(levels, -half, half - 1, out=levels)
        else:
            np.maximum(levels, -zero, out=levels)
            np.minimum(levels, np.float32((1 << self._scheme.bits) - 1) - zero, out=levels)

    def _sums(self) -> tuple[Floats, Floats]:
        """Of value * level and of level^2 over each block, weighted."""
        weighted = self._levels if self._weight is None else self._multiplied(self._levels, self._weight)
        return _dot(self._weighted, self._levels), _dot(weighted, self._levels)

    def _error(self, scale: Floats) -> Floats:
        """The weighted squared error of each block with the levels that are there."""
        import numpy as np

        levels = self._levels
        np.multiply(levels, scale, out=levels)
        np.subtract(levels, self._values, out=levels)
        return _dot(levels if self._weight is None else self._multiplied(levels, self._weight), levels)

    def _multiplied(self, columns: Floats, weight: Floats) -> Floats:
        import numpy as np

        return np.multiply(columns, weight, out=self._spare)

    def _rounded(self, scale: Floats) -> Floats:
        """What is left of a scale that is stored."""
        import numpy as np

        return as_stored(scale).astype(np.float32)


def _rows_in_chunk(scheme: Scheme, width: int) -> int:
    return max(1, _CHUNK_ELEMENTS // max(1, scheme.blocks(width) * scheme.block_size))


def _padded(rows: Floats, scheme: Scheme) -> Floats:
    """Rows with zeros after them, up to whole blocks."""
    import numpy as np

    missing = -rows.shape[1] % scheme.block_size
    return np.pad(rows, ((0, 0), (0, missing))) if missing else rows


def _inverse(numbers: Floats) -> Floats:
    """1 / number; 0 for those so small that there is none."""
    import numpy as np

    return np.divide(1, numbers, out=np.zeros_like(numbers), where=np.abs(numbers) >= np.finfo(np.float32).tiny)


def _dot(left: Floats, right: Floats) -> Floats:
    """Of columns: [block size, columns] twice -> [columns]."""
    import numpy as np

    result: Floats = np.einsum("kb,kb->b", left, right)
    return result
