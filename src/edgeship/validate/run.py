"""The checks, one after another, and the verdict that they come to."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence

from edgeship.errors import EdgeshipError, UsageError
from edgeship.package import manifest
from edgeship.progress import Progress, silent, under
from edgeship.validate.check import Check
from edgeship.validate.checks import CHECKS
from edgeship.validate.gate import Gate
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import CheckName, CheckResult, Finding, Verdict


def validate(
    subject: Subject,
    gate: Gate | None = None,
    *,
    only: Collection[CheckName] = (),
    progress: Progress = silent,
    checks: Sequence[Check] = CHECKS,
) -> Verdict:
    """What the checks come to. only: these and no others.

    Raises UsageError for what was asked wrongly, and whatever is a fault of our own.
    """
    begun = time.perf_counter()
    results = tuple(_result(check, subject, gate or Gate(), only, progress) for check in checks)
    target = subject.target
    return Verdict(target.name, target.kind, _digest(subject), results, time.perf_counter() - begun)


def _digest(subject: Subject) -> str | None:
    try:
        return manifest.read(subject.folder).digest if subject.folder else None
    except EdgeshipError:
        return None


def _result(check: Check, subject: Subject, gate: Gate, only: Collection[CheckName], progress: Progress) -> CheckResult:
    if reason := _skipped(check, subject, gate, only):
        return CheckResult(check.name, check.title, reason=reason)
    begun = time.perf_counter()
    progress(f"{check.name}: {check.title}", None)
    findings = tuple(_findings(check, subject, gate, under(check.name, progress)))
    return CheckResult(check.name, check.title, findings, time.perf_counter() - begun)


def _skipped(check: Check, subject: Subject, gate: Gate, only: Collection[CheckName]) -> str | None:
    if only and check.name not in only:
        return "it was not asked for"
    if reason := gate.off.get(check.name):
        return f"the gate turns it off: {reason}"
    if subject.fault is not None:
        return f"the target cannot be opened: {subject.fault.what}"
    return check.not_for(subject)


def _findings(check: Check, subject: Subject, gate: Gate, progress: Progress) -> Iterator[Finding]:
    try:
        yield from check.run(subject, gate.of(check), progress)
    except UsageError:
        raise
    except EdgeshipError as error:
        yield Finding("goes-through", "fail", f"The check could not be made to its end: {error.what}.")
