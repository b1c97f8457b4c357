"""The checks, one after another, and the verdict that they come to."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from edgeship.errors import (
    ConstraintInvalid,
    DependencyMissing,
    DocumentInvalid,
    EdgeshipError,
    EvalInvalid,
    FoundryFailed,
    NotFound,
    PackageDamaged,
    ResourceError,
    UsageError,
    came_from,
)
from edgeship.package import manifest
from edgeship.progress import Progress, silent, under
from edgeship.system.interrupts import Interrupts
from edgeship.validate.bounds import held
from edgeship.validate.check import Check
from edgeship.validate.checks import CHECKS
from edgeship.validate.edges.evidence import PREFIX
from edgeship.validate.gate import Gate
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import NOT_ASKED_FOR, CheckName, CheckResult, Evidence, Finding, Outcome, Verdict, worst

UNFINISHED = "unfinished"
"""The name of the finding that a check could not be made to its end."""
INTERRUPTED = "the run was interrupted before it"
_NOTHING = "there is nothing here that it looks at"
_AGAIN = "Run it again, and leave the package as it is until it has come to its end."
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
    interrupts: Interrupts | None = None,
) -> Verdict:
    """What the checks come to. only: these and no others. Ctrl-C ends it with what was found.

    interrupts: hold Ctrl-C back between the checks and from the end of the last one on.

    What was found is kept whatever happens: what was asked wrongly, and what is a fault of our own, is raised where
    nothing was found before. Later it leaves its check undecided, and the verdict has the first fault of our own.
    Raises NotFound also for a target or a baseline whose name means nothing, and PackageDamaged for a package that was
    replaced meanwhile.
    """
    gate, begun = gate or Gate(), time.perf_counter()
    _require_known(subject)
    digest, files = _identity(subject)
    interrupts = interrupts or Interrupts()
    interrupts.hold()
    results: list[CheckResult] = []
    interrupted, fault = False, None
    for check in checks:
        findings: list[Finding] = []
        reason = _unwanted(check, gate, only) or (INTERRUPTED if interrupted else None)
        started = time.perf_counter()
        try:
            if reason is None:
                with interrupts.let_through():
                    reason = _impossible(check, subject)
                    if reason is None:
                        _make(check, subject, gate, progress, findings)
        except KeyboardInterrupt:
            interrupted, reason = True, None
            findings.append(_unfinished("undecided", "it was interrupted", "Run it again, and let it come to its end."))
        except Exception as error:
            if not _anything_found(results, findings):
                raise
            fault, reason = fault or (error if _is_ours(error) else None), None
            findings.append(_ended_by(error))
        if reason is not None:
            results.append(CheckResult(check.name, check.title, reason=reason))
            continue
        took_s = time.perf_counter() - started
        made = _result(check, gate, findings, took_s)
        results.append(made)
        progress(f"{check.name}: {made.outcome}, in {took_s:.1f} s", None)
    target = subject.target
    took_s = time.perf_counter() - begun
    if (digest, files) != _identity(subject):  # what was found is neither of the one nor of the other
        raise PackageDamaged(
            "the package was replaced while it was looked at, or a file in it", where=str(subject.folder), hint=_AGAIN
        )
    return Verdict(target.name, target.kind, digest, tuple(results), took_s, interrupted, fault)


def _anything_found(results: Sequence[CheckResult], findings: Sequence[Finding]) -> bool:
    """Whether there is something that an error would throw away."""
    return worst((*(one.outcome for one in results), *(one.outcome for one in findings))) != "skipped"


def _require_known(subject: Subject) -> None:
    """That the names of target and baseline mean something: a name that means nothing is no target that fails."""
    _ = subject.folder
    if baseline := subject.against.baseline:
        with suppress(DependencyMissing, FoundryFailed):  # what cannot be told now, the check that needs it meets
            _ = Subject(baseline).folder


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


def _identity(subject: Subject) -> tuple[str | None, Mapping[str, tuple[int, ...]]]:
    """The digest of its manifest, and of each file that it lists what changes where somebody writes to it."""
    folder = subject.folder  # a name that means nothing is no target that fails
    try:
        package = manifest.read(folder) if folder else None
    except EdgeshipError:
        package = None
    if package is None:
        return None, {}
    files: dict[str, tuple[int, ...]] = {}
    for name in package.manifest.files:
        with suppress(OSError):
            stat = (package.folder / name).stat()
            files[name] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return package.digest, files


def _unwanted(check: Check, gate: Gate, only: Collection[CheckName]) -> str | None:
    if only and check.name not in only:
        return NOT_ASKED_FOR
    reason = gate.off.get(check.name)
    return f"the gate turns it off: {reason}" if reason else None


def _impossible(check: Check, subject: Subject) -> str | None:
    if subject.fault is not None:
        return f"the target cannot be opened: {subject.fault.what}"
    try:
        return check.not_for(subject)
    except EdgeshipError:
        return None  # the check itself meets it, and says so


def _result(check: Check, gate: Gate, findings: Sequence[Finding], took_s: float) -> CheckResult:
    """Of a check that was made."""
    bounds, why = held(gate.of(check)), gate.why.get(check.name)
    made = CheckResult(check.name, check.title, _told_apart(findings), took_s, bounds=bounds, why=why)
    return replace(made, reason=_nothing_seen(findings)) if made.outcome == "skipped" else made


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
        if _is_ours(error) or type(error) is UsageError or isinstance(error, _ASKED_WRONGLY):
            raise
        if isinstance(error, _NOT_THE_TARGETS):
            yield _unfinished("undecided", error.what, error.hint or "A machine that has what it takes.")
        else:
            yield _unfinished("fail", error.what)


def _is_ours(error: Exception) -> bool:
    """Whether it is a fault of our own: what can be explained has a class of its own."""
    return type(error) is EdgeshipError or not isinstance(error, EdgeshipError)


def _ended_by(error: Exception) -> Finding:
    """A check that was ended by what is not the target's, and says nothing about it."""
    if isinstance(error, EdgeshipError) and not _is_ours(error):
        return _unfinished("undecided", error.what, error.hint or "What it was asked for, asked in another way.")
    why = f"a fault of Edgeship itself ended it ({type(error).__name__}: {error})"
    return _unfinished("undecided", why, "A version of Edgeship without this fault.")


def _unfinished(outcome: Outcome, why: str, decided_by: str | None = None) -> Finding:
    told = f"The check could not be made to its end: {why.rstrip('.')}."
    return Finding(UNFINISHED, outcome, told, decided_by=decided_by)
