"""Tables, and how their figures are written, on paper and on screen alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NONE = "–"
"""What was not measured."""


@dataclass(frozen=True)
class Table:
    """Texts to print side by side."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def percent(rate: float) -> str:
    """A share in percent, without the sign."""
    return f"{rate * 100:.1f}"


def tokens_per_s(speed: float) -> str:
    """A speed: fast ones have no use for a digit after the point."""
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.1f}"


def facts(values: Mapping[str, Any]) -> str:
    """Plain values in one line; nested ones are left out."""
    named = ((name.replace("_", " "), value) for name, value in values.items())
    return ", ".join(f"{name} {fact(value)}" for name, value in named if isinstance(value, str | int | float))


def fact(value: str | float) -> str:
    """A plain value."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(float(f"{value:.4g}"))
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
