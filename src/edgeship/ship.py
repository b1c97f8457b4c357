"""The whole road: checkpoint -> candidates -> measurements -> choice -> package -> cache -> check -> report.

The only module that knows every stage. Each function is one stretch of the road.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeship import build as builds
from edgeship import cache, manifest, original, package, templates
from edgeship import engine as engines
from edgeship.build import Build
from edgeship.build.predict import Prediction, check_resources
from edgeship.checkpoint import Checkpoint, inspection, require_template
from edgeship.engine.api import Engine, Message, Sampling
from edgeship.engine.chat import ask
from edgeship.errors import EngineFailed, NotWritable, PackageDamaged, UsageError
from edgeship.machine import free_disk_bytes, this_machine
from edgeship.manifest import Package
from edgeship.measure.compare import Choice, Thresholds, choose
from edgeship.measure.evalset import EvalCase, read_evalset, spread
from edgeship.measure.measurement import Measurement
from edgeship.measure.probe import Job, probe
from edgeship.measure.report import Candidate, Report, ReportPaths, write_report
from edgeship.original import Reference, ScoredText
from edgeship.progress import Progress, silent
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from edgeship.version import __version__

# The original's logits are kept for this many texts: enough positions for a steady mean, few enough for a small disk.
REFERENCE_TEXTS = 48
RECHECKED_ANSWERS = 5


@dataclass(frozen=True)
class Order:
    """What to ship and when it is good enough.

    name: packages are called name-precision. recipes: the candidates; FP32 among them is the baseline.
    question: what the installed package is asked at the end; the eval's first question by default.
    """

    checkpoint: Checkpoint
    name: str
    recipes: tuple[Recipe, ...]
    thresholds: Thresholds
    eval_file: Path | None = None
    eval_limit: int | None = None
    question: str | None = None
    report_dir: Path | None = None
    force_resources: bool = False


@dataclass(frozen=True)
class Shipped:
    """What came of an order. Where no candidate holds, there is a report and nothing was installed."""

    report: Report
    paths: ReportPaths
    package: Package | None = None
    new: bool = False
    question: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class _Made:
    """A candidate on its way: its build, and its package in the work folder."""

    build: Build
    package: Package


def ship(order: Order, settings: Settings, progress: Progress = silent) -> Shipped:
    """Takes a checkpoint all the way. That no candidate holds is a result; errors are for what stops the work.

    Raises what the stages raise; TemplateMismatch where a prompt would not reach the model as it was trained.
    """
    cases = preflight(order, settings)
    with work_folder(settings) as work:
        reference = _reference(order, cases, settings, work, progress)
        made: dict[Precision, _Made] = {}
        fidelity: dict[str, Any] | None = None
        for recipe in order.recipes:
            made[recipe.precision] = _make(order, recipe, settings, work, progress)
            # With the first, before time goes into the others: all of them read prompts alike.
            fidelity = fidelity or _check_templates(order, made[recipe.precision], reference, settings, progress)
        measured = _measure(order, made, work, settings, progress)
        choice = choose(
            {precision: result for precision, result in measured.items() if precision is not Precision.FP32}
            or dict(measured),
            measured.get(Precision.FP32),
            order.thresholds,
        )
        report = _report(order, made, measured, choice, fidelity, settings)
        shipped = Shipped(report, write_report(_report_folder(order, settings), report))
        if choice.chosen is None:
            return shipped
        installed, new = _install(made[choice.chosen], measured[choice.chosen], choice, settings, progress)
        question = order.question or (cases[0].conversation[-1]["content"] if cases else "Hello! What can you do?")
        answer = _check(installed, cases, measured[choice.chosen], question, settings, progress)
        return replace(shipped, package=installed, new=new, question=question, answer=answer)


def preflight(order: Order, settings: Settings) -> tuple[EvalCase, ...]:
    """Everything that can be known before the work starts; returns the evaluation's cases."""
    for recipe in order.recipes:
        manifest.check_name(_package_name(order, recipe.precision))
    if len({recipe.precision for recipe in order.recipes}) < len(order.recipes):
        raise UsageError("a precision is named twice", hint="Name each candidate once.")
    template = require_template(order.checkpoint)
    templates.derive_parts(template, order.checkpoint.special_tokens)
    cases = spread(read_evalset(order.eval_file), order.eval_limit) if order.eval_file else ()
    cache.require_writable(settings.cache_dir)
    if not order.force_resources:
        _require_resources(order, settings)
    return cases


