"""How a verdict of the release gate looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeship.cli.output import print_folded
from edgeship.cli.streams import show
from edgeship.system.text import harmless_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeship.validate.replay import Replayed
    from edgeship.validate.verdict import CheckResult, Finding, Outcome, Verdict

_TOLD: tuple[tuple[Outcome, str], ...] = (("fail", "what fails:"), ("undecided", "what is undecided:"))
_SHOWN_CHARACTERS = 160


def print_verdict(verdict: Verdict) -> None:
    """A row for each check, what fails and what is undecided in sentences, and the verdict as the last line."""
    from edgeship.validate import told

    shown = told.table(verdict)
    show()
    print_folded(shown.header, shown.rows, whole=("OUTCOME", "CHECK", "TIME"))
    for outcome, title in _TOLD:
        found = list(told.to_tell(verdict, outcome))
        if found:
            show(f"\n{title}")
        for check, finding in found:
            _print_finding(verdict, check, finding)
    notes = told.notes(verdict)
    if notes:
        show()
    for note in notes:
        show(f"  {harmless_line(note)}")
    show(f"\n{harmless_line(told.headline(verdict))}")


def print_replayed(found: Sequence[Replayed]) -> None:
    """Each request that was asked again, with its answer, what was expected, and what is wrong."""
    for one in found:
        show(f"{one.outcome}  {one.id}")
        lines = (("asked", one.request), ("answer", one.answer), ("expected", one.expected), ("wrong", one.wrong))
        for name, text in lines:
            if text:
                show(f"  {name + ':':<10}{text}")


def _print_finding(verdict: Verdict, check: CheckResult, finding: Finding) -> None:
    from edgeship.validate import told

    show(f"  {check.check}/{finding.name}: {_on_one_line(finding.told, whole=True)}")
    if finding.decided_by:
        show(f"    {'decided by':<10}  {_on_one_line(finding.decided_by, whole=True)}")
    for evidence in finding.evidence[: told.MOST_SHOWN]:
        for name, text in told.facts(verdict, evidence):
            show(f"    {name:<10}  {_on_one_line(text, whole=name in ('evidence', 'again'))}")
    more = len(finding.evidence) - told.MOST_SHOWN
    if more > 0:
        show(f"    {told.more_evidence(verdict, more)}")


def _on_one_line(text: str, *, whole: bool = False) -> str:
    line = " ".join(text.split())
    return line if whole or len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}..."
