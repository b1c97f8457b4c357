"""What a check holds its figures to: numbers that a gate file may change, each with where it comes from."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any


def bound(default: float, why: str, *, least: float = 0.0, most: float = math.inf) -> Any:
    """A field of a check's bounds. why: what it bounds and where the default comes from, as a whole sentence.

    A default that is an int takes whole numbers only. least, most: what a gate file may set.
    """
    return field(default=default, metadata={"why": why, "least": least, "most": most})


@dataclass(frozen=True)
class Bounds:
    """The bounds of a check, none here. Subclasses are frozen dataclasses whose fields are made by `bound`."""


@dataclass(frozen=True)
class Held:
    """A bound as it was in force when a check was made."""

    name: str
    value: float
    default: float

    @property
    def is_default(self) -> bool:
        """Whether no gate file changed it."""
        return self.value == self.default


def held(bounds: Bounds) -> tuple[Held, ...]:
    """These bounds, each beside its default."""
    defaults = type(bounds)()
    return tuple(Held(one.name, getattr(bounds, one.name), getattr(defaults, one.name)) for one in fields(bounds))


def bounds_of(kind: type[Bounds]) -> tuple[Field[Any], ...]:
    """Its fields, in their order; `metadata` has why, least and most."""
    return fields(kind)
