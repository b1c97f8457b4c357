"""A safetensors file: its header, checked to the last byte, and its tensors, read one at a time."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from edgeship.errors import CheckpointInvalid, WeightsDamaged
from edgeship.system import foreign, json_file
from edgeship.system.fields import shown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_HEADER_BYTES = 1 << 25
"""Of a hundred thousand tensors it is a third of that."""
_MOST_DIMENSIONS, _LARGEST = 16, 1 << 62
BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}
FLOATS = ("F16", "BF16", "F32", "F64")
"""The types that are plain numbers."""
_CHUNK = 1 << 22
_IN_CACHE = 1 << 16
LARGEST_WEIGHT = 1e5
"""What is stored is damaged, or of a training that went wrong, where it is larger in size."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies. dtype: as the format names it, e.g. "BF16". offset: bytes from the file's start."""

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name, in the order of their bytes.

    Raises WeightsDamaged for a file that is missing, truncated or too long, or whose header contradicts itself.
    """
    try:
        with foreign.open_file(path) as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            prefix = stream.read(8)
            if prefix == b"version ":
                raise WeightsDamaged(
                    f"{path.name} is a Git LFS pointer, not the weights",
                    where=str(path),
                    hint="Run `git lfs pull` in the checkpoint's clone.",
                )
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > MAX_HEADER_BYTES:
                raise _damaged(path, "it does not begin with the length of a header")
            if 8 + length > size:
                raise _damaged(path, f"it is truncated: its header needs {8 + length} bytes and it has {size}")
            header = stream.read(length)
    except FileNotFoundError as error:
        raise WeightsDamaged(f"{path.name} is missing", where=str(path), hint=_COPY_AGAIN) from error
    except OSError as error:
        raise _damaged(path, f"it cannot be read: {error}") from error
    tensors = _parse(path, header)
    _check_layout(path, tensors, data_start=8 + length, size=size)
    return {tensor.name: tensor for tensor in tensors}


def raw_bits(tensor: StoredTensor) -> npt.NDArray[np.unsignedinteger[Any]]:
    """A tensor's bits as unsigned integers of its width, in its shape; mapped from the file, read-only.

    Types narrower than a byte come as bytes, flat.
    """
    import numpy as np

    bits = BITS[tensor.dtype]
    kind = np.dtype(f"<u{max(bits, 8) // 8}")
    shape = tensor.shape if bits >= 8 else (tensor.nbytes,)
    if tensor.nbytes == 0:
        return np.empty(shape, kind)
    try:
        with foreign.open_file(tensor.path) as stream:
            return np.memmap(stream, kind, mode="r", offset=tensor.offset, shape=shape or (1,)).reshape(shape)
    except (OSError, ValueError) as error:
        raise _damaged(tensor.path, f"tensor {tensor.name} cannot be read: {error}") from error


def read_float32(tensor: StoredTensor) -> npt.NDArray[np.float32]:
    """A tensor as float32 in its shape, in memory of its own: exact for F32, F16 and BF16, rounded for F64.

    Raises CheckpointInvalid for types that are no plain floats.
    """
    _require_float(tensor)
    return _widened(tensor.dtype, raw_bits(tensor))


def read_rows(tensor: StoredTensor, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
    """Rows `start` to `stop` (of a vector: elements) as float32 [stop - start, ...], in memory of their own.

    They are read, not mapped: the pages of a map that were touched count as the process's memory. Several threads may
    read at once. Raises CheckpointInvalid for types that are no plain floats, WeightsDamaged that names the tensor for
    a file that ends too early and for a number that `find_absurd` finds.
    """
    _require_float(tensor)
    rows = tensor.shape[0] if tensor.shape else 1
    stop = rows if stop is None else stop
    if not 0 <= start <= stop <= rows:
        raise IndexError(f"rows {start} to {stop} of {tensor.name}, which has {rows}")
    width = tensor.count // rows if rows else 0
    bits = _read_elements(tensor, start * width, (stop - start) * width)
    shape = (stop - start, *tensor.shape[1:]) if tensor.shape else ()
    return _as_plausible(tensor, bits, lambda index: start * width + index).reshape(shape)


def read_every(
    tensor: StoredTensor, step: int, column: int, start: int = 0, stop: int | None = None
) -> npt.NDArray[np.float32]:
    """Every `step`-th column of a matrix's rows `start` to `stop`, beginning with `column`, as float32.

    Raises what `read_rows` raises, for these numbers alone.
    """
    _require_float(tensor)
    bits, width = read_bits(tensor, start, stop)[:, column::step], tensor.shape[1]
    count: int = bits.shape[1]

    def place(index: int) -> int:
        return (start + index // count) * width + column + index % count * step

    return _as_plausible(tensor, bits.reshape(-1), place).reshape(bits.shape)


def read_columns(tensor: StoredTensor, start: int, stop: int) -> npt.NDArray[np.float32]:
    """Columns of a matrix as float32 [rows, stop - start]. Raises what `read_rows` raises."""
    _require_float(tensor)
    bits, (_, width), count = read_bit_columns(tensor, start, stop), tensor.shape, stop - start
    flat = _as_plausible(tensor, bits.reshape(-1), lambda index: index // count * width + start + index % count)
    return flat.reshape(bits.shape)


def read_bits(tensor: StoredTensor, start: int = 0, stop: int | None = None) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Rows of a tensor's bits as unsigned integers of its width, of whatever type they are; read, not mapped."""
    rows = tensor.shape[0] if tensor.shape else 1
    stop = rows if stop is None else stop
    width = tensor.count // rows if rows else 0
    shape = (stop - start, *tensor.shape[1:]) if tensor.shape else ()
    return _read_elements(tensor, start * width, (stop - start) * width).reshape(shape)


