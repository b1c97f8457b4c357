"""What a report of `ship` tells of the release gate: what each check came to, and what became of the package."""

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
    """What the gate said. installed: whether the package is installed; forced: although the gate refuses it."""

    outcome: Outcome
    effort: str
    took_s: float
    installed: bool
    forced: bool
    checks: tuple[GatedCheck, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is no plain pass."""
        found = [each for outcome in ("fail", "undecided") for each in self.checks if each.outcome == outcome]
        words = {"fail": "fails", "undecided": "is undecided"}
        return tuple(
            f"the release gate's check {each.check} {words[each.outcome]}: {said.rstrip('.')}"
            for each in found
            for said in each.told
        )


def gated_by(verdict: Mapping[str, Any], *, force: bool, undecided: Undecided) -> Gated:
    """What a verdict comes to, as `validate.document.verdict_document` makes it.

    undecided: whether a package that it leaves undecided is installed. force: whether any is.
    """
    passes = verdict["outcome"] not in ({"fail"} if undecided == "take" else {"fail", "undecided"})
    checks = (_check(name, check) for name, check in verdict["checks"].items())
    return Gated(
        outcome=verdict["outcome"],
        effort=verdict["effort"],
        took_s=verdict["took_s"],
        installed=passes or force,
        forced=force and not passes,
        checks=tuple(checks),
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
