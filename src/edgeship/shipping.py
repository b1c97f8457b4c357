"""The whole road: checkpoint -> candidates -> measurements -> choice <-> release gate -> report -> cache -> check.

The only module that knows every stage. Each function is one stretch of the road.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgeship import builder as builds
from edgeship import candidates, readers, release_gate
from edgeship.builder.description import describe
from edgeship.builder.nodes import DATA_NAME
from edgeship.candidates import Made
from edgeship.checkpoint import Checkpoint
from edgeship.checkpoint.inspection import inspection
from edgeship.engine.api import Constraint
from edgeship.errors import PrecisionUnsupported, ResourceError
from edgeship.first_run import first_answer, withdrawn_on_failure
from edgeship.measure.agreement.questions import built_in_prompts
from edgeship.measure.agreement.reference import Reference, ScoredText, Text
from edgeship.measure.cases.evalset import EvalCase, take_evenly
from edgeship.measure.choice.choose import Choice, Thresholds, Undecided, choose
from edgeship.measure.choice.escalation import Attempt, in_words, next_budget, next_step, with_budget
from edgeship.measure.choice.recommendation import in_figures
from edgeship.measure.measurement import Measurement
from edgeship.measure.probe import ProbeOptions, probe
from edgeship.measure.report.comparison import HELD_TO, Candidate, Report
from edgeship.measure.report.files import ReportPaths, write_report
from edgeship.measure.report.gated import Gated, gated_by
from edgeship.package import DAMAGED, genai_config, manifest
from edgeship.package.manifest import Package
from edgeship.preflight import ReferenceName, Shipment, choose_reference, fp32_of, package_name, preflight
from edgeship.progress import Progress, silent, under
from edgeship.recipe import Precision, Recipe, named_recipe
from edgeship.release_gate import Known, ReleaseGate
from edgeship.settings import Settings
from edgeship.store import listing, packages
from edgeship.store.listing import Entry
from edgeship.system import json_file
from edgeship.system.machine import this_machine
from edgeship.system.shell import our_command
from edgeship.version import __version__

# The reference's logits are kept for this many texts: enough positions for a steady mean, few enough for a small disk.
REFERENCE_TEXTS = 48

CANDIDATES = ("fp32", "fp16", "int8", "int4")
"""The recipes that are measured where none are given."""
DEFAULT_THRESHOLDS = Thresholds()
DEFAULT_GATE = ReleaseGate()


@dataclass(frozen=True)
class Shipped:
    """What came of it. Where no candidate holds, or the release gate lets none through, nothing was installed.

    verdict: the gate's on what was chosen, as `edgeship validate --json` prints it; None where it was off or nothing
    was chosen.
    """

    report: Report
    paths: ReportPaths
    package: Entry | None = None
    new: bool = False
    question: str | None = None
    answer: str | None = None
    verdict: dict[str, Any] | None = None


def ship(
    checkpoint: Checkpoint,
    *,
    settings: Settings,
    name: str | None = None,
    recipes: Sequence[Recipe] = (),
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    undecided: Undecided = "take",
    reference: Literal["auto"] | ReferenceName = "auto",
    eval_file: Path | None = None,
    eval_limit: int | None = None,
    constraint: Constraint | None = None,
    question: str | None = None,
    report_dir: Path | None = None,
    escalate: bool = False,
    gate: ReleaseGate = DEFAULT_GATE,
    force_resources: bool = False,
    progress: Progress = silent,
) -> Shipped:
    """What came of a checkpoint that was taken all the way.

    That no candidate holds, or that the gate lets none through, is a result, and no error.

    name: packages are called name-label; by default the checkpoint's.
    recipes: the candidates, by default CANDIDATES; FP32 among them is the baseline.
    undecided: what becomes of a candidate whose cases are too few to tell: with "take" it may ship where what was
    measured lies within the limits; with "refuse" only what is shown to hold may.
    reference: what agreement is measured with: the checkpoint in transformers, or its FP32 build, which needs no
    PyTorch; "auto" takes the first where it is installed.
    constraint: what answers to the eval's questions are held to.
    question: what the installed package is asked at the end; the eval's first question by default.
    escalate: give INT4 more bits where it is not good enough, until it is or has as many as INT8.
    gate: what the chosen one has to pass before it is installed; where it does not, the next that is good enough is
    chosen.
    force_resources: go on although memory or disk look too small.

    Raises what the stages raise; TemplateMismatch where a prompt would not reach the model as it was trained.
    """
    shipment = Shipment(
        checkpoint=checkpoint,
        name=name or checkpoint.name,
        recipes=tuple(recipes) or tuple(named_recipe(label, {}, where="candidates") for label in CANDIDATES),
        thresholds=thresholds,
        undecided=undecided,
        reference=choose_reference(checkpoint) if reference == "auto" else reference,
        eval_file=eval_file,
        eval_limit=eval_limit,
        constraint=constraint,
        question=question,
        report_dir=report_dir,
        escalate=escalate,
        gate=gate,
        force_resources=force_resources,
    )
    return _ship(shipment, settings, progress)


def _ship(shipment: Shipment, settings: Settings, progress: Progress) -> Shipped:
    with candidates.work_folder(settings) as work:
        shipment, cases, plans, spelling = preflight(shipment, settings, work, progress)

        def make(recipe: Recipe) -> Made:
            plan = plans.get(recipe) or builds.plan(shipment.checkpoint, recipe, settings)
            return candidates.make(shipment.checkpoint, recipe, plan, spelling, settings, work, progress)

        def measure(one: Made) -> Measurement:
            return _measure(shipment, cases, one, work, settings, progress)

        fp32 = make(fp32_of(shipment)) if shipment.reference == "fp32" else None
        reference = _reference(shipment, fp32, cases, settings, work, progress)
        made: dict[str, Made] = {}
        fidelity: dict[str, Any] | None = None
        for recipe in shipment.recipes:
            ready = fp32 if fp32 is not None and recipe == fp32.recipe else None
            made[recipe.label] = ready or make(recipe)
            # With the first, before time goes into the others: all of them read prompts alike.
            fidelity = fidelity or _check_templates(shipment, made[recipe.label], reference, progress)
        measured = {label: measure(one) for label, one in made.items()}
        choice = _choose(shipment, made, measured)
        while (another := _another(shipment, made, measured, choice)) is not None:
            try:
                one = make(another)
                measured[another.label] = measure(one)
            except (PrecisionUnsupported, ResourceError) as error:  # what is made already is not lost with it
                progress(f"note: {another.label} was not tried: {error.what}", None)
                break
            made[another.label] = one
            choice = _choose(shipment, made, measured)
            progress(f"note: {choice.judgements[another.label].of(another.label)}", None)
        choice, gates, verdicts = _let_through(shipment, cases, made, measured, choice, work, settings, progress)
        report = _report(shipment, cases, made, measured, choice, reference, fidelity, gates, settings)
        verdict = verdicts.get(choice.chosen) if choice.chosen else None
        shipped = Shipped(report, _write(report, verdicts, _report_folder(shipment, settings)), verdict=verdict)
        if choice.chosen is None or not report.installs:
            return shipped
        chosen, measurement = made[choice.chosen], measured[choice.chosen]
        question = shipment.question or (cases[0].conversation[-1]["content"] if cases else "Hello! What can you do?")
        installed, new = _install(shipment, chosen, measurement, report, verdict, settings, progress)
        with withdrawn_on_failure(installed if new else None, settings):
            answer = first_answer(shipment, installed, cases, measurement, question, settings, progress)
        return replace(shipped, package=installed, new=new, question=question, answer=answer)


def _reference(
    shipment: Shipment,
    fp32: Made | None,
    cases: Sequence[EvalCase],
    settings: Settings,
    work: Path,
    progress: Progress,
) -> Reference:
    """What agreement is measured with, over the answers that the cases expect, or else over the checkpoint's own."""
    checkpoint = shipment.checkpoint
    texts: Sequence[Text] = take_evenly(_with_answers(cases), REFERENCE_TEXTS)
    return candidates.reference(checkpoint, fp32, texts or built_in_prompts(checkpoint), settings, work, progress)