def _require_resources(order: Order, settings: Settings) -> None:
    """The largest need of all candidates and of the original, and the disk of all candidates together."""
    plans = [builds.plan(order.checkpoint, recipe, settings).prediction for recipe in order.recipes]
    need = Prediction(
        size_bytes=sum(plan.size_bytes for plan in plans),
        build_peak_memory_bytes=max(
            original.predicted_memory_bytes(order.checkpoint.parameters),
            *(plan.build_peak_memory_bytes for plan in plans),
        ),
        disk_bytes=sum(plan.disk_bytes for plan in plans),
        run_memory_bytes=max(plan.run_memory_bytes for plan in plans),
    )
    check_resources(need, this_machine(settings.memory_bytes), free_disk_bytes(settings.home))


def _reference(
    order: Order, cases: Sequence[EvalCase], settings: Settings, work: Path, progress: Progress
) -> Reference:
    """The original's token ids for the template check and its logits for the agreement."""
    chosen = spread(cases, REFERENCE_TEXTS)
    texts = [ScoredText(case.conversation, case.expected_text) for case in chosen] or [
        ScoredText(conversation.messages, None) for conversation in _conversations(order.checkpoint)
    ]
    return original.reference(
        order.checkpoint.folder,
        order.checkpoint.adapter.folder if order.checkpoint.adapter else None,
        [conversation.messages for conversation in _conversations(order.checkpoint)],
        texts,
        work / "reference.npz",
        chat_template=order.checkpoint.chat_template,
        allow_pickle=order.checkpoint.pickle,
        threads=_cores(settings),
        progress=_under("original", progress),
    )


def _make(order: Order, recipe: Recipe, settings: Settings, work: Path, progress: Progress) -> _Made:
    """Builds and packages one candidate in the work folder."""
    name = _package_name(order, recipe.precision)
    built = builds.build(
        order.checkpoint,
        recipe,
        settings,
        _under(f"build {recipe.precision}", progress),
        force_resources=True,  # the preflight has looked at all candidates together
    )
    packaged = package.write_package(
        built,
        order.checkpoint,
        work / name,
        name=name,
        version=cache.next_version(settings.cache_dir, name),
        cores=_cores(settings),
    )
    return _Made(built, packaged)


def _check_templates(
    order: Order, made: _Made, reference: Reference, settings: Settings, progress: Progress
) -> dict[str, Any]:
    progress("template: comparing token ids", None)
    conversations = _conversations(order.checkpoint)
    return check_templates(made.package, conversations, reference.conversation_tokens, _cores(settings))


def check_templates(
    packaged: Package,
    conversations: Sequence[templates.Conversation],
    expected: Sequence[Sequence[int]],
    threads: int,
) -> dict[str, Any]:
    """The checkpoint's own token ids against this package's engine, onnxruntime-genai's tokenizer and the prompt parts.

    expected: the checkpoint's ids, one list a conversation. Raises TemplateMismatch with the first difference.
    """
    from edgeship.engine.genai import GenaiEngine

    engine = GenaiEngine(packaged.folder, threads)
    parts = package.read_prompt_parts(packaged.folder)
    ids = {id(conversation.messages): tokens for conversation, tokens in zip(conversations, expected, strict=True)}
    encoders: dict[str, templates.Encoder] = {
        "checkpoint": lambda messages: ids[id(messages)],
        "edgeship": lambda messages: engine.chat(messages).tokens,
        "onnxruntime-genai": engine.genai_tokens,
        "inference_model.json": lambda messages: engine.encode_with_genai(templates.assemble(parts, messages)),
    }
    try:
        mismatches = templates.check_fidelity(encoders, conversations, engine.decode)
        templates.require_fidelity(mismatches)
    finally:
        engine.close()
    known = sorted({mismatch.excuse for mismatch in mismatches if mismatch.excuse})
    return {
        "conversations": len(conversations),
        "readers": ", ".join(encoders),
        "result": "the same token ids" + (f", but for what is known: {'; '.join(known)}" if known else ""),
    }


def _measure(
    order: Order, made: Mapping[Precision, _Made], work: Path, settings: Settings, progress: Progress
) -> dict[Precision, Measurement]:
    job = Job(eval_file=order.eval_file, eval_limit=order.eval_limit, reference=work / "reference.npz")
    return {
        precision: probe(
            candidate.package.folder,
            job,
            threads=_cores(settings),
            progress=_under(f"measure {precision}", progress),
        )
        for precision, candidate in made.items()
    }


