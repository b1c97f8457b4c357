"""`edgeship validate`: the release gate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeship import settings
from edgeship.cli.options import TARGET, CacheDir, Json, Schema, ServerOptions, Threads, as_path, grouped
from edgeship.cli.output import note, print_facts, print_json, require_places, telling
from edgeship.cli.streams import OutputLost, give_up_output
from edgeship.errors import PackageNotFound, ResourceError, UsageError
from edgeship.system.shell import our_command

if TYPE_CHECKING:
    from edgeship.targets import Target
    from edgeship.validate.gate import Gate
    from edgeship.validate.subject import Against, Effort, Subject
    from edgeship.validate.verdict import CheckName, Verdict

SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable in which GitHub names the file of a step's summary."""

WriteGate = Annotated[
    Path | None,
    typer.Option(
        "--write-gate",
        help="Write a gate file with every bound, its default and its meaning, and end.",
        show_default=False,
        parser=as_path,
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
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens",
            min=1,
            help="New tokens of an answer to --eval at most.",
            show_default="twice the longest right answer, and room; more where a server's thoughts take it up",
        ),
    ] = None
    original: Annotated[
        str | None,
        typer.Option(
            "--original",
            metavar="FILE|TARGET",
            help="What the target was made of, as a target that answers (such as its package in FP32) or as a file "
            "that `edgeship eval --out` wrote of it: it may answer fewer cases right than this only by a margin.",
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
            "--gate",
            help="A gate file: bounds and checks that are turned off, with reasons.",
            show_default=False,
            parser=as_path,
        ),
    ] = None


@dataclass(frozen=True)
class EffortOptions:
    """How much is looked at."""

    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="CHECK", help="Make this check alone. Can be repeated.", show_default=False),
    ] = None
    quick: Annotated[
        bool, typer.Option("--quick", help="Look less closely: for the example, less than a minute on two cores.")
    ] = False
    long: Annotated[
        bool, typer.Option("--long", help="Look more closely, for hours: for leaks in 10,000 requests instead of 500.")
    ] = False

    @property
    def effort(self) -> Effort:
        """As a subject takes it. Raises UsageError."""
        if self.quick and self.long:
            raise UsageError("--quick and --long contradict each other", hint="Give one of them.")
        return "quick" if self.quick else "long" if self.long else "default"


@dataclass(frozen=True)
class KeptOptions:
    """Where the verdict is kept, beside what is printed."""

    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the verdict to this file, as JSON.", show_default=False, parser=as_path),
    ] = None
    junit: Annotated[
        Path | None,
        typer.Option("--junit", help="Write it as JUnit XML, for CI systems.", show_default=False, parser=as_path),
    ] = None
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Write it to this file, as Markdown.", show_default=False, parser=as_path),
    ] = None
    github_summary: Annotated[
        bool, typer.Option("--github-summary", help=f"Add it to the summary of a job on GitHub (${SUMMARY}).")
    ] = False

    no_keep: Annotated[
        bool,
        typer.Option("--no-keep", help="Do not keep it beside the package: what is known of that stays as it was."),
    ] = False

    def require_places(self, reads: Iterable[str | Path | None]) -> None:
        """That all of it can be written, and over nothing that is read. Raises UsageError, NotWritable."""
        require_places(self.out, self.junit, self.markdown, self._summary, reads=reads)

    @property
    def _summary(self) -> Path | None:
        if not self.github_summary:
            return None
        place = os.environ.get(SUMMARY)
        if not place:
            raise UsageError(
                f"{SUMMARY} is not set", hint="It is in GitHub's jobs. Elsewhere, name a file: --markdown."
            )
        return as_path(place)

    def keep(self, verdict: Verdict, document: Mapping[str, Any]) -> list[Exception]:
        """Writes all that was asked for; the errors of what could not be written."""
        from edgeship.system.json_file import as_text
        from edgeship.system.storage import write_named
        from edgeship.validate.junit import as_junit
        from edgeship.validate.summary import as_markdown

        makers: list[tuple[Path | None, Callable[[], str]]] = [
            (self.out, lambda: as_text(document)),
            (self.junit, lambda: as_junit(verdict, document["created"])),
            (self.markdown, lambda: as_markdown(verdict)),
        ]
        errors: list[Exception] = []
        for path, made in makers:
            if path:
                try:
                    with _writing(path):
                        write_named(path, made())
                except Exception as error:  # the others are written all the same
                    errors.append(error)
        if summary := self._summary:
            try:
                with _writing(summary), summary.open("a", encoding="utf-8", newline="\n") as file:
                    file.write(as_markdown(verdict))
            except Exception as error:
                errors.append(error)
        return errors


def _writing(path: Path) -> AbstractContextManager[None]:
    from edgeship.system.storage import disk_errors

    return disk_errors(path.absolute().parent, "name a file elsewhere.")