def _with_answers(cases: Sequence[EvalCase]) -> list[ScoredText]:
    """Cases whose answer is known: assertions alone do not tell it, and what is told of tools stands in prompts."""
    known = ((case, case.right_answer) for case in cases if not case.tools)
    return [ScoredText(case.conversation, answer) for case, answer in known if answer is not None]


def _check_templates(shipment: Shipment, made: Made, reference: Reference, progress: Progress) -> dict[str, Any]:
    progress("template: comparing token ids", None)
    samples = readers.conversations(shipment.checkpoint)
    return readers.check_templates(made.package, samples, reference.reader, reference.conversation_tokens)


def _measure(
    shipment: Shipment, cases: Sequence[EvalCase], one: Made, work: Path, settings: Settings, progress: Progress
) -> Measurement:
    job = ProbeOptions(cases=tuple(cases), reference=work / "reference.npz", constraint=shipment.constraint)
    tell = under(f"measure {one.recipe.label}", progress)
    return probe(one.package.folder, job, threads=settings.threads, progress=tell)


def _choose(
    shipment: Shipment, made: Mapping[str, Made], measured: Mapping[str, Measurement], refused: Container[str] = ()
) -> Choice:
    """The choice among all but FP32, which is the baseline; FP32 itself where nothing else is asked for.

    refused: by the release gate.
    """
    baseline = _baseline(made)
    others = {label: result for label, result in measured.items() if label != baseline}
    original = measured[baseline] if baseline else None
    choice = choose(others or measured, original, shipment.thresholds, shipment.undecided, refused)
    remarks = []
    escalation = _escalation(shipment, made, choice)
    if not all(found.good_enough for found in escalation):
        remarks.append(in_words(escalation))
    if choice.chosen is not None:
        remarks.append(in_figures(choice.chosen, measured[choice.chosen], original))
    if choice.chosen is not None and measured[choice.chosen].evaluation is not None:
        remarks.append(_as_shipped(made[choice.chosen].package, shipment.constraint))
    return replace(choice, reasons=(*choice.reasons, *remarks))


