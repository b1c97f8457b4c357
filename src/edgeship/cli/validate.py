"""`edgeship validate`: the release gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeship import settings
from edgeship.cli.model_run import KeyVariable, ServerModel, key_in
from edgeship.cli.options import CacheDir, Json, Schema, Threads, as_path, grouped
from edgeship.cli.output import print_json, require_places, telling
from edgeship.cli.streams import show
from edgeship.errors import UsageError

if TYPE_CHECKING:
    from edgeship.targets import Target
    from edgeship.validate.subject import Against, Effort
    from edgeship.validate.verdict import CheckName, Verdict

ValidateTarget = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="A package in the cache, or its folder; foundry:NAME; the URL of any server with an API like OpenAI's.",
    ),
]


@dataclass(frozen=True)
class HeldOptions:
    """What the target is asked, and what it is held against."""

    eval_file: Annotated[
        Path | None,
        typer.Option(
            "--eval",
            help="Questions of its domain with their right answers, as `edgeship eval` takes them.",
            show_default=False,
            parser=as_path,
        ),
    ] = None
    schema: Schema = None
    original: Annotated[
        str | None,
        typer.Option(
            "--original",
            metavar="FILE|TARGET",
            help="What the target was made of: it may answer fewer cases right than this only by a margin.",
            show_default=False,
        ),
    ] = None
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="TARGET",
            help="The version in production: the target is measured beside it, in turns.",
            show_default=False,
        ),
    ] = None
    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate", help="A gate file: bounds, and checks that are turned off.", show_default=False, parser=as_path
        ),
    ] = None


@dataclass(frozen=True)
class EffortOptions:
    """How much is looked at."""

    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="CHECK", help="Make this check alone. Can be repeated.", show_default=False),
    ] = None
    quick: Annotated[bool, typer.Option("--quick", help="Look for less than a minute.")] = False
    long: Annotated[bool, typer.Option("--long", help="Look for leaks in 10,000 requests instead of 500.")] = False

    @property
    def effort(self) -> Effort:
        """As a subject takes it. Raises UsageError."""
        if self.quick and self.long:
            raise UsageError("--quick and --long contradict each other", hint="Give one of them.")
        return "quick" if self.quick else "long" if self.long else "default"


@grouped
def validate(
    *,
    target: ValidateTarget,
    held: HeldOptions,
    looked: EffortOptions,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the verdict to this file, as JSON.", show_default=False, parser=as_path),
    ] = None,
    model: ServerModel = None,
    api_key_env: KeyVariable = None,
    cache_dir: CacheDir = None,
    threads: Threads = None,
    as_json: Json = False,
) -> int:
    """Check whether a target is fit for release, and say why."""
    from edgeship import targets
    from edgeship.system import json_file
    from edgeship.validate.checks import CHECKS
    from edgeship.validate.document import verdict_document
    from edgeship.validate.gate import Gate, read_gate
    from edgeship.validate.run import validate as run
    from edgeship.validate.subject import Subject
    from edgeship.validate.verdict import EXIT_CODES

    current = settings.resolve(cache_dir=cache_dir, threads=threads)
    require_places(out)
    effort, only = looked.effort, _known(looked.only)
    gate = read_gate(held.gate, CHECKS) if held.gate else Gate()
    meant = targets.resolve(target, current)
    with telling() as progress:
        against = _against(held, effort, meant, model, key_in(api_key_env))
        with Subject(meant, against) as subject:
            verdict = run(subject, gate, only=only, progress=progress)
    found = verdict_document(verdict, gate.off, current.memory_bytes)
    if out:
        json_file.write_object(out, found)
    if as_json:
        print_json(found)
    else:
        _print(verdict)
    return EXIT_CODES[verdict.outcome]


def _known(only: list[str] | None) -> tuple[CheckName, ...]:
    from edgeship.validate.checks import CHECKS

    known = {check.name: check.name for check in CHECKS}
    for name in only or ():
        if name not in known:
            raise UsageError(f"--only {name!r} is no check", hint=f"There are: {', '.join(known)}.")
    return tuple(name for name in known if name in (only or ()))


def _against(held: HeldOptions, effort: Effort, target: Target, model: str | None, api_key: str | None) -> Against:
    from edgeship import targets
    from edgeship.cli.model_run import AnswerOptions
    from edgeship.measure.cases.evalset import read_evalset
    from edgeship.validate.subject import Against

    original: Target | Path | None = None
    if held.original is not None:
        is_file = Path(held.original).is_file()
        original = Path(held.original) if is_file else targets.resolve(held.original, target.settings)
    return Against(
        cases=read_evalset(held.eval_file) if held.eval_file else (),
        eval_file=held.eval_file,
        constraint=AnswerOptions(schema=held.schema).constraint(),
        original=original,
        baseline=targets.resolve(held.baseline, target.settings) if held.baseline else None,
        effort=effort,
        model=model,
        api_key=api_key,
    )


def _print(verdict: Verdict) -> None:
    for check in verdict.checks:
        show(f"{check.outcome:<10} {check.check:<12} {check.title} ({check.took_s:.1f} s)")
        if check.reason:
            show(f"           {check.reason}")
        for finding in check.findings:
            show(f"           {finding.outcome}: {finding.told}")
    show(f"\n{verdict.outcome}: {verdict.target}, in {verdict.took_s:.0f} s")
