"""A verdict in words: what terminals, CI systems and pages are told alike. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeship.measure.report.page.units import against, written
from edgeship.measure.report.tables import Table
from edgeship.system.shell import our_command
from edgeship.targets import FOUNDRY
from edgeship.validate.edges.evidence import PREFIX
from edgeship.validate.verdict import CheckResult, Evidence, Finding, Outcome, Verdict, worst

NONE = "-"
HEADER = ("OUTCOME", "CHECK", "WHAT IT SAYS", "FINDING", "FIGURE", "BOUND", "TIME")
MOST_SHOWN = 3
"""Pieces of evidence for a finding, where people read them one after another."""
_UNKNOWN = "it was not looked at"
_NAMED = 3


def table(verdict: Verdict) -> Table:
    """A row for each check that was asked for: its outcome, and figure and bound of the finding that it names."""
    return Table(HEADER, tuple(_row(check) for check in verdict.wanted))


def _row(check: CheckResult) -> tuple[str, ...]:
    shown = telling(check)
    figure, bound = figures(shown)
    name = shown.name if shown and (figure or bound) else NONE
    took = f"{check.took_s:.1f} s" if check.took_s else NONE
    return check.outcome, check.check, says(check), name, figure or NONE, bound or NONE, took


def says(check: CheckResult) -> str:
    """What came of a check in a few words: its title where it passes, else which of its findings do not."""
    if check.outcome == "skipped":
        return check.reason or _UNKNOWN
    if check.outcome == "pass":
        return check.title
    found = [finding.name for finding in check.findings if finding.outcome == check.outcome]
    count = f"{len(found)} of {len(check.findings)}" if len(check.findings) > 1 else ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    verb = "fails" if len(found) == 1 else "fail"
    said = f"{count} {verb if check.outcome == 'fail' else 'undecided'}".strip()
    return f"{said}: {', '.join(found[:_NAMED])}{more}"


def telling(check: CheckResult) -> Finding | None:
    """The finding that made the outcome, with a figure where one of them has one; None where there is none.

    Of several, the one whose figure is the furthest beyond its bound, or the nearest to it where none is beyond.
    """
    outcome = worst(finding.outcome for finding in check.findings)
    found = [finding for finding in check.findings if finding.outcome == outcome]
    measured = [finding for finding in found if finding.figure is not None]
    return max(measured, key=_beyond, default=next(iter(found), None))


def _beyond(finding: Finding) -> float:
    """By what part of its bound a figure lies beyond it, below 0 where it lies within; -1 is as far as can be."""
    figure, bound, is_least = finding.figure, finding.bound, finding.is_least
    if figure is None or bound is None:
        return -math.inf
    if is_least and (figure < 0 or bound < 0):  # a loss, which may be at most so large
        figure, bound, is_least = -figure, -bound, False
    larger, smaller = (bound, figure) if is_least else (figure, bound)
    if larger <= 0:
        return -1.0
    return larger / smaller - 1 if smaller > 0 else math.inf


def figures(finding: Finding | None) -> tuple[str, str]:
    """A finding's figure and bound, with their unit; empty where it has none."""
    if finding is None:
        return "", ""
    return against(finding.figure, finding.bound, finding.unit)


def interval(finding: Finding) -> str:
    """Where the truth of a finding's figure lies; empty where that is not told."""
    if finding.interval is None:
        return ""
    low, high = (written(bound, finding.unit) for bound in finding.interval)
    return f"{low} to {high}"


def to_tell(verdict: Verdict, outcome: Outcome) -> Iterator[tuple[CheckResult, Finding]]:
    """The findings that are to be told in sentences: all of this outcome."""
    for check in verdict.checks:
        yield from ((check, finding) for finding in check.findings if finding.outcome == outcome)


def sentence(finding: Finding) -> str:
    """What a finding says, with what would decide where it is undecided."""
    decides = f" What would decide: {finding.decided_by}" if finding.decided_by else ""
    return f"{finding.told}{decides}"


