"""States of many sequences, a row for each. The graph reads and writes them in place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeship.engine.decoders import Floats


class States:
    """buffers: one for each state of the model, [rows, ...]; none where it keeps keys and values alone."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], rows: int) -> None:
        self.buffers: list[Floats] = [np.zeros((rows, *shape), np.float32) for shape in shapes]
        self._floats = sum(math.prod(shape) for shape in shapes)

    def __bool__(self) -> bool:
        return bool(self.buffers)

    def clear(self, row: int) -> None:
        """As before the first token of a text."""
        for buffer in self.buffers:
            buffer[row] = 0

    def copy(self, row: int) -> Floats:
        """A row's states, one after another."""
        copied = np.empty(self._floats, np.float32)
        start = 0
        for buffer in self.buffers:
            part = buffer[row].reshape(-1)
            copied[start : start + part.size] = part
            start += part.size
        return copied

    def put(self, row: int, copied: Floats) -> None:
        """Makes a row's states those that were copied."""
        start = 0
        for buffer in self.buffers:
            part = buffer[row].reshape(-1)
            part[:] = copied[start : start + part.size]
            start += part.size

    def move(self, before: int, row: int) -> None:
        """Copies the states of one row to another."""
        for buffer in self.buffers:
            buffer[row] = buffer[before]
