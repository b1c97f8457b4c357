"""What to build: a precision and how to reach it. Frozen, and the same whichever road it came by."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from edgeship.errors import RecipeInvalid
from edgeship.system import foreign
from edgeship.system.fields import shown

BLOCK_SIZES = (16, 32, 64, 128, 256)


def _no_truth(value: Any) -> Any:
    """A value that is no True or False, which Python would take for 1 and 0. Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


NamedPath = Annotated[Path, BeforeValidator(foreign.named_path)]
"""A path as a user names it."""


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

    name: what the user calls it, by default its precision; it decides nothing.
    block_size: weights that share a scale, along the input dimension; INT8 and INT4 only.
    symmetric: no zero points.
    method: how a block is rounded: "rtn" to nearest; "search" with the scale that leaves the least error; "feedback"
    lets later weights make up for the error of earlier ones, as texts show it; "k_quant" is the search of
    onnxruntime-genai's builder. None: "feedback" where it is calibrated, else the builder's default.
    bits: INT4 only: the bits a weight to spend on average at most, scales included: the matrices that suffer most from
    4 bits get small blocks or 8 bits until that is spent.
    tolerance: INT4 only: they do until what 4 bits cost the others, each alone and rounded without feedback, adds up to
    no more than this, in nats of KLD. With neither all get the same.
    calibrate: INT8 and INT4: read texts whose activations say which errors matter, where no other method is asked for.
    calibration: these texts, JSON Lines as an eval has them, or plain text. None: built-in ones.
    accuracy_level: 4 multiplies in int8 (fast on CPUs), 1 in fp32.
    builder: who converts; "auto" is the streaming builder where it knows the architecture, else onnxruntime-genai's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    precision: Precision
    block_size: Literal[16, 32, 64, 128, 256] = 128
    symmetric: bool = Field(default=True, strict=True)
    method: Literal["rtn", "search", "feedback", "k_quant"] | None = None
    bits: float | None = Field(default=None, gt=4, le=9, strict=True)
    tolerance: float | None = Field(default=None, ge=0, allow_inf_nan=False, strict=True)
    calibrate: bool = Field(default=True, strict=True)
    calibration: NamedPath | None = None
    accuracy_level: Annotated[Literal[1, 4], BeforeValidator(_no_truth)] = 4
    builder: str = "auto"
    provider: Literal["CPUExecutionProvider"] = "CPUExecutionProvider"

    @model_validator(mode="after")
    def _agrees(self) -> Recipe:
        if not self.calibrate and (self.calibration is not None or self.method == "feedback"):
            raise ValueError("calibrate is false, and texts or the method feedback are asked for")
        return self

    @property
    def calibrated(self) -> bool:
        """True where texts are read."""
        by_default = self.calibrate and self.method is None
        asked = self.calibration is not None or self.method == "feedback"
        return self.precision.quantized and (asked or by_default)

    @property
    def budgeted(self) -> bool:
        """True where the matrices that suffer most from 4 bits get 8."""
        return self.precision is Precision.INT4 and not (self.bits is None and self.tolerance is None)

    @property
    def label(self) -> str:
        """What to call it beside others."""
        return self.name or self.precision.value

    def to_key(self) -> dict[str, Any]:
        """The part that decides the result: what a precision does not use is left out, so equal builds share a key."""
        unused = {"name", "calibrate", "calibration"}
        unused |= {name for name in ("bits", "tolerance") if not self.budgeted or getattr(self, name) is None}
        if not self.precision.quantized:
            unused |= {"block_size", "symmetric", "method", "accuracy_level"}
        key = self.model_dump(mode="json", exclude=unused)
        if self.calibration is not None and self.precision.quantized:
            key["calibration"] = _digest(self.calibration)
        return key


RECIPES: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "fp16": {"precision": "fp16"},
    "int8": {"precision": "int8", "block_size": 32},
    "int4": {"precision": "int4", "symmetric": False, "tolerance": 0.15, "bits": 6.15},
    "int4-small": {"precision": "int4", "symmetric": False, "bits": 4.55},
    "int4-fast": {"precision": "int4", "symmetric": False},
}
"""Recipes by name, as --precision takes them."""


class RecipeFile(BaseModel):
    """A recipe with the checkpoint it is for, as a file may state both.

    notes: what the file asked for that is done another way here, in words for the user.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    checkpoint: str | None = None
    adapter: NamedPath | None = None
    output: NamedPath | None = None
    notes: tuple[str, ...] = Field(default=())


def make_recipe(values: dict[str, Any], *, where: str) -> Recipe:
    """A Recipe from plain values. Raises RecipeInvalid that lists every fault by field."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeInvalid(explain(error), where=where, hint=f"Fields: {', '.join(Recipe.model_fields)}.") from error


def named_recipe(name: str, changes: dict[str, Any], *, where: str) -> Recipe:
    """A recipe of RECIPES with some fields changed. Raises RecipeInvalid for an unknown name or a bad value."""
    if name not in RECIPES:
        raise RecipeInvalid(f"no recipe is called {name!r}", where=where, hint=f"Recipes: {', '.join(RECIPES)}.")
    return make_recipe({"name": name, **RECIPES[name], **changes}, where=where)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(foreign.read_bytes(path, named=True)).hexdigest()
    except (OSError, ValueError) as error:
        raise RecipeInvalid(
            f"the calibration texts cannot be read: {error}", where=str(path), hint="Check --calibrate."
        ) from error


def explain(error: ValidationError) -> str:
    """pydantic's findings in one line: field, what is wrong, what stood there."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']} (got {shown(fault['input'])})"
        for fault in error.errors()
    )
