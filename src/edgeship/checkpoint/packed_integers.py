"""Integers with scales and zero points: GPTQ, AWQ, compressed-tensors, and bitsandbytes' LLM.int8()."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgeship.checkpoint.packed import (
    Grid,
    Integers,
    Packed,
    expect_shape,
    expect_type,
    unpacked,
    wrong,
)
from edgeship.checkpoint.safetensors_file import (
    FLOATS,
    StoredTensor,
    read_bit_columns,
    read_bits,
    read_columns,
    read_rows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]

    Parts = Mapping[str, StoredTensor]

WORDS = ("I32", "U32")
# Of eight integers in a word of AWQ's, the place of each: the even columns lie before the odd ones.
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
_LARGEST_HALF = 65504.0


@dataclass(frozen=True, eq=False)
class PackedIntegers(Packed):
    """scale * (integer - zero point), a scale for each group of a row.

    groups: of each column, int64 [width], where they are no runs of `group_size` columns. symmetric: the zero point is
    half of the range.
    """

    symmetric: bool
    groups: npt.NDArray[np.int64] | None

    @property
    def dtype(self) -> str:
        """What its elements are kept as."""
        return f"int{self.bits}"

    @property
    def grid(self) -> Grid | None:
        """None where the groups are not all of one size."""
        import numpy as np

        if self.group_size is None:
            return None
        if self.groups is None:
            return Grid(self.bits, self.group_size, self.symmetric)
        order = self._order
        if not np.array_equal(self.groups[order], np.arange(len(order)) // self.group_size):
            return None
        return Grid(self.bits, self.group_size, self.symmetric, order.astype("<i4").tobytes())

    @cached_property
    def _order(self) -> npt.NDArray[np.intp]:
        """The columns by group, where those of a group lie apart, as act-order leaves them."""
        import numpy as np

        assert self.groups is not None
        return np.argsort(self.groups, kind="stable")

    def integers(self, start: int, stop: int) -> Integers:
        """Rows as they are kept. Raises WeightsDamaged, CheckpointInvalid for a scale that float16 cannot hold."""
        import numpy as np

        scales, zero_points = self._scales(start, stop), self._agreed_zero_points(start, stop)
        if float(np.abs(scales).max(initial=0)) > _LARGEST_HALF:
            wrong(self.parts["scales"], f"holds a scale above {_LARGEST_HALF:g}")
        values = self._values(start, stop)
        values = values if self.groups is None else values[:, self._order]
        return Integers(values, scales, zero_points, self.group_size or self.shape[1])

    def _agreed_zero_points(self, start: int, stop: int) -> Bytes | None:
        """None for half of the range. Raises CheckpointInvalid where they are stored, and others than are stated."""
        found, half = self._zero_points(start, stop), 1 << (self.bits - 1)
        if found is None or not self.symmetric:
            return found
        if (found != half).any():
            wrong(self.parts["qzeros"], f"holds other zero points than {half}, though sym is true")
        return None

    @abstractmethod
    def _values(self, start: int, stop: int) -> Bytes: ...

    @abstractmethod
    def _scales(self, start: int, stop: int) -> Floats: ...

    @abstractmethod
    def _zero_points(self, start: int, stop: int) -> Bytes | None: ...

    def _read(self, start: int, stop: int) -> Floats:
        import numpy as np

        values = self._values(start, stop).astype(np.float32)
        scales, zero_points = self._scales(start, stop), self._agreed_zero_points(start, stop)
        groups, width = self.groups, self.shape[1]
        if groups is None:
            groups = np.arange(width) // (self.group_size or width)
        values -= np.float32(1 << (self.bits - 1)) if zero_points is None else zero_points[:, groups]
        values *= scales[:, groups]
        return values


@dataclass(frozen=True, eq=False)
class Gptq(PackedIntegers):
    """qweight [width * bits / 32, rows], qzeros [groups, rows * bits / 32], scales [groups, rows]; g_idx [width].

    offset: what is added to a stored zero point, since the first format keeps one less. It was taken from whole words,
    so that a zero point of 0 has borrowed from the next one.
    """

    offset: int

    def _values(self, start: int, stop: int) -> Bytes:
        return unpacked(read_bit_columns(self.parts["qweight"], start, stop).T, self.bits)

    def _scales(self, start: int, stop: int) -> Floats:
        return read_columns(self.parts["scales"], start, stop).T

    def _zero_points(self, start: int, stop: int) -> Bytes | None:
        import numpy as np

        per_word = 32 // self.bits
        first = start // per_word
        each = self.offset * sum(1 << place for place in range(0, 32, self.bits))
        words = read_bit_columns(self.parts["qzeros"], first, -(-stop // per_word)) + np.uint32(each)
        return unpacked(words, self.bits)[:, start - first * per_word : stop - first * per_word].T


@dataclass(frozen=True, eq=False)
class Awq(PackedIntegers):
    """qweight [width, rows / 8], qzeros [groups, rows / 8], scales [groups, rows], of 4 bits."""

    def _values(self, start: int, stop: int) -> Bytes:
        return _awq_columns(self.parts["qweight"], start, stop).T

    def _scales(self, start: int, stop: int) -> Floats:
        return read_columns(self.parts["scales"], start, stop).T

    def _zero_points(self, start: int, stop: int) -> Bytes | None:
        return _awq_columns(self.parts["qzeros"], start, stop).T


@dataclass(frozen=True, eq=False)
class CompressedIntegers(PackedIntegers):
    """weight_packed [rows, width * bits / 32], weight_scale [rows, groups] and zero points [rows * bits / 32, groups].

    Or integers as int8, in place of words of 32 bits. What is stored there is half of the range less.
    """

    def _values(self, start: int, stop: int) -> Bytes:
        if "weight" in self.parts:
            return _unsigned(read_bits(self.parts["weight"], start, stop))
        return unpacked(read_bits(self.parts["packed"], start, stop), self.bits)[:, : self.shape[1]]

    def _scales(self, start: int, stop: int) -> Floats:
        return _by_row(self.parts["scales"], start, stop)

    def _zero_points(self, start: int, stop: int) -> Bytes | None:
        import numpy as np

        stored = self.parts.get("zero_points")
        if stored is None:
            return None
        if "weight" in self.parts:
            if stored.count == 1:
                return np.broadcast_to(_unsigned(read_bits(stored)).reshape(1, 1), (stop - start, 1))
            return _unsigned(read_bits(stored, start, stop)).reshape(stop - start, -1)
        per_word = 32 // self.bits
        first = start // per_word
        words = read_bits(stored, first, -(-stop // per_word))
        return unpacked(words.T, self.bits).T[start - first * per_word : stop - first * per_word]


@dataclass(frozen=True, eq=False)
class RowIntegers(CompressedIntegers):
    """LLM.int8(): int8 [rows, width], and in SCB [rows] what 127 stands for."""

    def _scales(self, start: int, stop: int) -> Floats:
        import numpy as np

        return read_rows(self.parts["scales"], start, stop).reshape(-1, 1) / np.float32(127)


def open_gptq(name: str, parts: Parts, bits: int, group_size: int | None, *, symmetric: bool, offset: int) -> Gptq:
    """A matrix of GPTQ's. group_size: None where the config gives none for all. Raises CheckpointInvalid."""
    weight, scales, zero_points = parts["qweight"], parts["scales"], parts["qzeros"]
    expect_type(weight, *WORDS)
    expect_type(zero_points, *WORDS)
    expect_type(scales, *FLOATS)
    for part in (weight, scales, zero_points):
        _expect_matrix(part)
    index = parts.get("g_idx")
    rows, width = weight.shape[1], weight.shape[0] * 32 // bits
    if index is not None and index.count != width:
        if index.count == 0 or weight.shape[0] * 32 % index.count:
            wrong(index, f"has {index.count} entries, and {weight.name} is {list(weight.shape)}")
        width, bits = index.count, weight.shape[0] * 32 // index.count
        if bits not in (4, 8):
            wrong(weight, f"has {bits} bits a weight by {index.name}; 4 and 8 can be read")
    if rows * bits % 32:
        wrong(weight, f"has {rows} columns, which do not fill words of 32 bits")
    group_size = _group_size(group_size, width, scales)
    count = -(-width // group_size)
    expect_shape(scales, (count, rows))
    expect_shape(zero_points, (count, rows * bits // 32))
    groups = None if index is None else _read_groups(index, group_size, count)
    return Gptq(name, (rows, width), parts, bits, group_size, symmetric, groups, offset)


def open_awq(name: str, parts: Parts, group_size: int | None) -> Awq:
    """A matrix of AWQ's. Raises CheckpointInvalid."""
    weight, scales, zero_points = parts["qweight"], parts["scales"], parts["qzeros"]
    expect_type(weight, *WORDS)
    expect_type(zero_points, *WORDS)
    expect_type(scales, *FLOATS)
    for part in (weight, scales, zero_points):
        _expect_matrix(part)
    rows, width = weight.shape[1] * 8, weight.shape[0]
    group_size = _group_size(group_size, width, scales)
    if width % group_size:
        wrong(weight, f"has {width} rows, which are no whole groups of {group_size}")
    expect_shape(scales, (width // group_size, rows))
    expect_shape(zero_points, (width // group_size, weight.shape[1]))
    if (index := parts.get("g_idx")) is not None:
        expect_shape(index, (width,))
        if _read_groups(index, group_size, width // group_size) is not None:
            wrong(index, "puts columns into groups that lie apart, which AWQ's do not")
    return Awq(name, (rows, width), parts, 4, group_size, False, None)


def open_compressed(name: str, parts: Parts) -> CompressedIntegers:
    """A matrix of compressed-tensors', packed or int8: its tensors say all. Raises CheckpointInvalid."""
    packed = parts.get("packed") or parts["weight"]
    _expect_matrix(packed)
    if "packed" in parts:
        expect_type(packed, *WORDS)
        rows, width = _stated_shape(parts["shape"])
        possible = [bits for bits in (4, 8) if packed.shape == (rows, -(-width * bits // 32))]
        if not possible:
            stated = f"{parts['shape'].name} says [{rows}, {width}]"
            wrong(packed, f"is {list(packed.shape)}, and {stated}: these are not 4 or 8 bits a weight")
        bits = possible[0]
    else:
        (rows, width), bits = packed.shape, 8
    scales = parts["scales"]
    expect_type(scales, *FLOATS)
    groups = scales.shape[1] if len(scales.shape) == 2 and scales.count > 1 else 1
    expect_shape(scales, *([(rows, groups)] if groups > 1 else [(rows, 1), (rows,), (1,), (1, 1), ()]))
    if width % groups:
        wrong(scales, f"has {groups} groups, into which rows of {width} do not divide")
    zero_points = parts.get("zero_points")
    if zero_points is not None and "packed" in parts:
        expect_type(zero_points, *WORDS)
        expect_shape(zero_points, (-(-rows * bits // 32), groups))
    elif zero_points is not None:
        expect_type(zero_points, "I8")
        expect_shape(zero_points, scales.shape)
    index = parts.get("g_idx")
    order = None if index is None else _read_order(index, width, width // groups, groups)
    return CompressedIntegers(name, (rows, width), parts, bits, width // groups, zero_points is None, order)


def open_row_integers(name: str, parts: Parts) -> RowIntegers:
    """A matrix of LLM.int8()'s. Raises CheckpointInvalid."""
    weight, scales = parts["weight"], parts["scales"]
    _expect_matrix(weight)
    expect_type(scales, *FLOATS)
    expect_shape(scales, (weight.shape[0],))
    layout = parts.get("format")
    if layout is not None:
        expect_type(layout, "U8", "I8", "I32", "I64")
    if layout is not None and read_bits(layout).any():
        wrong(layout, "says that the weights lie in an order for one kind of GPU")
    return RowIntegers(name, weight.shape, parts, 8, weight.shape[1], True, None)


def _expect_matrix(tensor: StoredTensor) -> None:
    if len(tensor.shape) != 2 or not tensor.count:
        wrong(tensor, f"is {list(tensor.shape)}, which is no matrix")


def _group_size(stated: int | None, width: int, scales: StoredTensor) -> int:
    """The size of groups that the config states, where -1 is a whole row, or that the scales show."""
    return width if stated == -1 else stated or -(-width // scales.shape[0])


def _stated_shape(tensor: StoredTensor) -> tuple[int, int]:
    expect_type(tensor, "I64", "I32")
    expect_shape(tensor, (2,))
    rows, width = (int(number) for number in read_bits(tensor))
    if not (0 < rows < 1 << 31 and 0 < width < 1 << 31):
        wrong(tensor, f"holds {rows} and {width}, which are no shape")
    return rows, width


def _read_order(index: StoredTensor, width: int, group_size: int, count: int) -> npt.NDArray[np.int64] | None:
    """As `_read_groups`; an index of -1 alone stands for none."""
    expect_shape(index, (width,))
    expect_type(index, "I32", "I64")
    if (read_bits(index).view(f"<i{4 if index.dtype == 'I32' else 8}") == -1).all():
        return None
    return _read_groups(index, group_size, count)


def _read_groups(index: StoredTensor, group_size: int, count: int) -> npt.NDArray[np.int64] | None:
    """The group of each column; None where they are as they lie."""
    import numpy as np

    expect_type(index, "I32", "I64")
    groups = read_bits(index).view(f"<i{4 if index.dtype == 'I32' else 8}").astype(np.int64).reshape(-1)
    outside = np.flatnonzero((groups < 0) | (groups >= count))
    if len(outside):
        wrong(index, f"puts column {outside[0]} into group {groups[outside[0]]}, and there are {count}")
    return None if np.array_equal(groups, np.arange(len(groups)) // group_size) else groups


def _awq_columns(tensor: StoredTensor, start: int, stop: int) -> Bytes:
    first = start // 8
    found = unpacked(read_bit_columns(tensor, first, -(-stop // 8)), 4)
    ordered = found.reshape(len(found), -1, 8)[:, :, list(_AWQ_PLACES)].reshape(found.shape)
    return ordered[:, start - first * 8 : stop - first * 8]


def _unsigned(bits: npt.NDArray[Any]) -> Bytes:
    """int8 as uint8, with 128 added."""
    import numpy as np

    found: Bytes = bits.view(np.uint8) ^ np.uint8(128)
    return found


def _by_row(tensor: StoredTensor, start: int, stop: int) -> Floats:
    """Scales [stop - start, groups] of a tensor that has one for each row, for parts of rows, or for all."""
    import numpy as np

    if tensor.count == 1:
        return np.broadcast_to(read_rows(tensor).reshape(1, 1), (stop - start, 1))
    return read_rows(tensor, start, stop).reshape(stop - start, -1)