@dataclass(frozen=True)
class ReplayOptions:
    """One request alone, asked again."""

    replay: Annotated[
        str | None,
        typer.Option(
            "--replay",
            metavar="ID",
            help="Ask one request again: evidence of a verdict by its id, or edges/ROW of docs/validate-edges.md.",
            show_default=False,
        ),
    ] = None
    verdict: Annotated[
        Path | None,
        typer.Option(
            "--verdict",
            help="With --replay, the verdict that has the evidence, as --out wrote it.",
            show_default=False,
            parser=as_path,
        ),
    ] = None

    def kept(self) -> Mapping[str, Any] | None:
        """The verdict's document. Raises DocumentInvalid, UsageError."""
        if self.verdict is None:
            return None
        if self.replay is None:
            raise UsageError("--verdict says where evidence lies, and none is named", hint="Name it: --replay ID.")
        from edgeship.measure import document

        return document.read(self.verdict).fields.values


@grouped
def validate(
    *,
    target: Annotated[str | None, TARGET] = None,
    held: HeldOptions,
    looked: EffortOptions,
    kept: KeptOptions,
    again: ReplayOptions,
    write_gate: WriteGate = None,
    server: ServerOptions,
    cache_dir: CacheDir = None,
    threads: Threads = None,
    as_json: Json = False,
) -> int:
    """Check whether a target is fit for release, and say why."""
    from edgeship import targets
    from edgeship.system import interrupts
    from edgeship.validate.checks import CHECKS
    from edgeship.validate.document import verdict_document
    from edgeship.validate.gate import Gate, read_gate
    from edgeship.validate.run import validate as run
    from edgeship.validate.subject import Subject
    from edgeship.validate.verdict import EXIT_INTERRUPTED

    if write_gate is not None:
        return _write_gate(write_gate, target, as_json=as_json)
    if target is None:
        raise UsageError("nothing is named that is to be validated", hint="`edgeship cache ls` lists the packages.")
    current = settings.resolve(cache_dir=cache_dir, threads=threads)
    reads = (held.eval_file, held.schema, held.original, held.baseline, held.gate, again.verdict)
    kept.require_places((target, *reads))
    effort, only, verdict_kept = looked.effort, _known(looked.only), again.kept()
    gate = read_gate(held.gate, CHECKS) if held.gate else Gate()
    meant = targets.resolve(target, current)
    with interrupts.handled() as ctrl_c:
        with telling() as progress:
            against = _against(held, effort, meant, server)
            with Subject(meant, against) as subject:
                if again.replay is not None:
                    return _replay(subject, again.replay, verdict_kept, gate, as_json=as_json)
                _require_reached(subject)
                verdict = run(subject, gate, only=only, progress=progress, checks=CHECKS, interrupts=ctrl_c)
        verdict = replace(verdict, file=str(kept.out) if kept.out else None)
        document = verdict_document(verdict, gate.off, current.memory_bytes, effort=effort, only=only)
        _tell(verdict, document, meant, kept, as_json=as_json)
        return EXIT_INTERRUPTED if ctrl_c.seen else verdict.exit_code


def _tell(verdict: Verdict, document: Mapping[str, Any], target: Target, kept: KeptOptions, *, as_json: bool) -> None:
    """Writes the verdict, keeps it and prints it, each whether or not the other could be done; then raises the first
    error that there was."""
    from edgeship.cli.verdict import print_verdict

    errors = kept.keep(verdict, document)
    if verdict.fault is not None:
        errors.insert(0, verdict.fault)
    if not kept.no_keep:
        try:
            _keep(verdict, document, target)
        except Exception as error:
            errors.append(error)
    try:
        if as_json:
            print_json(document)
        else:
            print_verdict(verdict)
    except OutputLost as lost:  # the exit code is the verdict's, also for who had read enough (`| head`)
        if not lost.had_enough and not errors:
            raise
        give_up_output()
    if verdict.interrupted:
        note("interrupted: this is what was found before")
    for other in errors[1:]:
        note(f"error: {other}")
    if errors:
        raise errors[0]


def _write_gate(path: Path, target: str | None, *, as_json: bool) -> int:
    from edgeship.system.storage import write_named
    from edgeship.validate.checks import CHECKS
    from edgeship.validate.gate import as_toml

    if target is not None:
        raise UsageError("--write-gate writes a file and looks at nothing", hint="Leave the target out.")
    require_places(path)
    if path.exists():
        raise UsageError("that file is there already", where=str(path), hint="Name another, or remove it.")
    with _writing(path):
        write_named(path, as_toml(CHECKS))
    checks = [check.name for check in CHECKS]
    said = f"wrote {path}\nhold a target to it: {our_command('validate', 'TARGET', '--gate', str(path))}"
    return print_facts({"gate": str(path), "checks": checks}, said, as_json=as_json)


