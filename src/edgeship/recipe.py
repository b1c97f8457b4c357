"""What to build: a precision and how to reach it. Frozen, and the same whichever road it came by."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeship.errors import RecipeInvalid

BLOCK_SIZES = (16, 32, 64, 128, 256)


class Precision(StrEnum):
    """How weights are stored."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bits(self) -> int:
        """Bits a weight, scales not counted."""
        return {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}[self.value]

    @property
    def quantized(self) -> bool:
        """True where weights are integers with a scale a block."""
        return self.bits <= 8


class Recipe(BaseModel):
    """What to build.

    block_size: weights that share a scale, along the input dimension; INT8 and INT4 only.
    symmetric: no zero points.
    method: how a block is rounded; "rtn" is to nearest, "k_quant" searches each block's scale.
    accuracy_level: 4 multiplies in int8 (fast on CPUs), 1 in fp32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Precision
    block_size: Literal[16, 32, 64, 128, 256] = 128
    symmetric: bool = True
    method: Literal["rtn", "k_quant"] = "rtn"
    accuracy_level: Literal[1, 4] = 4
    builder: str = "genai"
    provider: Literal["CPUExecutionProvider"] = "CPUExecutionProvider"

    def to_key(self) -> dict[str, Any]:
        """The part that decides the result: what a precision does not use is left out, so equal builds share a key."""
        unused = set() if self.precision.quantized else {"block_size", "symmetric", "method", "accuracy_level"}
        return self.model_dump(mode="json", exclude=unused)


class RecipeFile(BaseModel):
    """A recipe with the checkpoint it is for, as a file may state both.

    notes: what the file asked for that is done another way here, in words for the user.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    checkpoint: str | None = None
    adapter: Path | None = None
    output: Path | None = None
    notes: tuple[str, ...] = Field(default=())


def make_recipe(values: dict[str, Any], *, where: str) -> Recipe:
    """A Recipe from plain values. Raises RecipeInvalid that lists every fault by field."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeInvalid(explain(error), where=where, hint=f"Fields: {', '.join(Recipe.model_fields)}.") from error


def explain(error: ValidationError) -> str:
    """pydantic's findings in one line: field, what is wrong, what stood there."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']} (got {fault['input']!r})"
        for fault in error.errors()
    )
