"""What the page tells of a verdict of the release gate, the document of `edgeship validate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgeship.measure.document import Document
from edgeship.measure.report.page import bench, of_document, units
from edgeship.measure.report.page.blocks import (
    MOST_CASES,
    Case,
    Cases,
    Part,
    Rows,
    Section,
    Sentences,
    Verdict,
    section,
    sections,
)
from edgeship.measure.report.page.change import Figure
from edgeship.measure.report.tables import fact
from edgeship.system.fields import Fields

_STATES: dict[str, Literal["holds", "fails", "undecided"]] = {
    "pass": "holds",
    "fail": "fails",
    "undecided": "undecided",
}
_LOOKED_AT = ("fail", "undecided", "pass", "skipped")


def title(document: Document) -> str:
    """What was validated."""
    return f"Release gate of {document.fields.part('target').text('name') or document.name}"


def part(document: Document) -> Part:
    """All that is told of it."""
    checks = _checks(document)
    return Part(
        title(document),
        _subtitle(document),
        sections(
            section("The checks", _warnings(document, checks), _table(checks), _not_made(document, checks)),
            *(_check(name, check) for name, check in checks),
            section("What figures were held to", _bounds(checks)),
            section(
                "What was validated, and where",
                of_document.where(document, ("Target", document.fields.part("target"))),
            ),
        ),
        _verdict(document, checks),
    )


def figures(document: Document) -> list[Figure]:
    """What is held beside other runs: the figure of each finding, of which neither more nor less is better."""
    found = []
    for name, check in _checks(document):
        for finding in check.parts("findings"):
            low, high = bench.interval(finding.items("interval"))
            unit = finding.text("unit") or ""
            found.append(
                Figure(
                    f"{name}: {finding.text('name')}",
                    finding.number("figure"),
                    lambda value, unit=unit: units.written(value, unit),  # type: ignore[misc]
                    None,
                    low,
                    high,
                    share=unit == "share",
                )
            )
    return found


def _subtitle(document: Document) -> str:
    effort = document.fields.text("effort")
    return of_document.subtitle(document) + (f", {effort} effort" if effort and effort != "default" else "")


def _checks(document: Document) -> list[tuple[str, Fields]]:
    found = document.fields.part("checks")
    return [(name, found.part(name)) for name in found.values]


def _verdict(document: Document, checks: Sequence[tuple[str, Fields]]) -> Verdict | None:
    outcome = document.fields.text("outcome") or ""
    if outcome not in _STATES:
        return None
    told = document.fields.text("told") or outcome.upper()
    reasons = [
        f"{name}: {finding.text('told') or finding.text('name')}{_decided_by(finding)}"
        for kind in ("fail", "undecided")
        for name, check in checks
        for finding in check.parts("findings")
        if finding.text("outcome") == kind
    ]
    shown = reasons[:MOST_CASES]
    more = [f"{len(reasons) - len(shown):,} more stand below."] if len(reasons) > len(shown) else []
    return Verdict(told, _STATES[outcome], (*shown, *more))


def _decided_by(finding: Fields) -> str:
    decided_by = finding.text("decided_by")
    return f" What would decide: {decided_by}" if decided_by else ""


def _warnings(document: Document, checks: Sequence[tuple[str, Fields]]) -> Sentences | None:
    said = []
    if document.fields.flag("complete") is False:
        said.append("This is a part: the run was interrupted.")
    off = document.fields.part("off")
    said += [f"The gate turns {name} off: {off.text(name)}" for name in off.values]
    for name, check in checks:
        changed = [
            f"{one.text('name')} is {_plain(one, 'value')} instead of {_plain(one, 'default')}"
            for one in check.parts("bounds")
            if one.number("value") != one.number("default")
        ]
        if changed:
            why = f": {check.text('why')}" if check.text("why") else "."
            said.append(f"Bounds of {name} are not the defaults ({', '.join(changed)}){why}")
    return Sentences(tuple(said), warns=True) if said else None


def _table(checks: Sequence[tuple[str, Fields]]) -> Rows | None:
    rows = []
    for name, check in checks:
        findings = check.parts("findings")
        counts = [(kind, sum(one.text("outcome") == kind for one in findings)) for kind in _LOOKED_AT]
        counted = ", ".join(f"{count} {kind}" for kind, count in counts if count)
        took_s = check.number("took_s")
        took = f"{took_s:.1f} s" if took_s else ""
        rows.append((name, check.text("outcome") or "", check.text("title") or "", counted, took))
    return of_document.rows("Each check", ("check", "outcome", "what it asks for", "findings", "time"), rows)


def _not_made(document: Document, checks: Sequence[tuple[str, Fields]]) -> Sentences | None:
    """But for those that the gate turns off, of which the reader is warned."""
    reasons = {name: check.text("reason") for name, check in checks if name not in document.fields.part("off").values}
    said = tuple(f"{name} was not made: {reason}" for name, reason in reasons.items() if reason)
    return Sentences(said) if said else None


def _check(name: str, check: Fields) -> Section | None:
    findings = check.parts("findings")
    rows = [
        (
            finding.text("name") or "",
            finding.text("outcome") or "",
            *units.against(finding.number("figure"), finding.number("bound"), finding.text("unit") or ""),
            _interval(finding),
        )
        for finding in findings
    ]
    header = ("finding", "outcome", "figure", "bound", "interval, 95 % each end")
    return section(
        f"{name}: {check.text('title') or ''}".removesuffix(": "),
        of_document.rows(f"Findings of {name}", header, rows),
        _in_words(findings),
        *(_evidence(finding) for finding in findings),
    )


def _in_words(findings: Sequence[Fields]) -> Cases | None:
    """Folded: what each finding says; those that do not pass first."""
    found = sorted(findings, key=lambda one: _LOOKED_AT.index(one.text("outcome", _LOOKED_AT) or "pass"))
    shown = tuple(
        Case(
            finding.text("name") or "",
            finding.text("outcome") or "",
            tuple(
                (name, text)
                for name, key in (("it says", "told"), ("what would decide", "decided_by"))
                if (text := finding.text(key))
            ),
        )
        for finding in found[:MOST_CASES]
    )
    return Cases(f"In words: {len(shown)} of {len(found)} findings", shown) if shown else None


def _interval(finding: Fields) -> str:
    low, high = bench.interval(finding.items("interval"))
    unit = finding.text("unit") or ""
    return "" if low is None or high is None else f"{units.written(low, unit)} to {units.written(high, unit)}"


def _evidence(finding: Fields) -> Cases | None:
    """Folded: the requests whose answers speak against the target."""
    found = finding.parts("evidence")
    if not found:
        return None
    failed = finding.text("outcome") == "fail"
    shown = tuple(
        Case(
            one.text("id") or "",
            "",
            tuple((name, text) for name in ("asked", "expected", "got") if (text := one.text(name))),
            serious=failed,
        )
        for one in found[:MOST_CASES]
    )
    return Cases(f"{finding.text('name') or 'a finding'}: {len(shown)} of {len(found)} requests that show it", shown)


def _bounds(checks: Sequence[tuple[str, Fields]]) -> Rows | None:
    rows = [
        (name, one.text("name") or "", _plain(one, "value"), _plain(one, "default"))
        for name, check in checks
        for one in check.parts("bounds")
    ]
    return of_document.rows("Bounds of each check", ("check", "bound", "value", "default"), rows)


def _plain(one: Fields, key: str) -> str:
    value = one.number(key)
    return "" if value is None else fact(value)