def _keep(verdict: Verdict, found: Mapping[str, Any], target: Target) -> None:
    """Beside the package, where it is one in the cache."""
    from edgeship.store import packages

    if verdict.digest is None or verdict.interrupted or verdict.fault or target.kind not in ("package", "folder"):
        return
    if all(check.outcome == "skipped" for check in verdict.checks):
        note("note: nothing was checked, so that nothing is kept beside the package")
        return
    try:
        kept = packages.attest(target.settings.cache_dir, target.package_folder(), verdict.digest, found)
    except ResourceError as error:  # what was found is worth more than its keeping
        note(f"note: the verdict is not kept beside the package: {error.what}")
        return
    if kept is None and target.kind == "package":
        note("note: the verdict is not kept beside the package, which is not installed, or another one by now")
    said = kept.attestation if kept else None
    if kept and said and said.outcome != verdict.outcome:
        why = "" if said.outcome == "pass" else f": {', '.join(said.of(said.outcome))}"
        note(f"note: with what earlier runs said, {kept.ref} counts as {kept.gate}{why}")


def _replay(subject: Subject, name: str, kept: Mapping[str, Any] | None, gate: Gate, *, as_json: bool) -> int:
    from dataclasses import asdict

    from edgeship.cli.verdict import print_replayed
    from edgeship.validate.edges.looking import EdgeBounds
    from edgeship.validate.replay import replay
    from edgeship.validate.verdict import EXIT_CODES, worst

    bounds = gate.bounds.get("edges")
    found = list(replay(subject, name, kept, bounds if isinstance(bounds, EdgeBounds) else None))
    if as_json:
        print_json({"replayed": [asdict(one) for one in found]})
    else:
        print_replayed(found)
    return EXIT_CODES[worst(one.outcome for one in found)]


def _known(only: list[str] | None) -> tuple[CheckName, ...]:
    from edgeship.validate.checks import CHECKS

    known = {check.name: check.name for check in CHECKS}
    for name in only or ():
        if name not in known:
            raise UsageError(f"--only {name!r} is no check", hint=f"There are: {', '.join(known)}.")
    return tuple(name for name in known if name in (only or ()))


def _against(held: HeldOptions, effort: Effort, target: Target, server: ServerOptions) -> Against:
    from edgeship.cli.model_run import AnswerOptions
    from edgeship.engine.grammar import require_usable
    from edgeship.measure.cases.askable import require_judgeable, require_schemas
    from edgeship.measure.cases.evalset import read_evalset
    from edgeship.measure.evaluation.document import read_baseline
    from edgeship.validate.subject import Against

    original: Target | Path | None = None
    if held.original is not None and Path(held.original).is_file():
        original = Path(held.original)
        read_baseline(original)
    elif held.original is not None:
        original = _original(held.original, target)
    cases = read_evalset(held.eval_file) if held.eval_file else ()
    require_judgeable(cases, embeds=False)
    constraint = AnswerOptions(schema=held.schema).constraint()
    if constraint is not None:
        require_usable(constraint)  # all of it: answers are judged by it as well as held to it
    require_schemas(cases, held.eval_file)
    return Against(
        cases=cases,
        eval_file=held.eval_file,
        constraint=constraint,
        max_tokens=held.max_tokens,
        original=original,
        baseline=_beside(held.baseline, target) if held.baseline else None,
        effort=effort,
        model=server.model,
        api_key=server.api_key,
    )


def _original(named: str, target: Target) -> Target:
    """As `_beside`; of a checkpoint, which answers nothing by itself, an error says how it is made to answer."""
    from edgeship.package.kinds import is_checkpoint

    try:
        return _beside(named, target)
    except PackageNotFound as error:
        if not is_checkpoint(Path(named)):
            raise
        made = our_command("build", named, "--precision", "fp32")
        hint = f"Make a package of it that loses nothing, and name that: `{made}`."
        raise PackageNotFound(error.what, where=error.where, hint=hint) from error


def _require_reached(subject: Subject) -> None:
    """That servers are there: an outage before anything was asked, or a wrong address, is no word about a target.

    Raises RemoteFailed, and UsageError where a server's model must be named.
    """
    from edgeship.targets import Target

    against = subject.against
    if isinstance(against.original, Target) and against.original.kind == "url":
        against.original.open().close()
    if against.baseline and against.baseline.kind == "url":
        against.baseline.open(model=against.model, api_key=against.api_key).close()
    if subject.target.kind == "url":
        _ = subject.chat


def _beside(named: str, target: Target) -> Target:
    """Another target. Raises what resolving raises, and PackageNotFound before anything is measured."""
    from edgeship import targets

    found = targets.resolve(named, target.settings)
    if found.kind == "package":
        found.package_folder()
    return found
