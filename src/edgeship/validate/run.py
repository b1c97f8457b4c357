"""The checks, one after another, and the verdict that they come to."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from edgeship.errors import (
    ConstraintInvalid,
    DependencyMissing,
    DocumentInvalid,
    EdgeshipError,
    EvalInvalid,
    NotFound,
    ResourceError,
    UsageError,
    came_from,
)
from edgeship.package import manifest
from edgeship.progress import Progress, silent, under
from edgeship.validate.bounds import held
from edgeship.validate.check import Check
from edgeship.validate.checks import CHECKS
from edgeship.validate.edges.evidence import PREFIX
from edgeship.validate.gate import Gate
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import CheckName, CheckResult, Evidence, Finding, Outcome, Verdict

UNFINISHED = "goes-through"
"""The name of the finding that a check could not be made to its end."""
INTERRUPTED = "the run was interrupted before it"
_NOTHING = "there is nothing here that it looks at"
_ASKED_WRONGLY = (NotFound, EvalInvalid, DocumentInvalid, ConstraintInvalid)
"""What whoever asked has to mend, as is what is of UsageError itself: no word about the target."""
_NOT_THE_TARGETS = (ResourceError, DependencyMissing)
"""What this machine lacks says nothing about the target either, but elsewhere the check can be made."""


def validate(
    subject: Subject,
    gate: Gate | None = None,
    *,
    only: Collection[CheckName] = (),
    progress: Progress = silent,
    checks: Sequence[Check] = CHECKS,
) -> Verdict:
    """What the checks come to. only: these and no others. Ctrl-C ends it with what was found.

    Raises UsageError and NotFound for what was asked wrongly, and whatever is a fault of our own.
    """
    gate, begun = gate or Gate(), time.perf_counter()
    _ = subject.folder  # a name that means nothing is no target that fails
    results: list[CheckResult] = []
    interrupted = False
    for check in checks:
        plain = CheckResult(check.name, check.title)
        if reason := INTERRUPTED if interrupted else _skipped(check, subject, gate, only):
            results.append(replace(plain, reason=reason))
            continue
        findings: list[Finding] = []
        started = time.perf_counter()
        try:
            _make(check, subject, gate, progress, findings)
        except KeyboardInterrupt:
            interrupted = True
            findings.append(_unfinished("undecided", "it was interrupted", "Run it again, and let it come to its end."))
        took_s, bounds, why = time.perf_counter() - started, held(gate.of(check)), gate.why.get(check.name)
        made = replace(plain, findings=_told_apart(findings), took_s=took_s, bounds=bounds, why=why)
        made = replace(made, reason=_nothing_seen(findings) if made.outcome == "skipped" else None)
        results.append(made)
        progress(f"{check.name}: {made.outcome}, in {took_s:.1f} s", None)
    target = subject.target
    took_s = time.perf_counter() - begun
    return Verdict(target.name, target.kind, _digest(subject), tuple(results), took_s, interrupted)


def _told_apart(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings, of whose evidence no two pieces have one id: what comes later gets a number behind it.

    An id of the catalogue of odd requests stands for all that is asked by that row.
    """
    taken: set[str] = set()

    def own(evidence: Evidence) -> Evidence:
        name = evidence.id
        if not name.startswith(PREFIX):
            numbered = (f"{name}/{number}" for number in itertools.count(2))
            name = next(each for each in itertools.chain([name], numbered) if each not in taken)
            taken.add(name)
        return replace(evidence, id=name)

    return tuple(replace(each, evidence=tuple(map(own, each.evidence))) for each in findings)


def _digest(subject: Subject) -> str | None:
    try:
        return manifest.read(subject.folder).digest if subject.folder else None
    except EdgeshipError:
        return None


def _skipped(check: Check, subject: Subject, gate: Gate, only: Collection[CheckName]) -> str | None:
    if only and check.name not in only:
        return "only others were asked for"
    if reason := gate.off.get(check.name):
        return f"the gate turns it off: {reason}"
    if subject.fault is not None:
        return f"the target cannot be opened: {subject.fault.what}"
    try:
        return check.not_for(subject)
    except EdgeshipError:
        return None  # the check itself meets it, and says so


def _nothing_seen(findings: Sequence[Finding]) -> str:
    """Why a check that was made has found nothing."""
    return " ".join(finding.told for finding in findings) or _NOTHING


def _make(check: Check, subject: Subject, gate: Gate, progress: Progress, findings: list[Finding]) -> None:
    """Adds what it finds as it is found, so that nothing is lost when it is interrupted."""
    progress(f"{check.name}: {check.title}", None)
    last = time.perf_counter()
    for finding in _found(check, subject, gate, under(check.name, progress)):
        now = time.perf_counter()
        findings.append(replace(finding, took_s=now - last))
        last = now


def _found(check: Check, subject: Subject, gate: Gate, progress: Progress) -> Iterator[Finding]:
    try:
        yield from check.run(subject, gate.of(check), progress)
    except EdgeshipError as error:
        if came_from(error, KeyboardInterrupt):  # what is interrupted while it starts says that it failed
            raise KeyboardInterrupt from error
        if type(error) in (UsageError, EdgeshipError) or isinstance(error, _ASKED_WRONGLY):
            raise
        if isinstance(error, _NOT_THE_TARGETS):
            yield _unfinished("undecided", error.what, error.hint or "A machine that has what it takes.")
        else:
            yield _unfinished("fail", error.what)


def _unfinished(outcome: Outcome, why: str, decided_by: str | None = None) -> Finding:
    told = f"The check could not be made to its end: {why.rstrip('.')}."
    return Finding(UNFINISHED, outcome, told, decided_by=decided_by)
