"""What a page is made of, as plain data: parts with sections, and in these tables, charts, facts and cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgeship.measure.report.charts.shapes import Chart
from edgeship.measure.report.tables import Table

MOST_CASES = 50
MOST_ROWS = 200


@dataclass(frozen=True)
class Rows:
    """A table. marked: the first cell of a row that stands out."""

    caption: str
    table: Table
    marked: str | None = None
    block: str = "rows"


@dataclass(frozen=True)
class Pictures:
    """Charts, beside each other where there is room."""

    charts: tuple[Chart, ...]
    block: str = "pictures"


@dataclass(frozen=True)
class Facts:
    """Names with what is to be said of them. commands: these are to be typed."""

    pairs: tuple[tuple[str, str], ...]
    commands: bool = False
    block: str = "facts"


@dataclass(frozen=True)
class Sentences:
    """A paragraph for each. warns: nobody should read on without them."""

    texts: tuple[str, ...]
    warns: bool = False
    block: str = "sentences"


@dataclass(frozen=True)
class Passage:
    """A place in a text: what comes before, what it is about, and what follows."""

    before: str
    here: str
    after: str


@dataclass(frozen=True)
class Case:
    """One case of many. note: what to know of it; texts: names with texts, each as it was written."""

    name: str
    note: str
    texts: tuple[tuple[str, str], ...]
    passage: Passage | None = None
    serious: bool = False


@dataclass(frozen=True)
class Cases:
    """Cases, folded under a line that says what they are."""

    summary: str
    cases: tuple[Case, ...]
    open: bool = False
    block: str = "cases"


Block = Rows | Pictures | Facts | Sentences | Cases


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Verdict:
    """What is recommended, and why."""

    headline: str
    state: Literal["holds", "fails", "undecided"]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """All that is told of one measurement, or of several of a kind."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Page:
    """The whole. title: where there are several parts."""

    title: str
    parts: tuple[Part, ...] = field(default=())
    footer: str = ""


def section(title: str, *blocks: Block | None) -> Section | None:
    """A section of those blocks that there are; None where there is none."""
    there = tuple(block for block in blocks if block is not None)
    return Section(title, there) if there else None


def sections(*found: Section | None) -> tuple[Section, ...]:
    """Those that there are."""
    return tuple(one for one in found if one is not None)


def pictures(*charts: Chart | None) -> Pictures | None:
    """Those charts that have something to show; None where none has."""
    drawn = tuple(chart for chart in charts if chart is not None)
    return Pictures(drawn) if drawn else None