def headline(verdict: Verdict) -> str:
    """The verdict on one line."""
    made = [check for check in verdict.checks if check.outcome != "skipped"]
    by = {outcome: [check.check for check in made if check.outcome == outcome] for outcome in _TOLD}
    parts = [
        f"{len(by['pass'])} {'check passes' if len(by['pass']) == 1 else 'checks pass'}" if by["pass"] else "",
        f"{', '.join(by['fail'])} {'fails' if len(by['fail']) == 1 else 'fail'}" if by["fail"] else "",
        f"{', '.join(by['undecided'])} undecided" if by["undecided"] else "",
        f"{len(verdict.wanted) - len(made)} not made" if len(made) < len(verdict.wanted) else "",
        f"{len(verdict.checks) - len(verdict.wanted)} not asked for" if verdict.wanted != verdict.checks else "",
        f"in {verdict.took_s:.0f} s",
    ]
    stopped = "interrupted: " if verdict.interrupted else ""
    said = _TOLD[verdict.outcome].format(verdict.target)
    return f"{stopped}{verdict.outcome}: {said}: {', '.join(part for part in parts if part)}"


_TOLD: Mapping[Outcome, str] = {
    "pass": "{} passes what it was held to",
    "fail": "{} is not fit for release",
    "undecided": "whether {} is fit for release is not known",
}


def notes(verdict: Verdict) -> list[str]:
    """What has to be known beside the outcomes.

    That is what was not looked at or has no bound, how the target compares, and bounds that are not the defaults.
    """
    reasons: dict[str, list[str]] = {}
    for check in verdict.wanted:
        if check.outcome == "skipped":
            reasons.setdefault(check.reason or _UNKNOWN, []).append(check.check)
    found = [
        f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} not made: {why}" for why, names in reasons.items()
    ]
    for check in verdict.checks:
        found += _noted(check)
        changed = [f"{one.name} {one.value:g} instead of {one.default:g}" for one in check.bounds if not one.is_default]
        if changed:
            why = f": {check.why}" if check.why else ""
            found.append(f"{check.check} was held to other bounds than the defaults ({', '.join(changed)}){why}")
    return found


def more_evidence(verdict: Verdict, count: int) -> str:
    """Where pieces of evidence are that are not shown."""
    said = "1 more request that shows it is" if count == 1 else f"{count:,} more requests that show it are"
    return f"{said} in {verdict.file or 'the JSON document: --out FILE'}"


def _noted(check: CheckResult) -> Iterator[str]:
    """What was measured and is told whatever it came to, and what was not looked at, with the reason of each."""
    if check.outcome == "skipped":  # the reason of the whole check says it all
        return
    said = [finding for finding in check.findings if finding.noted and finding.outcome in ("pass", "skipped")]
    yield from (f"{check.check}/{finding.name}: {finding.told}" for finding in said)
    left: dict[str, list[str]] = {}
    for finding in check.findings:
        if finding.outcome == "skipped" and not finding.noted:
            left.setdefault(finding.told, []).append(f"{check.check}/{finding.name}")
    for why, names in left.items():
        yield f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} not looked at: {why}"


def asked(request: Mapping[str, Any]) -> str:
    """What was asked, as people read it: the last message of a conversation, else the whole request."""
    conversation = request.get("conversation")
    messages = conversation.get("messages") if isinstance(conversation, Mapping) else None
    last = messages[-1] if isinstance(messages, Sequence) and messages else None
    content = last.get("content") if isinstance(last, Mapping) else None
    return content if isinstance(content, str) else json.dumps(request, ensure_ascii=False, default=str)


def facts(verdict: Verdict, evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """A piece of evidence by names: what was asked, expected and got, and how it is asked again."""
    found = (
        ("evidence", evidence.id),
        ("asked", asked(evidence.request)),
        ("expected", evidence.expected),
        ("got", evidence.got),
        ("again", again(verdict, evidence)),
    )
    return tuple((name, text) for name, text in found if text)


def again(verdict: Verdict, evidence: Evidence) -> str:
    """The command that asks it once more, FILE where the verdict is kept nowhere; the catalogue needs none."""
    target = f"{FOUNDRY}{verdict.target}" if verdict.kind == "foundry" else verdict.target
    kept = () if evidence.id.startswith(PREFIX) else ("--verdict", verdict.file or "FILE")
    return our_command("validate", target, "--replay", evidence.id, *kept)
