"""Codes that stand for numbers, with scales: FP8, MXFP4, bitsandbytes' NF4 and FP4, and MLX's integers."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeship.checkpoint.packed import Packed, expect_shape, expect_type, unpacked, wrong
from edgeship.checkpoint.safetensors_file import FLOATS, StoredTensor, read_bits, read_bytes, read_rows
from edgeship.errors import CheckpointInvalid
from edgeship.system import json_file
from edgeship.system.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]

    Parts = Mapping[str, StoredTensor]

FP8_TYPES = ("F8_E4M3", "F8_E5M2")
FP8_BLOCK = (128, 128)
"""Rows and columns that share a scale where the config does not say so."""
MXFP4_GROUP = 32
_LARGEST_BLOCK = 1 << 16
"""Of bitsandbytes, 16 times what it offers: a block's size is memory."""
_EXPONENT_TYPES = ("F8_E8M0", "U8")
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True, eq=False)
class Fp8(Packed):
    """Floats of 8 bits [rows, width], and a scale for each block of them: block rows by block columns."""

    block: tuple[int, int]

    @property
    def dtype(self) -> str:
        """What its elements are kept as."""
        return {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}[self.parts["weight"].dtype]

    def _read(self, start: int, stop: int) -> Floats:
        import numpy as np

        weight, scales, (tall, wide) = self.parts["weight"], self.parts["scales"], self.block
        values: Floats = fp8_numbers(weight.dtype)[read_bits(weight, start, stop)]
        if scales.count == 1:
            values *= _scales(scales).reshape(())
            return values
        first = start // tall
        factors = _scales(scales, first, -(-stop // tall)).reshape(-(-stop // tall) - first, -1)
        rows = np.arange(start, stop) // tall - first
        if factors.shape[1] == 1:
            values *= factors[rows]
        else:
            values *= factors[rows][:, np.arange(self.shape[1]) // wide]
        return values


@dataclass(frozen=True, eq=False)
class Mxfp4(Packed):
    """Floats of 4 bits, two in a byte [rows, width / 2], and an exponent for 32 of them [rows, width / 32]."""

    @property
    def dtype(self) -> str:
        """What its elements are kept as."""
        return "mxfp4"

    def _read(self, start: int, stop: int) -> Floats:
        blocks = read_bits(self.parts["packed"], start, stop).reshape(stop - start, -1, MXFP4_GROUP // 2)
        return mxfp4_numbers(blocks, read_bits(self.parts["scales"], start, stop)).reshape(stop - start, -1)


@dataclass(frozen=True, eq=False)
class Bitsandbytes4(Packed):
    """Codes of 4 bits in the order of the elements, the first in the high half of a byte; a size for each block.

    block: elements that share the largest size there is, without regard to rows. kind: "nf4" or "fp4". nested_block,
    offset: of the sizes, where they are codes themselves.
    """

    block: int
    kind: str
    nested_block: int
    offset: float

    @property
    def dtype(self) -> str:
        """What its elements are kept as."""
        return self.kind

    def _read(self, start: int, stop: int) -> Floats:
        import numpy as np

        width = self.shape[1]
        first, last = start * width, stop * width
        first_byte = first // 2
        packed = np.frombuffer(read_bytes(self.parts["weight"], first_byte, -(-last // 2) - first_byte), np.uint8)
        if len(packed) < -(-last // 2) - first_byte:
            wrong(self.parts["weight"], "ends too early")
        numbers = read_rows(self.parts["quant_map"])
        pairs = np.stack((np.repeat(numbers, 16), np.tile(numbers, 16)), axis=-1)  # of each byte, both
        values: Floats = pairs[packed].reshape(-1)[first % 2 :][: last - first]
        block = first // self.block
        sizes = np.repeat(self._sizes(block, -(-last // self.block)), self.block)
        values *= sizes[first - block * self.block :][: last - first]
        return values.reshape(stop - start, width)

    def _sizes(self, start: int, stop: int) -> Floats:
        """The largest size in each of these blocks."""
        import numpy as np

        stored = self.parts["absmax"]
        if "nested_absmax" not in self.parts:
            return read_rows(stored, start, stop)
        sizes: Floats = read_rows(self.parts["nested_quant_map"])[read_bits(stored, start, stop)]
        sizes *= read_rows(self.parts["nested_absmax"])[np.arange(start, stop) // self.nested_block]
        sizes += np.float32(self.offset)
        return sizes


@dataclass(frozen=True, eq=False)
class Mlx(Packed):
    """Integers in words [rows, width * bits / 32], the lowest first; scale * integer + bias in each group of a row."""

    @property
    def dtype(self) -> str:
        """What its elements are kept as."""
        return f"int{self.bits}"

    def _read(self, start: int, stop: int) -> Floats:
        import numpy as np

        codes = unpacked(read_bits(self.parts["weight"], start, stop), self.bits)
        values = codes.astype(np.float32).reshape(stop - start, -1, self.group_size or self.shape[1])
        values *= read_rows(self.parts["scales"], start, stop)[:, :, None]
        values += read_rows(self.parts["biases"], start, stop)[:, :, None]
        return values.reshape(stop - start, -1)


def open_fp8(name: str, parts: Parts, block: tuple[int, int] | None) -> Fp8:
    """A matrix in FP8. block: as the config states it. Raises CheckpointInvalid."""
    weight, scales = parts["weight"], parts["scales"]
    expect_type(scales, *FLOATS, *_EXPONENT_TYPES)
    if len(weight.shape) != 2:
        wrong(weight, f"is {list(weight.shape)}, which is no matrix")
    rows, width = weight.shape
    if scales.count == 1:
        return Fp8(name, (rows, width), parts, 8, None, (rows, width))
    if scales.shape in ((rows,), (rows, 1)):
        return Fp8(name, (rows, width), parts, 8, width, (1, width))
    groups = scales.shape[1] if len(scales.shape) == 2 and scales.shape[0] == rows and block is None else 0
    if groups and width % groups == 0:
        size = width // groups
        return Fp8(name, (rows, width), parts, 8, size, (1, size))
    tall, wide = block or FP8_BLOCK
    expect_shape(scales, (-(-rows // tall), -(-width // wide)))
    return Fp8(name, (rows, width), parts, 8, wide, (tall, wide))


def open_mxfp4(name: str, parts: Parts) -> Mxfp4:
    """A matrix in FP4 with an exponent for each 32. Raises CheckpointInvalid."""
    packed, scales = parts["packed"], parts["scales"]
    expect_type(packed, "U8")
    expect_type(scales, *_EXPONENT_TYPES)
    if len(packed.shape) != 2 or packed.shape[1] % (MXFP4_GROUP // 2):
        wrong(packed, f"is {list(packed.shape)}, whose rows are no whole groups of {MXFP4_GROUP}")
    rows, width = packed.shape[0], 2 * packed.shape[1]
    expect_shape(scales, (rows, width // MXFP4_GROUP))
    return Mxfp4(name, (rows, width), parts, 4, MXFP4_GROUP)


def open_mxfp4_stack(name: str, packed: StoredTensor, scales: StoredTensor) -> Mxfp4:
    """Matrices [n, rows, width] in FP4 on top of each other, as GPT-OSS keeps experts. Raises CheckpointInvalid."""
    if len(packed.shape) != 4 or packed.shape[3] != MXFP4_GROUP // 2:
        wrong(packed, f"is {list(packed.shape)}, which are no groups of {MXFP4_GROUP} in the rows of several matrices")
    count, rows, groups, _ = packed.shape
    expect_shape(scales, (count, rows, groups))
    parts = {
        "packed": replace(packed, shape=(count * rows, groups * MXFP4_GROUP // 2)),
        "scales": replace(scales, shape=(count * rows, groups)),
    }
    return open_mxfp4(name, parts)


def open_bitsandbytes(name: str, parts: Parts) -> Bitsandbytes4:
    """A matrix in NF4 or FP4. Raises CheckpointInvalid."""
    weight, state = parts["weight"], parts["state"]
    fields = _read_state(state)
    kind = fields.text("quant_type", ("nf4", "fp4"))
    shape = fields.items("shape")
    if kind is None or len(shape) != 2 or not all(type(size) is int and 0 < size < 1 << 31 for size in shape):
        wrong(state, "does not say quant_type and the shape of a matrix")
    block = fields.required_count("blocksize", most=_LARGEST_BLOCK)
    elements = math.prod(shape)
    if weight.nbytes != -(-elements // 2):
        wrong(weight, f"has {weight.nbytes} bytes, and {shape} in 4 bits have {-(-elements // 2)}")
    blocks, absmax = -(-elements // block), parts["absmax"]
    expect_shape(absmax, (blocks,))
    _expect_map(parts["quant_map"], 16)
    nested_block, offset = 1, 0.0
    if "nested_absmax" in parts:
        expect_type(absmax, "U8")
        nested_block = fields.required_count("nested_blocksize")
        offset = fields.required_number("nested_offset")
        expect_shape(parts["nested_absmax"], (-(-blocks // nested_block),))
        _expect_map(parts["nested_quant_map"], 256)
    else:
        expect_type(absmax, *FLOATS)
    rows, width = shape
    return Bitsandbytes4(name, (rows, width), parts, 4, block, block, kind, nested_block, offset)


def open_mlx(name: str, parts: Parts, bits: int, group_size: int) -> Mlx:
    """A matrix of MLX's affine kind. Raises CheckpointInvalid."""
    weight, scales, biases = parts["weight"], parts["scales"], parts["biases"]
    if len(weight.shape) != 2:
        wrong(weight, f"is {list(weight.shape)}, which is no matrix")
    rows, width = weight.shape[0], weight.shape[1] * 32 // bits
    if width % group_size:
        wrong(weight, f"has rows of {width}, which are no whole groups of {group_size}")
    for part in (scales, biases):
        expect_type(part, *FLOATS)
        expect_shape(part, (rows, width // group_size))
    return Mlx(name, (rows, width), parts, bits, group_size)


@functools.cache
def fp8_numbers(dtype: str) -> Floats:
    """The numbers that the 256 codes of a type stand for, as the format names it."""
    import numpy as np

    codes = np.arange(256, dtype=np.uint16)
    if dtype == "F8_E5M2":  # the upper half of a float16
        return (codes << 8).view(np.float16).astype(np.float32)
    exponents, fractions = (codes >> 3 & 15).astype(np.int32), (codes & 7).astype(np.float32)
    sizes = np.where(exponents > 0, np.ldexp(8 + fractions, exponents - 10), np.ldexp(fractions, -9))
    sizes[(codes & 127) == 127] = np.nan  # there is no infinity
    return np.where(codes & 128, -sizes, sizes).astype(np.float32)


def mxfp4_numbers(blocks: Bytes, exponents: Bytes) -> Floats:
    """What blocks of 32 floats of 4 bits are: [..., groups, 16] and [..., groups] -> float32 [..., groups, 32].

    The first of two is in the low half of a byte. exponents: of 2, with 127 added.
    """
    import numpy as np

    numbers = np.array([*_E2M1, *(-number for number in _E2M1)], np.float32)
    found: Floats = numbers[unpacked(blocks, 4)]
    with np.errstate(over="ignore"):  # what is too large is refused by the name of its matrix
        return np.ldexp(found, exponents.astype(np.int32)[..., None] - 127)


def _scales(tensor: StoredTensor, start: int = 0, stop: int | None = None) -> Floats:
    """Scales as float32: plain numbers, or exponents of 2 with 127 added, of which 255 is no number."""
    import numpy as np

    if tensor.dtype in FLOATS:
        return read_rows(tensor, start, stop)
    exponents = read_bits(tensor, start, stop)
    return np.where(exponents == 255, np.float32(np.nan), np.ldexp(np.float32(1), exponents.astype(np.int32) - 127))


def _expect_map(tensor: StoredTensor, codes: int) -> None:
    expect_type(tensor, *FLOATS)
    expect_shape(tensor, (codes,))


def _read_state(tensor: StoredTensor) -> Fields:
    """What bitsandbytes says of a matrix: JSON in a tensor of bytes."""

    def refuse(what: str) -> CheckpointInvalid:
        return CheckpointInvalid(f"{tensor.name} {what}", where=str(tensor.path), hint=_SAVE_AGAIN)

    expect_type(tensor, "U8")
    try:
        found = json_file.parse(read_bytes(tensor, 0, tensor.nbytes))
    except ValueError as error:
        raise refuse(f"is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise refuse("is no JSON object")
    return Fields(found, refuse)


_SAVE_AGAIN = "Save the checkpoint again with save_pretrained, or give it as it was before it was quantized."
