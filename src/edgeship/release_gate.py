"""The end of a `ship`: the release gate looks at the package that was chosen, before it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from edgeship.engine.api import Constraint
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.choice.choose import Thresholds
from edgeship.measure.evaluation.document import eval_document
from edgeship.measure.evaluation.evaluate import EvalResult
from edgeship.measure.evaluation.target import EvalOptions, WayResult
from edgeship.package.manifest import Package
from edgeship.progress import Progress, under
from edgeship.settings import Settings
from edgeship.system import json_file
from edgeship.targets import Target
from edgeship.validate.bounds import bounds_of, held
from edgeship.validate.check import Check
from edgeship.validate.checks import CHECKS
from edgeship.validate.document import verdict_document
from edgeship.validate.gate import Gate, read_gate
from edgeship.validate.run import validate
from edgeship.validate.subject import Against, Subject

Effort = Literal["quick", "default", "long", "off"]


@dataclass(frozen=True)
class ReleaseGate:
    """How closely a package is looked at before it is installed. effort: "off" installs it unseen.

    force: install it although it fails.
    """

    gate: Gate = field(default_factory=Gate)
    effort: Effort = "quick"
    force: bool = False
    checks: Sequence[Check] = CHECKS


def opened(file: Path | None, effort: Effort, *, force: bool) -> ReleaseGate:
    """By what users say. file: a gate file. Raises GateInvalid."""
    return ReleaseGate(read_gate(file, CHECKS) if file else Gate(), effort, force)


@dataclass(frozen=True)
class Known:
    """What a ship knows of a package before the gate looks at it.

    cases, eval_file, constraint: of the evaluation. thresholds: when it is good enough.
    original: how FP32 answered; None where that was not measured, or is the package itself. measured: how the package
    answered the same cases. original_folder: where the FP32 package lies meanwhile, for what its answers do not tell.
    """

    cases: tuple[EvalCase, ...]
    eval_file: Path | None
    constraint: Constraint | None
    thresholds: Thresholds
    original: EvalResult | None
    measured: EvalResult | None = None
    original_folder: Path | None = None


def look(
    release: ReleaseGate, package: Package, name: str, known: Known, work: Path, settings: Settings, progress: Progress
) -> dict[str, Any] | None:
    """The verdict, as `verdict_document` makes it; None where the gate is off.

    name: what the package is to be called. work: a folder of this run. Raises KeyboardInterrupt and faults of our own,
    where what was found until then is of no use.
    """
    if release.effort == "off":
        return None
    against = Against(
        cases=known.cases,
        eval_file=known.eval_file,
        constraint=known.constraint,
        original=_original(known, work),
        measured=_greedily(known.measured) if known.measured else None,
        original_build=Target("folder", str(known.original_folder), settings) if known.original_folder else None,
        effort=release.effort,
    )
    gate = _with_thresholds(release, known.thresholds)
    with Subject(Target("folder", str(package.folder), settings), against) as subject:
        found = validate(subject, gate, progress=under("gate", progress), checks=release.checks)
    if found.interrupted:
        raise KeyboardInterrupt
    if found.fault is not None:
        raise found.fault
    found = replace(found, target=name, kind="package")  # the folder it lies in is gone when this is read
    return verdict_document(found, gate.off, settings.memory_bytes, effort=release.effort)


def _original(known: Known, work: Path) -> Path | None:
    """How FP32 answered, in the words of `edgeship eval`, so that it is not asked once more."""
    if known.original is None or known.eval_file is None:
        return None
    asked = EvalOptions(ways=("greedy",), max_tokens=known.original.max_tokens, constraint=known.constraint)
    path = work / "original.json"
    target = {"name": "fp32", "kind": "folder"}
    document = eval_document(target, known.eval_file, known.cases, asked, (_greedily(known.original),))
    json_file.write_object(path, document)
    return path


def _greedily(measured: EvalResult) -> WayResult:
    """What was measured, as the way in which cases are asked while a package is chosen."""
    return WayResult(
        way="greedy",
        sampling={"temperature": 0.0, "max_tokens": measured.max_tokens},
        attempts=measured.cases,
        repeat=1,
        concurrency=measured.concurrency,
        result=measured,
        errors=(),
    )


def _with_thresholds(release: ReleaseGate, thresholds: Thresholds) -> Gate:
    """The gate; bounds of the domain that its file does not set are those that the choice was held to.

    What ship was asked for is the reason of a bound that is not the default, beside the reason that the file gives.
    """
    gate = release.gate
    domain = next((check for check in release.checks if check.name == "domain"), None)
    if domain is None:
        return gate
    free = {one.name for one in bounds_of(domain.bounds) if gate.is_left_out(domain, one.name)}
    meant = {name: value for name, value in asdict(thresholds).items() if name in free}
    bounds = replace(gate.of(domain), **meant)
    asked = [
        f"--{one.name.replace('_', '-')} {one.value:g}"
        for one in held(bounds)
        if one.name in meant and not one.is_default
    ]
    reasons = [gate.why.get(domain.name), f"`edgeship ship` was given {' and '.join(asked)}" if asked else None]
    why = "; ".join(reason for reason in reasons if reason)
    return replace(
        gate,
        bounds={**gate.bounds, domain.name: bounds},
        why={**gate.why, domain.name: why} if why else gate.why,
    )
