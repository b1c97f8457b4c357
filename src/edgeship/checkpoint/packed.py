"""Matrices that a checkpoint keeps packed: told like plain tensors, and read by rows as the numbers they stand for.

A packed matrix is made of several tensors of the file: integers or codes, scales, zero points. What each form makes of
them is in the modules beside this one; here is what they have in common. Rows are the outputs, whatever way a form
stores them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgeship.checkpoint.safetensors_file import LARGEST_WEIGHT, StoredTensor, absurd_value, read_rows, same_values
from edgeship.errors import CheckpointInvalid

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]

AGAIN = "Copy or download the checkpoint again, or give it as it was before it was quantized."
_CHUNK_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class Grid:
    """What a matrix of integers could be stored as without quantizing it once more.

    bits: 4 or 8. group_size: elements along a row that share a scale. symmetric: no zero points. order: int32, the
    column at each place, where columns are put together by their groups; None where they are as they lie.
    """

    bits: int
    group_size: int
    symmetric: bool
    order: bytes | None = None


@dataclass(frozen=True)
class Integers:
    """Rows as the integers that they are kept in: scale * (value - zero point).

    values: uint8 [n, width], in the order of the grid. scales: float32 [n, groups]. zero_points: uint8 [n, groups], or
    None for half of the range. group_size: columns in a group; the last one may have fewer.
    """

    values: Bytes
    scales: Floats
    zero_points: Bytes | None
    group_size: int


@dataclass(frozen=True, eq=False)
class Packed(ABC):
    """A matrix [rows, width] made of several stored tensors.

    name: as a plain checkpoint would call it. parts: what it is made of, by their roles. bits: of a weight, without
    scales. group_size: weights that share a scale along a row; None where that is no one number.
    """

    name: str
    shape: tuple[int, ...]
    parts: Mapping[str, StoredTensor]
    bits: int
    group_size: int | None

    @property
    @abstractmethod
    def dtype(self) -> str:
        """What its elements are kept as, for people."""

    @abstractmethod
    def _read(self, start: int, stop: int) -> Floats: ...

    @property
    def path(self) -> Path:
        """The file of its first part."""
        return next(iter(self.parts.values())).path

    @property
    def count(self) -> int:
        """Elements of the matrix."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """What its parts take in their files."""
        return sum(part.nbytes for part in self.parts.values())

    @property
    def grid(self) -> Grid | None:
        """Its integers, where they can be kept; None for what has to be rounded again."""
        return None

    def rows(self, start: int = 0, stop: int | None = None) -> Floats:
        """Rows as float32, dequantized, in memory of their own. Several threads may read at once.

        Raises WeightsDamaged that names the tensor for a file that ends too early and for NaN, infinity or a size
        beyond 1e5, in the scales or in what comes out.
        """
        import numpy as np

        stop = self.shape[0] if stop is None else stop
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"rows {start} to {stop} of {self.name}, which has {self.shape[0]}")
        if start == stop:
            return np.empty((0, *self.shape[1:]), np.float32)
        values = self._read(start, stop)
        # NaN is no number of any size, either.
        if not -LARGEST_WEIGHT <= float(values.min(initial=0)) <= float(values.max(initial=0)) <= LARGEST_WEIGHT:
            with np.errstate(invalid="ignore"):
                index = int(np.argmin(np.abs(values) <= LARGEST_WEIGHT))
            raise absurd_value(self, start * self.shape[1] + index, float(values.reshape(-1)[index]))
        return values


Tensor = StoredTensor | Packed
"""A tensor of a checkpoint, however it is kept."""


def read(tensor: Tensor, start: int = 0, stop: int | None = None) -> Floats:
    """Rows of a tensor as float32. Raises what `safetensors_file.read_rows` and `Packed.rows` raise."""
    return tensor.rows(start, stop) if isinstance(tensor, Packed) else read_rows(tensor, start, stop)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors agree in shape and every number, however they are kept."""
    import numpy as np

    if isinstance(one, StoredTensor) and isinstance(other, StoredTensor):
        return same_values(one, other)
    if one is other:
        return True
    step = max(1, _CHUNK_ELEMENTS // max(1, one.count // one.shape[0]))
    return one.shape == other.shape and all(
        np.array_equal(read(one, start, stop), read(other, start, stop))
        for start in range(0, one.shape[0], step)
        for stop in [min(start + step, one.shape[0])]
    )


def wrong(tensor: StoredTensor, what: str) -> NoReturn:
    """Raises CheckpointInvalid for a part that is not as its form asks for."""
    raise CheckpointInvalid(f"{tensor.name} {what}", where=str(tensor.path), hint=AGAIN)


def expect_shape(tensor: StoredTensor, *shapes: tuple[int, ...]) -> None:
    """Raises CheckpointInvalid unless the part has one of these shapes."""
    if tensor.shape not in shapes:
        wrong(tensor, f"is {list(tensor.shape)}, not {' or '.join(str(list(shape)) for shape in shapes)}")


def expect_type(tensor: StoredTensor, *types: str) -> None:
    """Raises CheckpointInvalid unless the part is of one of these types of the file format."""
    if tensor.dtype not in types:
        wrong(tensor, f"is of the type {tensor.dtype}, not {' or '.join(types)}")


def unpacked(words: npt.NDArray[Any], bits: int) -> Bytes:
    """Integers of 4 or 8 bits out of unsigned words [..., n], the lowest bits first: [..., n * bits a word / bits]."""
    import numpy as np

    packed: Bytes = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return packed
    pairs: Bytes = np.stack((packed & 15, packed >> 4), axis=-1)
    return pairs.reshape(*packed.shape[:-1], -1)
