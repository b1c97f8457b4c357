"""What a model's data file holds: every weight of the graph, how it is stored, and where.

The whole layout is known before a weight is read: offsets follow from shapes. That is what lets tensors be written one
at a time, in any order, and a build go on where it was killed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgeship.builder.architecture import Architecture
from edgeship.builder.quantize import Scheme

Shapes = Mapping[str, tuple[int, ...]]
Plain = Literal["float32", "float16"]
Storage = Scheme | Plain
"""How a matrix is stored: in blocks of integers, or as plain numbers."""

ITEM_BYTES = {"float32": 4, "float16": 2, "uint8": 1}
ALIGNMENT = 64
"""Bytes: every tensor begins at a multiple of a cache line, so that it can be used where the file is mapped."""

EMBEDDING, HEAD = "embedding", "head"
XIELU = ("alpha_p", "alpha_n", "beta", "eps")
"""The numbers of the activation that is trained with the matrices around it."""
PER_LAYER = "per_layer."
"""What the names of weights begin with, of a layer or of all, that make of a token what it brings for each layer."""


@dataclass(frozen=True)
class Part:
    """Rows `start` to `stop` of one tensor of the checkpoint; a vector's elements count as rows.

    Of a tensor that holds several matrices, [n, rows, width], they are on top of each other.
    beside: the tensor and the first row of as many others, one of which follows each of these.
    turned: the tensor holds matrices [n, width, rows], whose rows these are all the same.
    """

    tensor: str
    start: int
    stop: int
    beside: tuple[str, int] | None = None
    turned: bool = False

    @property
    def rows(self) -> int:
        """Those beside are counted."""
        return (self.stop - self.start) * (1 if self.beside is None else 2)

    def cut(self, step: int) -> Iterator[Part]:
        """In pieces of so many rows, or one more: those that are beside each other stay together."""
        step = max(1, step * (self.stop - self.start) // max(1, self.rows))
        for start in range(self.start, self.stop, step):
            beside = None if self.beside is None else (self.beside[0], self.beside[1] + start - self.start)
            yield replace(self, start=start, stop=min(self.stop, start + step), beside=beside)


@dataclass(frozen=True)
class Stack:
    """That a matrix is those of all experts, on top of each other.

    count: of experts. unit: blocks of all matrices that the experts have are of one size, which divides this.
    """

    count: int
    unit: int


@dataclass(frozen=True)
class Matrix:
    """One matrix of the graph, [rows, width] with a row for each output, its parts on top of each other.

    exact: float32 in every precision, since it is small, and what it makes is added up over all tokens or decides.
    stack: of experts, whose inputs nobody sees: such a matrix is rounded by itself. None for a matrix that is one.
    """

    name: str
    parts: tuple[Part, ...]
    width: int
    exact: bool = False
    stack: Stack | None = None

    @property
    def rows(self) -> int:
        """Outputs."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True)
class Vector:
    """Norm weights, biases and kernels of convolutions, always float32.

    added: to every element, since Gemma stores norms less one. item: the shape of each element; () for numbers.
    """

    name: str
    parts: tuple[Part, ...]
    added: float = 0.0
    item: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Elements."""
        return sum(part.stop - part.start for part in self.parts)


@dataclass(frozen=True)
class Blob:
    """One tensor of the data file. offset: bytes from its start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Placed:
    """A weight with its place. blobs: plain values; or packed integers, scales and, if there are any, zero points."""

    weight: Matrix | Vector
    storage: Storage
    blobs: tuple[Blob, ...]


@dataclass(frozen=True)
class Layout:
    """All weights by name, in the file's order. size_bytes: of the data file."""

    weights: Mapping[str, Placed]
    size_bytes: int

    def __iter__(self) -> Iterator[Placed]:
        return iter(self.weights.values())


def output_name(architecture: Architecture) -> str:
    """What the matrix of the output layer is called: the embedding, where one matrix is both."""
    return EMBEDDING if architecture.tied else HEAD


def lay_out(weights: Sequence[Matrix | Vector], storage: Mapping[str, Storage]) -> Layout:
    """Places every weight. `storage`: of each matrix, by name."""
    placed: dict[str, Placed] = {}
    position = 0
    for weight in weights:
        how: Storage = storage[weight.name] if isinstance(weight, Matrix) else "float32"
        blobs = []
        for name, dtype, shape in _pieces(weight, how):
            position += -position % ALIGNMENT
            blobs.append(Blob(name, dtype, shape, position))
            position += blobs[-1].nbytes
        placed[weight.name] = Placed(weight, how, tuple(blobs))
    return Layout(placed, position)


def _pieces(weight: Matrix | Vector, storage: Storage) -> list[tuple[str, str, tuple[int, ...]]]:
    if isinstance(weight, Vector):
        return [(weight.name, "float32", (weight.size, *weight.item))]
    rows = (weight.rows,) if weight.stack is None else (weight.stack.count, weight.rows // weight.stack.count)
    if not isinstance(storage, Scheme):
        return [(weight.name, storage, (*rows, weight.width))]
    blocks = -(-weight.width // storage.block_size)
    block_bytes = storage.block_size * storage.bits // 8
    packed = (blocks, block_bytes) if weight.stack is None else (blocks * block_bytes,)
    pieces = [
        (f"{weight.name}.packed", "uint8", (*rows, *packed)),
        (f"{weight.name}.scales", "float16", (*rows, blocks)),
    ]
    if not storage.symmetric:
        pieces.append((f"{weight.name}.zero_points", "uint8", (*rows, -(-blocks * storage.bits // 8))))
    return pieces


def matrix_bytes(matrix: Matrix, storage: Storage) -> int:
    """What a matrix takes in the file, without alignment."""
    return sum(math.prod(shape) * ITEM_BYTES[dtype] for _, dtype, shape in _pieces(matrix, storage))
