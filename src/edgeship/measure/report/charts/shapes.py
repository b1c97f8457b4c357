"""What a chart is made of. Lengths are in the picture's own units, from its upper left corner."""

from __future__ import annotations

from dataclasses import dataclass

WIDTH = 420.0
"""Of every chart: a column of a page, or the whole of a phone, shows its letters at about the size of the text."""
LETTER_WIDTH = 8.4
"""About what a letter takes of it."""
MOST_LETTERS = 24
SERIES = 6
"""So many colours and dashes can be told apart."""


@dataclass(frozen=True)
class Stroke:
    """A straight line. kind: what it means, which is how it looks."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str
    shape: str = "stroke"


@dataclass(frozen=True)
class Box:
    """A rectangle. said: what it says where it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    said: str = ""
    shape: str = "box"


@dataclass(frozen=True)
class Dot:
    """A point."""

    x: float
    y: float
    kind: str
    said: str = ""
    radius: float = 4.0
    shape: str = "dot"


@dataclass(frozen=True)
class Words:
    """A text that begins, ends or has its middle at x."""

    x: float
    y: float
    text: str
    kind: str = "label"
    anchor: str = "start"
    shape: str = "words"


@dataclass(frozen=True)
class Path:
    """Lines from point to point, or the area that they enclose."""

    points: tuple[tuple[float, float], ...]
    kind: str
    shape: str = "path"


Shape = Stroke | Box | Dot | Words | Path


@dataclass(frozen=True)
class Chart:
    """A picture. said: all that it shows, in words. legend: (kind, name) of what several colours mean."""

    title: str
    note: str
    said: str
    height: float
    shapes: tuple[Shape, ...]
    legend: tuple[tuple[str, str], ...] = ()
    width: float = WIDTH


def series(index: int) -> str:
    """How the n-th of several looks; more than SERIES begin again."""
    return f"s{index % SERIES}"


def short(text: str) -> str:
    """A name that finds room in a picture."""
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"