def _install(
    candidate: _Made, measurement: Measurement, choice: Choice, settings: Settings, progress: Progress
) -> tuple[Package, bool]:
    progress(f"install {candidate.package.manifest.name}", None)

    def finish(folder: Path, version: int) -> Package:
        return package.stamp(folder, version=version, measurements=measurement.summary(), verdict=choice.verdict())

    return cache.install(candidate.package.folder, settings.cache_dir, move=True, finish=finish)


def _check(
    installed: Package,
    cases: Sequence[EvalCase],
    measurement: Measurement,
    question: str,
    settings: Settings,
    progress: Progress,
) -> str:
    """Runs the package from where it was installed: its bytes, answers as measured, and one answer to show."""
    progress(f"check {installed.manifest.ref}", None)
    faults = manifest.verify(installed)
    if faults:
        raise PackageDamaged("; ".join(faults), where=str(installed.folder), hint="Ship again.")
    engine = engines.load(installed.folder, threads=_cores(settings))
    try:
        if measurement.evaluation:
            _require_same_answers(engine, cases, measurement, installed)
        messages: list[Message] = [{"role": "user", "content": question}]
        answer = ask(engine, engine.chat(messages), Sampling(temperature=0.0, max_tokens=256))
    finally:
        engine.close()
    return answer.text


def _require_same_answers(
    engine: Engine, cases: Sequence[EvalCase], measurement: Measurement, installed: Package
) -> None:
    assert measurement.evaluation is not None
    sampling = Sampling(temperature=0.0, max_tokens=measurement.evaluation.max_tokens)
    for case, record in zip(cases[:RECHECKED_ANSWERS], measurement.evaluation.records, strict=False):
        answer = ask(engine, engine.chat(case.conversation), sampling).text
        if answer != record.answer:
            raise EngineFailed(
                f"the installed package answers case {record.id!r} otherwise than when it was measured: "
                f"{answer!r} instead of {record.answer!r}",
                where=str(installed.folder),
                hint="Ship again; if it stays, run `edgeship doctor` and report it.",
            )


def _report(
    order: Order,
    made: Mapping[Precision, _Made],
    measured: Mapping[Precision, Measurement],
    choice: Choice,
    fidelity: dict[str, Any] | None,
    settings: Settings,
) -> Report:
    from dataclasses import asdict

    first = next(iter(made.values()))
    chosen = _package_name(order, choice.chosen) if choice.chosen else None
    commands = (
        (("chat", f"edgeship model run {chosen}"), ("ask once", f'edgeship model run {chosen} "..."')) if chosen else ()
    )
    return Report(
        created=manifest.now(),
        name=order.name,
        checkpoint=inspection(order.checkpoint),
        machine=asdict(this_machine(settings.memory_bytes)),
        tools={"edgeship": __version__, **first.build.tools},
        candidates=tuple(
            Candidate(precision, candidate.build.recipe.to_key(), measured[precision])
            for precision, candidate in made.items()
        ),
        choice=choice,
        template_fidelity=fidelity,
        commands=commands,
    )


def _report_folder(order: Order, settings: Settings) -> Path:
    stamp = manifest.now().replace(":", "").replace("-", "")
    return order.report_dir or settings.reports_dir / order.name / f"{stamp}-{os.getpid()}"


@contextlib.contextmanager
def work_folder(settings: Settings) -> Iterator[Path]:
    """A folder that goes when the work ends; what a killed run left goes when the next begins."""
    import filelock

    root = settings.home / "work"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for lock_path in root.glob("*.lock"):
            # A lock that can be had belongs to a run that is over.
            with contextlib.suppress(filelock.Timeout), filelock.FileLock(lock_path, timeout=0):
                shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
                lock_path.unlink(missing_ok=True)
        folder = root / f"{os.getpid()}-{secrets.token_hex(4)}"
        lock = filelock.FileLock(folder.with_name(folder.name + ".lock"))
        lock.acquire(timeout=0)
        folder.mkdir()
    except OSError as error:
        raise NotWritable(
            f"the work folder cannot be written: {error}",
            where=str(root),
            hint="Set EDGESHIP_HOME to a folder that you may write to.",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _conversations(checkpoint: Checkpoint) -> Sequence[templates.Conversation]:
    return templates.conversations_for(require_template(checkpoint), checkpoint.special_tokens)


def _package_name(order: Order, precision: Precision) -> str:
    return f"{order.name}-{precision.value}"


def _cores(settings: Settings) -> int:
    return settings.threads or this_machine().cores_usable


def _under(stage: str, progress: Progress) -> Progress:
    def tell(message: str, fraction: float | None = None) -> None:
        progress(f"{stage}: {message}", fraction)

    return tell