def _baseline(made: Mapping[str, Made]) -> str | None:
    return next((label for label, one in made.items() if one.recipe.precision is Precision.FP32), None)


def _another(
    shipment: Shipment, made: Mapping[str, Made], measured: Mapping[str, Measurement], choice: Choice
) -> Recipe | None:
    """What is to be tried next: the largest INT4 of those asked for, with more bits.

    With --escalate until it is good enough; without, once, where it is undecided and its budget is the recipe's own.
    Nothing where the cases are too few to show that anything holds, which bits do not mend, and what looks as if it
    held is refused.
    """
    asked = [recipe for recipe in shipment.recipes if recipe.precision is Precision.INT4]
    failed = [recipe for recipe in asked if not _good_enough(choice, recipe.label)]
    if choice.fault is not None or not failed:
        return None
    largest = max(failed, key=lambda recipe: measured[recipe.label].size_bytes)
    attempts, judgement = _attempts(shipment, made, choice), choice.judgements[largest.label]
    if judgement.hopeless and judgement.within:
        return None
    if shipment.escalate:
        bits = next_budget(attempts)
    elif judgement.outcome == "undecided" and largest.tolerance is not None and not _tried(shipment, made):
        bits = next_step(next(found.bits for found in attempts if found.label == largest.label))
    else:
        return None
    return None if bits is None else with_budget(largest, bits)


