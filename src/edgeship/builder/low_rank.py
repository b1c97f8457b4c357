"""What LoRA adds to matrices, read a few rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeship.checkpoint.safetensors_file import StoredTensor, read_columns, read_every, read_rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LowRank:
    """What LoRA adds to a matrix: scale * B @ A, or its transpose for matrices that store [in, out].

    a: [rank, in], b: [out, rank]. magnitude: [out], the length that DoRA gives to all that leads to an output.
    """

    a: StoredTensor
    b: StoredTensor
    scale: float
    transposed: bool
    magnitude: StoredTensor | None

    def left(self, start: int, stop: int) -> Array:
        """The factor [stop - start, rank] that makes these rows of the sum."""
        return read_columns(self.a, start, stop).T if self.transposed else read_rows(self.b, start, stop)

    def right(self) -> Array:
        """The factor [rank, width]."""
        return read_rows(self.b).T if self.transposed else read_rows(self.a)

    def rows(self, start: int, stop: int) -> Array:
        """Rows of the sum."""
        return _product(self.left(start, stop), self.right(), self.scale)


@dataclass(frozen=True)
class ExpertLowRank:
    """What LoRA adds to some outputs of an expert's matrix: scale * B @ A.

    a, b: the factors of all `experts` that were trained together.
    a: [experts * rank, in], rank rows of each after those of the one before; b: [out, rank * experts], a column of each
    in turn. swapped: a has the outputs, and b the inputs. outputs: the first of the matrix that is changed, which is
    output `first` of what the factors make, and the one after the last.
    """

    a: StoredTensor
    b: StoredTensor
    scale: float
    expert: int
    experts: int
    outputs: tuple[int, int]
    first: int
    swapped: bool

    def add_to(self, values: Array, start: int, stop: int) -> None:
        """Adds it to outputs `start` to `stop` of the matrix, [stop - start, in]."""
        low, high = max(start, self.outputs[0]), min(stop, self.outputs[1])
        if low >= high:
            return
        made = slice(low - self.outputs[0] + self.first, high - self.outputs[0] + self.first)
        rank = self.a.shape[0] // self.experts
        a = read_rows(self.a, self.expert * rank, (self.expert + 1) * rank)
        if self.swapped:
            left, right = a[:, made].T, read_every(self.b, self.experts, self.expert).T
        else:
            left, right = read_every(self.b, self.experts, self.expert, made.start, made.stop), a
        values[low - start : high - start] += _product(left, right, self.scale)


@dataclass(frozen=True)
class ExpertSums:
    """What is added to the matrices that a tensor holds: by their numbers. outputs: of each.

    inputs_first: each is stored [in, out].
    """

    outputs: int
    inputs_first: bool
    added: dict[int, list[ExpertLowRank]]

    def add_to_outputs(self, values: Array, start: int, stop: int) -> None:
        """Adds to outputs `start` to `stop` of all matrices on top of each other, [stop - start, in]."""
        for matrix in range(start // self.outputs, -(-stop // self.outputs)):
            top = matrix * self.outputs
            low, high = max(start, top), min(stop, top + self.outputs)
            for each in self.added.get(matrix, ()):
                each.add_to(values[low - start : high - start], low - top, high - top)

    def add_to_matrices(self, values: Array, start: int, stop: int) -> None:
        """Adds to whole matrices, as they are stored: [stop - start, ...]."""
        for matrix in range(start, stop):
            stored = values[matrix - start]
            for each in self.added.get(matrix, ()):
                each.add_to(stored.T if self.inputs_first else stored, 0, self.outputs)


def _product(left: Array, right: Array, scale: float) -> Array:
    import numpy as np

    with np.errstate(over="ignore"):  # merged weights that are not finite are refused by name
        delta: Array = left @ right
        delta *= scale
    return delta