def read_bit_columns(tensor: StoredTensor, start: int, stop: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Columns of a matrix's bits, [rows, stop - start]: of each row only these are read."""
    import numpy as np

    rows, width = tensor.shape
    if stop - start == width:
        return read_bits(tensor)
    bytes_each = BITS[tensor.dtype] // 8
    columns = np.empty((rows, stop - start), f"<u{bytes_each}")
    try:
        with foreign.open_file(tensor.path) as stream:
            for row, place in enumerate(columns):
                stream.seek(tensor.offset + (row * width + start) * bytes_each)
                if stream.readinto(place.data) < place.nbytes:
                    raise _damaged(tensor.path, f"it ends in tensor {tensor.name}")
    except OSError as error:
        raise _damaged(tensor.path, f"tensor {tensor.name} cannot be read: {error}") from error
    return columns


def read_bytes(tensor: StoredTensor, start: int, size: int) -> bytes:
    """At most `size` of a tensor's bytes, from its byte `start` on. Raises WeightsDamaged."""
    try:
        with foreign.open_file(tensor.path) as stream:
            stream.seek(tensor.offset + start)
            return stream.read(min(size, tensor.nbytes - start))
    except OSError as error:
        raise _damaged(tensor.path, f"tensor {tensor.name} cannot be read: {error}") from error


def same_values(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors agree in shape and every number, be they stored as floats of different types."""
    if one.shape != other.shape:
        return False
    if (one.path, one.offset) == (other.path, other.offset):
        return True
    if one.dtype == other.dtype:
        starts = range(0, one.nbytes, _CHUNK)
        return all(read_bytes(one, at, _CHUNK) == read_bytes(other, at, _CHUNK) for at in starts)
    return one.dtype in FLOATS and other.dtype in FLOATS and _same_numbers(one, other)


def _same_numbers(one: StoredTensor, other: StoredTensor) -> bool:
    """Compares as float64, to which every float widens exactly."""
    import numpy as np

    def wide(tensor: StoredTensor, start: int) -> npt.NDArray[np.float64]:
        bits = _read_elements(tensor, start, min(_IN_CACHE, tensor.count - start))
        stored = _widened(tensor.dtype, bits) if tensor.dtype == "BF16" else bits.view(f"<f{BITS[tensor.dtype] // 8}")
        return stored.astype(np.float64)

    return all(
        np.array_equal(wide(one, start), wide(other, start), equal_nan=True) for start in range(0, one.count, _IN_CACHE)
    )


def find_absurd(tensor: StoredTensor) -> tuple[int, float] | None:
    """Flat index and value of the first element that is NaN, infinite or beyond 1e5 in size; None where there is none.

    Types that are no plain floats are not looked at.
    """
    if tensor.dtype not in FLOATS:
        return None
    flat = raw_bits(tensor).reshape(-1)
    index = _first_absurd(tensor.dtype, flat)
    return None if index is None else (index, _as_float(tensor.dtype, int(flat[index])))


class _Named(Protocol):
    """What has a name in a file."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...


def absurd_value(tensor: _Named, index: int, value: float) -> WeightsDamaged:
    """The error for what `find_absurd` finds."""
    return WeightsDamaged(
        f"tensor {tensor.name} holds {value:g} at element {index}: no trained weight looks like that",
        where=str(tensor.path),
        hint="Copy or download the file again; if it is the same, the training went wrong.",
    )


def _require_float(tensor: StoredTensor) -> None:
    if tensor.dtype not in FLOATS:
        raise CheckpointInvalid(
            f"tensor {tensor.name} is stored as {tensor.dtype}, which cannot be read as plain numbers",
            where=str(tensor.path),
            hint="Save the checkpoint in bfloat16, float16 or float32.",
        )


def _as_plausible(
    tensor: StoredTensor, bits: npt.NDArray[np.unsignedinteger[Any]], place: Callable[[int], int]
) -> npt.NDArray[np.float32]:
    """The floats that these bits are, flat, none of which `find_absurd` would find. place: of one in the tensor."""
    index = _first_absurd(tensor.dtype, bits)
    if index is not None:
        raise absurd_value(tensor, place(index), _as_float(tensor.dtype, int(bits[index])))
    return _widened(tensor.dtype, bits)


def _widened(dtype: str, bits: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.float32]:
    """The floats that these bits are: a copy of those in a file's map; others stay where they lie if they can."""
    import numpy as np

    if dtype == "BF16":
        wide = bits.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    mapped = isinstance(bits, np.memmap)
    return np.asarray(bits).view(f"<f{BITS[dtype] // 8}").astype(np.float32, copy=mapped)


def _read_elements(tensor: StoredTensor, first: int, count: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The bits of `count` elements, flat."""
    import numpy as np

    width = BITS[tensor.dtype] // 8
    try:
        with foreign.open_file(tensor.path) as stream:
            bits = np.fromfile(stream, f"<u{width}", count, offset=tensor.offset + first * width)
    except OSError as error:
        raise _damaged(tensor.path, f"tensor {tensor.name} cannot be read: {error}") from error
    if bits.size < count:
        raise _damaged(tensor.path, f"it ends in tensor {tensor.name}")
    return bits


def _first_absurd(dtype: str, flat: npt.NDArray[np.unsignedinteger[Any]]) -> int | None:
    """Index of the first element that is NaN, infinite or beyond 1e5 in size."""
    import numpy as np

    # Without the sign, a float's bits grow with its size, and infinity and NaN come last: one comparison does.
    limit, mask = {
        "BF16": (int(np.float32(LARGEST_WEIGHT).view(np.uint32)) >> 16, 0x7FFF),
        "F16": (0x7BFF, 0x7FFF),
        "F32": (int(np.float32(LARGEST_WEIGHT).view(np.uint32)), 0x7FFF_FFFF),
        "F64": (int(np.float64(LARGEST_WEIGHT).view(np.uint64)), 0x7FFF_FFFF_FFFF_FFFF),
    }[dtype]
    for start in range(0, flat.size, _IN_CACHE):
        sizes = flat[start : start + _IN_CACHE] & flat.dtype.type(mask)
        if sizes.max() > limit:
            return start + int(np.argmax(sizes > limit))
    return None


def _as_float(dtype: str, bits: int) -> float:
    import numpy as np

    if dtype == "BF16":
        return float(np.uint32(bits << 16).view(np.float32))
    width = BITS[dtype] // 8
    return float(np.frombuffer(bits.to_bytes(width, "little"), f"<f{width}")[0])


def _parse(path: Path, header: bytes) -> list[StoredTensor]:
    try:
        entries = json_file.parse(header)
    except ValueError as error:
        raise _damaged(path, f"its header is not valid JSON: {error}") from error
    if not isinstance(entries, dict):
        raise _damaged(path, "its header is no JSON object")
    entries.pop("__metadata__", None)
    tensors = [_parse_entry(path, name, entry, 8 + len(header)) for name, entry in entries.items()]
    return sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes))


def _parse_entry(path: Path, name: str, entry: object, data_start: int) -> StoredTensor:
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not (isinstance(dtype, str) and _whole_numbers(shape) and _whole_numbers(offsets) and len(offsets) == 2):
        raise _damaged(path, f"the header's entry for tensor {name} lacks dtype, shape or data_offsets")
    if dtype not in BITS:
        raise _damaged(path, f"tensor {name} has the unknown type {shown(dtype)}")
    begin, end = offsets
    needed_bits = math.prod(shape) * BITS[dtype]
    if (end - begin) * 8 != needed_bits:
        raise _damaged(
            path,
            f"tensor {name} {dtype}{shape} needs {needed_bits // 8} bytes, not {end - begin}",
        )
    return StoredTensor(name, path, dtype, tuple(shape), data_start + begin, end - begin)


def _whole_numbers(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_DIMENSIONS
        and all(type(number) is int and 0 <= number <= _LARGEST for number in value)
    )


def _check_layout(path: Path, tensors: list[StoredTensor], data_start: int, size: int) -> None:
    position = data_start
    for tensor in tensors:
        if tensor.offset != position:
            relation = "overlaps the tensor before it" if tensor.offset < position else "leaves a gap before it"
            raise _damaged(path, f"tensor {tensor.name} {relation}")
        position += tensor.nbytes
    if size < position:
        cut = next(tensor for tensor in tensors if tensor.offset + tensor.nbytes > size)
        raise _damaged(path, f"it is truncated in tensor {cut.name}: {size} of {position} bytes are there")
    if size > position:
        raise _damaged(path, f"{size - position} bytes follow after its last tensor")


_COPY_AGAIN = "Copy or download the file again from where the checkpoint came."


def _damaged(path: Path, what: str) -> WeightsDamaged:
    return WeightsDamaged(f"{path.name} is damaged: {what}", where=str(path), hint=_COPY_AGAIN)