def _tried(shipment: Shipment, made: Mapping[str, Made]) -> bool:
    """Whether INT4 was given more bits than it was asked for with."""
    return len(made) > len(shipment.recipes)


def _attempts(shipment: Shipment, made: Mapping[str, Made], choice: Choice) -> list[Attempt]:
    """All candidates with their bits: as many as they may spend, or else as their data files have."""

    def bits(one: Made) -> float:
        if one.recipe.bits is not None and one.recipe.tolerance is None:
            return one.recipe.bits
        return 8 * one.build.files[DATA_NAME].size_bytes / shipment.checkpoint.parameters

    return [Attempt(label, bits(made[label]), _good_enough(choice, label)) for label in choice.judgements]


def _good_enough(choice: Choice, label: str) -> bool:
    return choice.judgements[label].is_good_enough(choice.undecided)


def _escalation(shipment: Shipment, made: Mapping[str, Made], choice: Choice) -> tuple[Attempt, ...]:
    """What became of INT4 where more bits may be tried: as it was asked for, and with these."""
    attempts = _attempts(shipment, made, choice) if shipment.escalate or _tried(shipment, made) else []
    return tuple(found for found in attempts if made[found.label].recipe.precision is Precision.INT4)


def _as_shipped(packaged: Package, constraint: Constraint | None) -> str:
    """How a package answers where nobody says otherwise, beside how it was measured."""
    answers = genai_config.read(packaged.folder, DAMAGED).search.in_words
    held = (
        f"; its answers were held to {HELD_TO[constraint.kind]}, as --schema does, and are free without"
        if constraint
        else ""
    )
    if answers == "greedily":
        return f"as shipped it answers greedily, as it was measured{held}"
    return f"as shipped it answers {answers}; it was measured greedily, as with --temperature 0{held}"


def _let_through(
    shipment: Shipment,
    cases: tuple[EvalCase, ...],
    made: Mapping[str, Made],
    measured: Mapping[str, Measurement],
    choice: Choice,
    work: Path,
    settings: Settings,
    progress: Progress,
) -> tuple[Choice, tuple[Gated, ...], dict[str, dict[str, Any]]]:
    """The choice that the release gate lets through; what it said of each candidate until then, in short and whole.

    Where it refuses one, the next that is good enough is chosen; where it lets none through, it stays at the first.
    """
    first, baseline, release = choice, _baseline(made), shipment.gate
    gates: list[Gated] = []
    verdicts: dict[str, dict[str, Any]] = {}
    while choice.chosen is not None:
        label, package = choice.chosen, made[choice.chosen].package
        original = measured[baseline].evaluation if baseline and baseline != label else None
        known = Known(
            cases=cases,
            eval_file=shipment.eval_file,
            constraint=shipment.constraint,
            thresholds=shipment.thresholds,
            original=original,
            original_folder=made[baseline].package.folder if baseline and baseline != label else None,
            measured=measured[label].evaluation,
        )
        verdict = release_gate.look(release, package, package_name(shipment, label), known, work, settings, progress)
        if verdict is None:
            return first, (), {}
        verdicts[label] = verdict
        before = packages.failed_before(package, settings.cache_dir, verdict)
        gated = gated_by(label, verdict, force=release.force, undecided=shipment.undecided, failed_before=before)
        gates.append(gated)
        if gated.installed:
            return choice, tuple(gates), verdicts
        progress(f"note: {'; '.join(gated.reasons)}", None)
        choice = _choose(shipment, made, measured, verdicts)
    return first, tuple(gates), verdicts


def _write(report: Report, verdicts: Mapping[str, Mapping[str, Any]], folder: Path) -> ReportPaths:
    """The report; beside it whole verdicts, with what speaks against packages that are not installed."""
    paths = write_report(folder, report)
    for gate in report.gates:
        json_file.write_object(folder / gate.verdict_file, verdicts[gate.label])
    return paths


