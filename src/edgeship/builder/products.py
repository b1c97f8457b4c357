"""Matrix products on all cores, the same to the last bit on however many.

BLAS cuts a product among its threads, and rounds otherwise where it cuts otherwise. Here tiles of rows are shared among
threads of ours: a tile is as large whoever computes it, and BLAS has one thread (see processes.ONE_NUMPY_THREAD).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from edgeship.system.machine import usable_cores

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

TILE = 256
"""Rows of a tile."""


def product(left: Array, right: Array) -> Array:
    """left @ right."""
    import numpy as np

    result = np.empty((left.shape[0], right.shape[1]), left.dtype)
    in_tiles(len(left), lambda rows: np.matmul(left[rows], right, out=result[rows]))
    return result


def subtract_product(target: Array, left: Array, right: Array) -> None:
    """target -= left @ right."""

    def subtract(rows: slice) -> None:
        target[rows] -= left[rows] @ right

    in_tiles(len(target), subtract)


def add_gram(target: Array, inputs: Array) -> None:
    """target += inputs.T @ inputs, but above the diagonal's tiles: `mirror` copies what is below it."""

    def add(rows: slice) -> None:
        target[rows, : rows.stop] += inputs[:, rows].T @ inputs[:, : rows.stop]

    in_tiles(len(target), add)


def mirror(target: Array) -> None:
    """Makes a matrix symmetric by the half below its diagonal."""

    def copy(rows: slice) -> None:
        for row in range(rows.start, rows.stop):
            target[:row, row] = target[row, :row]

    in_tiles(len(target), copy)


def in_tiles(count: int, work: Callable[[slice], object]) -> None:
    """Does the work for all rows, a tile at a time; no two tiles may write to the same place."""
    tiles = [slice(start, min(start + TILE, count)) for start in range(0, count, TILE)]
    if len(tiles) == 1:
        work(tiles[0])
    else:
        list(_threads().map(work, tiles))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="products")
