"""What a report of `ship` tells of the release gate: what each check of a candidate came to, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgeship.measure.choice.choose import Undecided
from edgeship.measure.report.tables import NONE, Table

Outcome = Literal["pass", "fail", "undecided", "skipped"]


@dataclass(frozen=True)
class GatedCheck:
    """One of the gate's checks. told: what decided it, a sentence each; of one that was skipped, why."""

    check: str
    title: str
    outcome: Outcome
    took_s: float
    told: tuple[str, ...]


@dataclass(frozen=True)
class Gated:
    """What the gate said of the candidate `label`.

    installed: whether it is installed; forced: although the gate refuses it. failed_before: checks of this very package
    that failed in an earlier run, and that this one does not show to pass.
    """

    label: str
    outcome: Outcome
    effort: str
    took_s: float
    installed: bool
    forced: bool
    checks: tuple[GatedCheck, ...]
    failed_before: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is no plain pass."""
        found = [each for outcome in ("fail", "undecided") for each in self.checks if each.outcome == outcome]
        words = {"fail": "fails", "undecided": "is undecided by"}
        said = (
            f"{self.label.upper()} {words[each.outcome]} the release gate's check {each.check}: {told.rstrip('.')}"
            for each in found
            for told in each.told
        )
        before = (f"{self.label.upper()} failed the release gate before: {each}" for each in self.failed_before)
        return (*said, *before)

    @property
    def verdict_file(self) -> str:
        """The file beside the report that holds the whole verdict."""
        return f"verdict-{self.label}.json"


def gated_by(
    label: str, verdict: Mapping[str, Any], *, force: bool, undecided: Undecided, failed_before: tuple[str, ...] = ()
) -> Gated:
    """What a verdict on a candidate comes to, as `validate.document.verdict_document` makes it.

    undecided: whether a package that it leaves undecided is installed. force: whether any is.
    """
    outcome: Outcome = "fail" if failed_before else verdict["outcome"]
    passes = outcome not in ({"fail"} if undecided == "take" else {"fail", "undecided"})
    checks = (_check(name, check) for name, check in verdict["checks"].items())
    return Gated(
        label=label,
        outcome=outcome,
        effort=verdict["effort"],
        took_s=verdict["took_s"],
        installed=passes or force,
        forced=force and not passes,
        checks=tuple(checks),
        failed_before=failed_before,
    )


def _check(name: str, check: Mapping[str, Any]) -> GatedCheck:
    outcome = check["outcome"]
    deciding = [finding["told"] for finding in check["findings"] if finding["outcome"] == outcome]
    told = [check["reason"]] if outcome == "skipped" and check["reason"] else deciding
    return GatedCheck(name, check["title"], outcome, check["took_s"], tuple(told))


def gate_table(gated: Gated) -> Table:
    """A row for each check."""
    return Table(
        ("check", "what it asks", "outcome", "s", "why"),
        tuple(
            (one.check, one.title, one.outcome, f"{one.took_s:.1f}", " ".join(one.told) or NONE) for one in gated.checks
        ),
    )
