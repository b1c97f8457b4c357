"""`edgeship ship`: the whole road, from a checkpoint to an installed package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgeship import settings
from edgeship.cli.options import (
    CacheDir,
    CheckpointArgument,
    CheckpointOptions,
    ForceResources,
    Json,
    Memory,
    RecipeName,
    RecipeOptions,
    Schema,
    Threads,
    as_path,
    grouped,
)
from edgeship.cli.output import note, print_json, print_table, telling
from edgeship.cli.streams import show
from edgeship.system.shell import our_command

if TYPE_CHECKING:
    from edgeship.measure.choice.choose import Thresholds
    from edgeship.measure.report.comparison import Report
    from edgeship.measure.report.files import ReportPaths
    from edgeship.recipe import Recipe
    from edgeship.release_gate import ReleaseGate
    from edgeship.shipping import Shipped

EXIT_NOT_INSTALLED = 1
CANDIDATES = (RecipeName.FP32, RecipeName.FP16, RecipeName.INT8, RecipeName.INT4)
"""What is measured by default."""
SHOWN_FAILURES = 3
SHOWN_CHARACTERS = 160


EvalFile = Annotated[
    Path | None,
    typer.Option(
        "--eval",
        help="Questions with their right answers: your fine-tuning file (JSON Lines), or promptfoo's YAML.",
        show_default=False,
        parser=as_path,
    ),
]
EvalLimit = Annotated[
    int | None, typer.Option("--eval-limit", min=1, help="Ask only N of them, taken evenly.", show_default=False)
]
Name = Annotated[
    str | None, typer.Option("--name", help="Packages are called NAME-RECIPE.", show_default="the checkpoint's")
]
Candidates = Annotated[
    list[RecipeName] | None,
    typer.Option(
        "--precision",
        "-p",
        help=f"A candidate, one of {', '.join(RecipeName)}; repeat it for several.",
        show_default=", ".join(CANDIDATES),
    ),
]
Reference = Annotated[
    Literal["auto", "transformers", "fp32"],
    typer.Option(
        "--reference",
        help="What agreement is measured with: the checkpoint in transformers, or its FP32 build; "
        "auto takes transformers where it is installed.",
    ),
]
Question = Annotated[
    str | None,
    typer.Option("--ask", help="What to ask the installed model.", show_default="the eval's first question"),
]
Escalate = Annotated[
    bool,
    typer.Option("--escalate", help="Where INT4 is not good enough, give it more bits until it is."),
]
WhatIsUndecided = Annotated[
    Literal["take", "refuse"],
    typer.Option(
        "--undecided",
        help="Whether a candidate that too few cases leave undecided is taken if its figures lie within the limits.",
    ),
]
ForceGate = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Install what fails the release gate all the same, marked as failed.",
    ),
]
ReportFolder = Annotated[
    Path | None, typer.Option("--report", help="Folder for the report.", show_default=False, parser=as_path)
]


@dataclass(frozen=True)
class GateOptions:
    """What the chosen package has to pass before it is installed."""

    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate",
            help="A gate file, as `edgeship validate` takes it: bounds and checks that are turned off, with reasons.",
            show_default=False,
            parser=as_path,
        ),
    ] = None
    gate_effort: Annotated[
        Literal["quick", "default", "long", "off"],
        typer.Option(
            "--gate-effort",
            help="How closely `edgeship validate` looks at the chosen package before it is installed; off installs it "
            "unseen.",
        ),
    ] = "quick"

    def opened(self, *, force: bool) -> ReleaseGate:
        """As `shipping.ship` takes it. Raises GateInvalid."""
        from edgeship.release_gate import opened

        return opened(self.gate, self.gate_effort, force=force)


@dataclass(frozen=True)
class ThresholdOptions:
    """When a candidate is good enough."""

    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0, max=1, help="Largest loss of pass rate against FP32.")
    ] = 0.02
    min_pass_rate: Annotated[
        float, typer.Option("--min-pass-rate", min=0, max=1, help="Smallest pass rate that ships.")
    ] = 0.8
    max_kld: Annotated[
        float,
        typer.Option("--max-kld", min=0, help="Without --eval: largest mean KLD, in nats, from the reference."),
    ] = 0.1
    min_top1: Annotated[
        float, typer.Option("--min-top1", min=0, max=1, help="Without --eval: smallest top-1 agreement.")
    ] = 0.9

    def thresholds(self) -> Thresholds:
        """The same limits as `shipping.ship` takes them."""
        from edgeship.measure.choice.choose import Thresholds

        return Thresholds(
            max_drop=self.max_drop,
            min_pass_rate=self.min_pass_rate,
            max_mean_kld_nats=self.max_kld,
            min_top1_agreement=self.min_top1,
        )


@grouped
def ship(
    *,
    checkpoint: CheckpointArgument,
    eval_file: EvalFile = None,
    eval_limit: EvalLimit = None,
    schema: Schema = None,
    name: Name = None,
    precision: Candidates = None,
    changes: RecipeOptions,
    reference: Reference = "auto",
    thresholds: ThresholdOptions,
    undecided: WhatIsUndecided = "take",
    escalate: Escalate = False,
    gate: GateOptions,
    ask: Question = None,
    report: ReportFolder = None,
    reading: CheckpointOptions,
    force: ForceGate = False,
    force_resources: ForceResources = False,
    cache_dir: CacheDir = None,
    threads: Threads = None,
    memory: Memory = None,
    as_json: Json = False,
) -> int:
    """Build every candidate, measure them, choose one, hold it against the release gate, install it and check it."""
    from edgeship import shipping
    from edgeship.cli.model_run import AnswerOptions
    from edgeship.package.names import check_name

    current = settings.resolve(cache_dir=cache_dir, threads=threads, memory=memory)
    if name is not None:
        check_name(name)
    recipes = candidates_of(precision, changes)
    release_gate = gate.opened(force=force)
    opened = reading.open(checkpoint)
    with telling() as progress:
        shipped = shipping.ship(
            opened,
            settings=current,
            name=name,
            recipes=recipes,
            thresholds=thresholds.thresholds(),
            undecided=undecided,
            reference=reference,
            eval_file=eval_file,
            eval_limit=eval_limit,
            constraint=AnswerOptions(schema=schema).constraint(),
            question=ask,
            report_dir=report,
            escalate=escalate,
            gate=release_gate,
            force_resources=force_resources,
            progress=progress,
        )
    if as_json:
        print_json(_shipped_dict(shipped))
    else:
        _print_shipped(shipped, cache_dir)
    return 0 if shipped.package else EXIT_NOT_INSTALLED


def candidates_of(names: Sequence[RecipeName] | None, options: RecipeOptions) -> tuple[Recipe, ...]:
    """The recipes that are named, or those of CANDIDATES, with the options that mean something to each."""
    return tuple(_candidate(str(name), options) for name in names or CANDIDATES)


def _candidate(name: str, options: RecipeOptions) -> Recipe:
    """A recipe with the options that mean something to its precision, since they are given once for all candidates."""
    from edgeship.recipe import Precision, named_recipe

    where = "command line"
    changes = options.changes()
    plain = named_recipe(name, {}, where=where)
    meant = set(changes) if plain.precision.quantized else {"builder"}
    if plain.precision is not Precision.INT4:
        meant -= {"bits"}
    return named_recipe(name, {key: changes[key] for key in changes if key in meant}, where=where)


def _shipped_dict(shipped: Shipped) -> dict[str, Any]:
    report = shipped.report
    return {
        "holds": report.choice.holds,
        "outcome": report.choice.outcome,
        "chosen": report.choice.chosen,
        "package": shipped.package.ref if shipped.package else None,
        "folder": str(shipped.package.folder) if shipped.package else None,
        "new": shipped.new,
        "verdict": report.choice.verdict(),
        "gate": shipped.verdict,
        "refused": {gate.label: list(gate.reasons) for gate in report.refused},
        "forced": report.gate is not None and report.gate.forced,
        "reference": report.reference,
        "texts": report.texts,
        "escalation": [asdict(attempt) for attempt in report.escalation],
        "front": list(report.front),
        "candidates": {candidate.label: candidate.measurement.summary() for candidate in report.candidates},
        "report": {
            "html": str(shipped.paths.html),
            "json": str(shipped.paths.json),
            "markdown": str(shipped.paths.markdown),
        },
        "question": shipped.question,
        "answer": shipped.answer,
    }


def _print_shipped(shipped: Shipped, cache_dir: Path | None) -> None:
    from edgeship.measure.report.comparison import agreement, busy, headline, table_rows, ways_on
    from edgeship.package.manifest import parameters_in_words

    report = shipped.report
    table = table_rows(report)
    facts = report.checkpoint
    show(f"\n{report.name}: {facts.get('architecture')}{parameters_in_words(facts)}\n")
    print_table(table.header, table.rows)
    show()
    for reason in report.reasons:
        show(f"  {reason}")
    if said := agreement(report):
        show(f"  agreement is measured with {said}")
    if said := busy(report):
        note(f"note: {said}")
    _print_failures(report)
    _print_gate(report, shipped.paths)
    show(f"\nreport: {shipped.paths.html}")
    if shipped.package is None:
        show(f"nothing was installed: {headline(report)}")
        show(f"try: {'; '.join(ways_on(report))}.")
        return
    ref = shipped.package.ref
    state = "installed" if shipped.new else "installed already, unchanged"
    show(f"shipped: {ref} ({state}) in {shipped.package.folder}")
    if report.gate is not None and report.gate.forced:
        show(f"installed by force: {headline(report)}; it is marked so wherever it is listed")
    elif report.choice.outcome != "holds":
        show(f"undecided: {report.choice.chosen} may fall short after all; --undecided refuse ships only what holds")
    show(f"\n> {shipped.question}\n{shipped.answer}\n")
    elsewhere = ["--cache-dir", str(cache_dir.absolute())] if cache_dir else []
    run = our_command("model", "run", shipped.package.name, *elsewhere)
    serve = our_command("serve", shipped.package.name, *elsewhere)
    show(f'serve:     {serve}\nchat:      {run}\nask once:  {run} "..."')


def _print_gate(report: Report, paths: ReportPaths) -> None:
    """What the release gate made of each candidate that it looked at, a line each; why, stands among the reasons."""
    if report.gates:
        show()
    for gate in report.gates:
        looked = sum(check.outcome != "skipped" for check in gate.checks)
        made = f"{looked} of {len(gate.checks)} checks, {gate.effort} effort, {gate.took_s:.0f} s"
        more = "" if gate.outcome == "pass" else f"; all that it found: {paths.json.with_name(gate.verdict_file)}"
        show(f"release gate, {gate.label.upper()}: {gate.outcome} ({made}){more}")
        for check in gate.checks:
            if check.outcome == "skipped":
                show(f"  {check.check} was not made: {' '.join(check.told) or 'it was not looked at'}")


def _print_failures(report: Report) -> None:
    """The first cases that fail, so that nobody has to open the report to see what goes wrong."""
    from edgeship.measure.report.comparison import failing, fp32_passes

    shown = failing(report)
    if shown is None or shown.measurement.evaluation is None:
        return
    evaluation, passing = shown.measurement.evaluation, fp32_passes(report)
    show(f"\n{shown.label.upper()} fails {evaluation.cases - evaluation.passed} of {evaluation.cases} cases, such as:")
    for failure in evaluation.failures[:SHOWN_FAILURES]:
        beside = "" if passing is None else ", which FP32 passes" if failure.id in passing else ", as FP32 does"
        show(f"  {failure.id}{beside}")
        for name, text in (("asked", failure.question), ("expected", failure.expected), ("answer", failure.answer)):
            show(f"    {name:<8}  {_on_one_line(text)}")


def _on_one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."