def _install(
    shipment: Shipment,
    candidate: Made,
    measurement: Measurement,
    report: Report,
    verdict: Mapping[str, Any] | None,
    settings: Settings,
    progress: Progress,
) -> tuple[Entry, bool]:
    name = package_name(shipment, candidate.recipe.label)
    progress(f"install {name}", None)
    known, asked = _cases_known(settings.cache_dir, name, candidate.package), _cases_in(measurement.summary())
    if known > asked:
        progress(f"note: {name} was judged by {known} cases before; the verdict is by {asked} now", None)
    return packages.install(
        candidate.package.folder,
        settings.cache_dir,
        name=name,
        measurements={**measurement.summary(), "reference": report.reference},
        verdict=report.choice.verdict(),
        gate=verdict,
        force=shipment.gate.force,
        move=True,
    )


def _cases_known(cache_dir: Path, name: str, package: Package) -> int:
    """How many cases the verdict of this very package stands on in the store."""
    same = (entry for entry in listing.entries(cache_dir) if entry.name == name and entry.record)
    records = [entry.record for entry in same if entry.package and entry.package.digest == package.digest]
    return max((_cases_in(record.measurements or {}) for record in records if record), default=0)


def _cases_in(measurements: Mapping[str, Any]) -> int:
    evaluation = measurements.get("evaluation")
    cases = evaluation.get("cases") if isinstance(evaluation, Mapping) else None
    return cases if isinstance(cases, int) else 0


def _report(
    shipment: Shipment,
    cases: Sequence[EvalCase],
    made: Mapping[str, Made],
    measured: Mapping[str, Measurement],
    choice: Choice,
    reference: Reference,
    fidelity: dict[str, Any] | None,
    gates: tuple[Gated, ...],
    settings: Settings,
) -> Report:
    first = next(iter(made.values()))
    report = Report(
        created=manifest.now(),
        name=shipment.name,
        checkpoint=inspection(shipment.checkpoint) | describe(shipment.checkpoint),
        machine=asdict(this_machine(settings.memory_bytes)),
        tools={"edgeship": __version__, **first.build.tools},
        candidates=tuple(
            Candidate(label, one.recipe.precision, one.build.recipe.to_key(), measured[label])
            for label, one in made.items()
        ),
        choice=choice,
        reference=reference.source,
        texts=_texts_in_words(cases, reference),
        escalation=_escalation(shipment, made, choice),
        constraint=shipment.constraint,
        template_fidelity=fidelity,
        sampling=_sampling(first.package),
        remarks=shipment.remarks,
        gates=gates,
    )
    if choice.chosen is None or not report.installs:
        return report
    return replace(report, commands=_commands(package_name(shipment, choice.chosen), settings))


def _sampling(package: Package) -> dict[str, Any]:
    """How answers are made where nobody says otherwise, and what of it is set; the same for every candidate."""
    search = genai_config.read(package.folder, DAMAGED).search
    return {"answers": search.in_words, **{key: value for key, value in asdict(search).items() if value is not None}}


def _texts_in_words(cases: Sequence[EvalCase], reference: Reference) -> str:
    if _with_answers(cases):
        return f"the answers that {reference.texts_used} cases expect"
    return f"the checkpoint's own answers to {reference.texts_used} built-in questions"


def _commands(name: str, settings: Settings) -> tuple[tuple[str, str], ...]:
    """How to go on with an installed package; another cache than the home's own is named."""
    elsewhere = [] if settings.cache_dir == settings.home / "models" else ["--cache-dir", str(settings.cache_dir)]
    run = our_command("model", "run", name, *elsewhere)
    return ("chat", run), ("ask once", f'{run} "..."')


def _report_folder(shipment: Shipment, settings: Settings) -> Path:
    stamp = manifest.now().replace(":", "").replace("-", "")
    return shipment.report_dir or settings.reports_dir / shipment.name / f"{stamp}-{os.getpid()}"
