"""What the page tells of two targets that were asked in turns: the ratio of each figure, and what is decided."""

from __future__ import annotations

from typing import Literal

from edgeship.measure.document import Document
from edgeship.measure.report.page import bench, of_document, units
from edgeship.measure.report.page.blocks import Part, Rows, Section, Sentences, Verdict, section, sections
from edgeship.measure.report.page.change import Figure
from edgeship.system.fields import Fields

_STATES: dict[str, Literal["holds", "fails", "undecided"]] = {
    "pass": "holds",
    "fail": "fails",
    "undecided": "undecided",
}


def title(document: Document) -> str:
    """What was held against what."""
    return f"{_name(document, 'b')} beside {_name(document, 'a')}"


def part(document: Document) -> Part:
    """All that is told of it."""
    warnings = tuple(document.fields.texts("warnings"))
    return Part(
        title(document),
        of_document.subtitle(document),
        sections(
            section(
                "In turns",
                bench.stopped(document),
                Sentences(warnings, warns=True) if warnings else None,
                *_tables(document),
            ),
            _drawn(document),
            section(
                "What was measured, and where",
                of_document.where(
                    document,
                    ("A", document.fields.part("a").part("target")),
                    ("B", document.fields.part("b").part("target")),
                    ("Workload", document.fields.part("b").part("workload")),
                ),
            ),
        ),
        _verdict(document),
    )


def figures(document: Document) -> list[Figure]:
    """What is held beside other runs: the ratios."""
    found = []
    for load in document.fields.parts("loads"):
        compared = load.part("figures")
        for name in compared.values:
            one = compared.part(name)
            low, high = bench.interval(one.items("ratio_interval"))
            what = f"{load.text('name') or 'one load'}: {name}, B over A"
            found.append(Figure(what, one.number("ratio"), "{:.3f}".format, None, low, high))
    return found


def _name(document: Document, side: str) -> str:
    return document.fields.part(side).part("target").text("name") or side.upper()


def _verdict(document: Document) -> Verdict | None:
    """Of the conditions that a run should fail by; None where there are none."""
    outcome = document.fields.text("outcome")
    if outcome not in _STATES:
        return None
    said = {"pass": "no condition is met", "fail": "a condition is met", "undecided": "not every condition is decided"}
    reasons = []
    for one in document.fields.parts("conditions"):
        judged = {"holds": "met", "fails": "not met"}.get(one.text("verdict") or "", "undecided")
        why = f" ({one.text('why')})" if one.text("why") else ""
        reasons.append(f"{one.text('condition')} at {one.text('load')}: {judged}{why}")
    return Verdict(f"{outcome.upper()}: {said[outcome]}", _STATES[outcome], tuple(reasons))


def _tables(document: Document) -> list[Rows | None]:
    header = (
        "figure",
        f"A: {_name(document, 'a')}",
        f"B: {_name(document, 'b')}",
        "B over A",
        "95 % interval",
        "why not",
    )
    found = []
    for load in document.fields.parts("loads"):
        compared = load.part("figures")
        rows = [(name, *_row(compared.part(name))) for name in compared.values]
        found.append(of_document.rows(f"Load: {load.text('name') or 'one'}", header, rows))
    return found


def _row(one: Fields) -> tuple[str, ...]:
    low, high = bench.interval(one.items("ratio_interval"))
    ratio = one.number("ratio")
    return (
        *(units.written(one.number(side), one.text("unit") or "") for side in ("a", "b")),
        "" if ratio is None else f"{ratio:.3f}",
        "" if low is None or high is None else f"{low:.3f} to {high:.3f}",
        one.text("why") or "",
    )


def _drawn(document: Document) -> Section | None:
    sides = [(_name(document, side), document.fields.part(side).parts("levels")) for side in ("a", "b")]
    if sides[0][0] == sides[1][0]:
        sides = [(f"{name}, {side}", levels) for (name, levels), side in zip(sides, "AB", strict=True)]
    return section("In one picture", bench.side_by_side(sides))
