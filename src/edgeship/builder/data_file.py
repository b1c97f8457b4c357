"""The data file of a model, written in pieces of rows: read, merged, quantized and put in its place.

Memory is one piece, whatever the model's size. Several processes can write shares of one file, since every piece has
its place. Journals beside the file have a line with checksums for each piece that is in it, so that a killed build
goes on with the piece that it had in hand.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from edgeship.builder.feedback import ErrorFactors, quantize_with_feedback
from edgeship.builder.layout import Layout, Part, Placed, Vector
from edgeship.builder.quantize import Blocks, Scheme, keep, quantize
from edgeship.errors import PrecisionUnsupported
from edgeship.system import foreign, json_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.builder.weights import Weights

    Array = npt.NDArray[Any]

JOURNALS = "journal-*.jsonl"
# With half as many rows at a time, error feedback takes a third longer on wide matrices: each of its steps has a cost.
CHUNK_ELEMENTS = 1 << 21
_READ_BYTES = 1 << 22
_FP16_MAX = 65504.0


class Guidance(Protocol):
    """What is known of the errors that matter in a matrix.

    Of each of its inputs by itself, float32 [width], or of parts of them together, which make up the width, each but
    the last an even number of blocks; None where nothing is.
    """

    def get(self, name: str, /) -> npt.NDArray[np.float32] | Sequence[ErrorFactors] | None:
        """By the matrix's name. Asked in the layout's order."""
        ...


@dataclass(frozen=True)
class RowRange:
    """A few rows of the checkpoint, which begin at `row` of a weight."""

    placed: Placed
    part: Part
    row: int

    @property
    def key(self) -> str:
        """Its name in a journal."""
        return f"{self.placed.weight.name}:{self.row}+{self.part.rows}"

    def spans(self) -> Iterator[tuple[int, int]]:
        """Where its rows lie in the file, blob by blob: offset and length, bytes."""
        weight = self.placed.weight
        count = weight.size if isinstance(weight, Vector) else weight.rows
        for blob in self.placed.blobs:
            row_bytes = blob.nbytes // count
            yield blob.offset + self.row * row_bytes, self.part.rows * row_bytes


def write(
    layout: Layout,
    weights: Weights,
    path: Path,
    *,
    share: tuple[int, int] = (0, 1),
    guidance: Guidance | None = None,
    tell: Callable[[int], object] = lambda _: None,
) -> None:
    """Writes every `share[1]`-th piece of `path`, beginning with `share[0]`, but for those that journals list already.

    tell: gets the bytes of this share that are in the file. When all shares are written, call `finish`.
    Raises WeightsDamaged, PrecisionUnsupported naming the tensor, OSError.
    """
    first, count = share
    listed = _read_journals(path)
    path.touch()
    journal_path = path.with_name(JOURNALS.replace("*", str(first)))
    with path.open("r+b") as stream, journal_path.open("a", encoding="utf-8") as journal:
        written = 0
        for piece in [piece for placed in layout for piece in cut(placed)][first::count]:
            if listed.get(piece.key) != _checksums(stream, piece):
                checksums = []
                for (offset, _), array in zip(piece.spans(), _make(piece, weights, guidance), strict=True):
                    data = array.reshape(-1).view("u1").data
                    stream.seek(offset)
                    stream.write(data)
                    checksums.append(zlib.crc32(data))
                stream.flush()
                journal.write(json.dumps([piece.key, *checksums]) + "\n")
                journal.flush()
            written += sum(length for _, length in piece.spans())
            tell(written)


def finish(layout: Layout, path: Path) -> None:
    """Gives the file its length and removes the journals."""
    with path.open("r+b") as stream:
        stream.truncate(layout.size_bytes)
    forget(path)


def forget(path: Path) -> None:
    """Removes the journals: nothing of the file is taken as written."""
    for journal in path.parent.glob(JOURNALS):
        journal.unlink()


def cut(placed: Placed) -> Iterator[RowRange]:
    """A weight in pieces of about CHUNK_ELEMENTS elements, top to bottom."""
    weight, row = placed.weight, 0
    step = max(1, CHUNK_ELEMENTS // (1 if isinstance(weight, Vector) else weight.width))
    for part in weight.parts:
        for piece in part.cut(step):
            yield RowRange(placed, piece, row)
            row += piece.rows


def _make(piece: RowRange, weights: Weights, guidance: Guidance | None) -> Sequence[Array]:
    """One array for each blob."""
    import numpy as np

    weight, storage = piece.placed.weight, piece.placed.storage
    if isinstance(storage, Scheme) and storage.method == "kept":
        part = piece.part
        return _arrays(keep(weights.integers(part.tensor, part.start, part.stop), storage))
    if isinstance(weight, Vector):
        return [weights.rows(piece.part.tensor, piece.part.start, piece.part.stop) + np.float32(weight.added)]
    rows = read_part(piece.part, weights)
    if isinstance(storage, Scheme):
        guide = None if guidance is None else guidance.get(weight.name)
        if guide is None or isinstance(guide, np.ndarray):
            blocks = quantize(rows, storage, guide)
        else:
            blocks = _in_parts(rows, guide, storage)
        return _arrays(blocks)
    if storage == "float32":
        return [rows]
    largest = float(np.abs(rows).max(initial=0.0))
    if largest > _FP16_MAX:
        raise PrecisionUnsupported(
            f"FP16 cannot hold the tensor {piece.part.tensor}: its largest value is {largest:g}, above {_FP16_MAX:g}",
            hint="Build fp32, int8 or int4 instead.",
        )
    return [rows.astype(np.float16)]


def read_part(part: Part, weights: Weights) -> Array:
    """Rows of a matrix, float32 [rows, width]."""
    import numpy as np

    read = weights.columns if part.turned else weights.stacked
    rows = read(part.tensor, part.start, part.stop)
    if part.beside is None:
        return rows
    tensor, start = part.beside
    both = np.empty((len(rows), 2, rows.shape[1]), np.float32)
    both[:, 0] = rows
    both[:, 1] = read(tensor, start, start + len(rows))
    return both.reshape(-1, rows.shape[1])


def _arrays(blocks: Blocks) -> list[Array]:
    return [array for array in (blocks.packed, blocks.scales, blocks.zero_points) if array is not None]


def _in_parts(rows: Array, guide: Sequence[ErrorFactors], scheme: Scheme) -> Blocks:
    """Each part of the columns with its own error feedback."""
    import numpy as np

    stops = np.cumsum([len(factors.gram) for factors in guide])
    parts = [
        quantize_with_feedback(part, factors, scheme)
        for part, factors in zip(np.split(rows, stops[:-1], axis=1), guide, strict=True)
    ]
    zero_points = [part.zero_points for part in parts if part.zero_points is not None]
    return Blocks(
        np.concatenate([part.packed for part in parts], axis=1),
        np.concatenate([part.scales for part in parts], axis=1),
        np.concatenate(zero_points, axis=1) if zero_points else None,
    )


def _read_journals(path: Path) -> dict[str, list[int]]:
    """The checksums of each piece by its key, of whatever number of shares the earlier run had.

    What cannot be read, such as the line that was being written when the run ended, is a piece to be written again.
    """
    found: dict[str, list[int]] = {}
    for journal in sorted(path.parent.glob(JOURNALS)):
        lines = b""
        with suppress(OSError):
            lines = foreign.read_bytes(journal)
        for line in lines.splitlines():
            with suppress(ValueError, TypeError):
                key, *checksums = json_file.parse(line)
                found[key] = checksums
    return found


def _checksums(stream: IO[bytes], piece: RowRange) -> list[int]:
    """Of what lies where the piece belongs."""
    found = []
    for offset, left in piece.spans():
        stream.seek(offset)
        checksum = 0
        while left > 0 and (data := stream.read(min(left, _READ_BYTES))):
            checksum = zlib.crc32(data, checksum)
            left -= len(data)
        found.append(checksum)
    return found
