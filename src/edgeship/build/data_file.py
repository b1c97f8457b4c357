"""The data file of a model, written weight by weight: read, merged, quantized and put in its place in chunks of rows.

Memory is a few chunks, whatever the model's size. A journal beside the file says which weights are in it, each with
checksums, so that a killed build goes on with the weight that it had in hand.
"""

from __future__ import annotations

import json
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from edgeship.build.feedback import Spread, quantize_spreading
from edgeship.build.layout import Blob, Layout, Placed, Vector
from edgeship.build.quantize import Scheme, quantize
from edgeship.errors import PrecisionUnsupported
from edgeship.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.build.weights import Weights

    Array = npt.NDArray[Any]


class Guidance(Protocol):
    """What is known of the errors that matter in a matrix.

    Of each of its inputs by itself, float32 [width], or of all together; None where nothing is.
    """

    def get(self, name: str, /) -> npt.NDArray[np.float32] | Spread | None:
        """By the matrix's name. Called from several threads, in the layout's order."""
        ...


JOURNAL = "journal.jsonl"
CHUNK_ELEMENTS = 1 << 20
_READ_BYTES = 1 << 22
_FP16_MAX = 65504.0


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of one tensor of the checkpoint, which begin at `row` of a weight; `last` ends it."""

    placed: Placed
    tensor: str
    start: int
    stop: int
    row: int
    last: bool


def write(
    layout: Layout,
    weights: Weights,
    path: Path,
    *,
    threads: int,
    guidance: Guidance | None = None,
    progress: Progress = silent,
) -> None:
    """Writes `path`, going on where a journal beside it says that an earlier run was; the journal goes at the end.

    Raises WeightsDamaged, PrecisionUnsupported naming the tensor, OSError.
    """
    journal = path.with_name(JOURNAL)
    path.touch()
    with path.open("r+b") as stream:
        done = _verified(journal, layout, stream)
        meter = _Meter(layout, done, progress)
        pieces = (piece for placed in layout if placed.weight.name not in done for piece in cut(placed))
        with journal.open("w", encoding="utf-8") as notes:
            for name, checksums in done.items():
                _note(notes, name, checksums)
            checksums = []
            for piece, arrays in _made(pieces, weights, guidance or {}, threads):
                checksums = checksums or [0] * len(arrays)
                for index, (blob, array) in enumerate(zip(piece.placed.blobs, arrays, strict=True)):
                    data = array.reshape(-1).view("u1").data
                    stream.seek(blob.offset + piece.row * (blob.nbytes // blob.shape[0]))
                    stream.write(data)
                    checksums[index] = zlib.crc32(data, checksums[index])
                    meter.wrote(len(data))
                if piece.last:
                    stream.flush()
                    _note(notes, piece.placed.weight.name, checksums)
                    checksums = []
            stream.truncate(layout.size_bytes)
    journal.unlink()


def cut(placed: Placed) -> Iterator[Piece]:
    """A weight in pieces of about CHUNK_ELEMENTS elements, top to bottom."""
    weight, row = placed.weight, 0
    step = max(1, CHUNK_ELEMENTS // (1 if isinstance(weight, Vector) else weight.width))
    for part in weight.parts:
        for start in range(part.start, part.stop, step):
            stop = min(part.stop, start + step)
            last = part is weight.parts[-1] and stop == part.stop
            yield Piece(placed, part.tensor, start, stop, row + start - part.start, last)
        row += part.stop - part.start


def _made(
    pieces: Iterable[Piece], weights: Weights, guidance: Guidance, threads: int
) -> Iterator[tuple[Piece, Sequence[Array]]]:
    """Each piece with its arrays, one for each blob, in order; as many are under way as there are threads, and one."""
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[tuple[Piece, Future[Sequence[Array]]]] = deque()
        try:
            for piece in pieces:
                under_way.append((piece, pool.submit(_make, piece, weights, guidance)))
                if len(under_way) > threads:
                    first, future = under_way.popleft()
                    yield first, future.result()
            while under_way:
                first, future = under_way.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _make(piece: Piece, weights: Weights, guidance: Guidance) -> Sequence[Array]:
    import numpy as np

    weight, storage = piece.placed.weight, piece.placed.storage
    rows = weights.rows(piece.tensor, piece.start, piece.stop)
    if isinstance(weight, Vector):
        return [rows + np.float32(weight.added)]
    if isinstance(storage, Scheme):
        guide = guidance.get(weight.name)
        if isinstance(guide, Spread):
            blocks = quantize_spreading(rows, guide, storage)
        else:
            blocks = quantize(rows, storage, guide)
        return [array for array in (blocks.packed, blocks.scales, blocks.zero_points) if array is not None]
    if storage == "float32":
        return [rows]
    largest = float(np.abs(rows).max(initial=0.0))
    if largest > _FP16_MAX:
        raise PrecisionUnsupported(
            f"FP16 cannot hold the tensor {piece.tensor}: its largest value is {largest:g}, above {_FP16_MAX:g}",
            hint="Build fp32, int8 or int4 instead.",
        )
    return [rows.astype(np.float16)]


def _note(notes: IO[str], name: str, checksums: Sequence[int]) -> None:
    notes.write(json.dumps([name, *checksums]) + "\n")
    notes.flush()


def _verified(journal: Path, layout: Layout, stream: IO[bytes]) -> dict[str, list[int]]:
    """The weights that the journal lists and whose bytes in the file are still those, with their checksums."""
    found: dict[str, list[int]] = {}
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []
    for line in lines:
        try:
            name, *checksums = json.loads(line)
        except ValueError:
            break  # the line that was being written when the run ended
        placed = layout.weights.get(name)
        if placed is not None and [_checksum(stream, blob) for blob in placed.blobs] == checksums:
            found[name] = checksums
    return found


def _checksum(stream: IO[bytes], blob: Blob) -> int:
    stream.seek(blob.offset)
    left, checksum = blob.nbytes, 0
    while left > 0 and (data := stream.read(min(left, _READ_BYTES))):
        checksum = zlib.crc32(data, checksum)
        left -= len(data)
    return checksum if left == 0 else -1


class _Meter:
    """Tells the bytes written, and the time left by the speed so far."""

    def __init__(self, layout: Layout, done: Iterable[str], progress: Progress) -> None:
        self._total = layout.size_bytes
        self._before = sum(blob.nbytes for name in done for blob in layout.weights[name].blobs)
        self._written, self._progress = 0, progress
        self._started = self._told = time.monotonic()

    def wrote(self, count: int) -> None:
        self._written += count
        now = time.monotonic()
        if now - self._told < 0.2:
            return
        self._told = now
        position = self._before + self._written
        left_s = (now - self._started) / self._written * (self._total - position)
        self._progress(
            f"convert: {position / 1e6:.0f} of {self._total / 1e6:.0f} MB, {left_s:.0f} s left",
            position / self._total,
        )
