"""`edgeship eval`: how often a target answers the cases of a file right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgeship import settings
from edgeship.cli.options import (
    TARGET,
    CacheDir,
    Json,
    Schema,
    ServerOptions,
    TemplateVariables,
    Threads,
    as_path,
    grouped,
    read_variables,
)
from edgeship.cli.output import note, print_json, print_table, require_places, telling
from edgeship.cli.streams import show
from edgeship.errors import UsageError

if TYPE_CHECKING:
    from edgeship.cli.eval_tables import Failing
    from edgeship.measure.cases.assertions import Embed
    from edgeship.measure.cases.evalset import EvalCase
    from edgeship.measure.evaluation.target import EvalOptions, WayResult
    from edgeship.targets import Target

EXIT_BELOW, EXIT_ERRORS, EXIT_UNDECIDED, EXIT_INTERRUPTED = 1, 5, 8, 130
"""Too few answers are right; some did not come; too few cases tell whether enough are; Ctrl-C."""
SHOWN_FAILURES = 5
SHOWN_MAX_DROP = "0.02, as the release gate has it"
_SHOWN_CHARACTERS = 160
_ROUNDING = 1e-9
_MOST_REPEATS, _MOST_AT_A_TIME = 1000, 1024

EvalFile = Annotated[
    Path,
    typer.Option(
        "--eval",
        help="Questions with their right answers, or with assertions: JSON Lines, or promptfoo's YAML.",
        parser=as_path,
    ),
]


@dataclass(frozen=True)
class CaseOptions:
    """Which cases are asked."""

    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", help="Ask only the cases of this slice. Can be repeated.", show_default=False),
    ] = None
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Ask only the cases with this tag. Can be repeated.", show_default=False),
    ] = None
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Ask only N of them, taken evenly.", show_default=False)
    ] = None

    def of(self, cases: Sequence[EvalCase]) -> tuple[EvalCase, ...]:
        """Those of the cases that are meant. Raises UsageError where that is none, or a slice or tag is not there."""
        from edgeship.measure.cases.evalset import take_evenly

        slices = _known("--slice", self.slices, {case.slice for case in cases})
        tags = _known("--tag", self.tags, {tag for case in cases for tag in case.tags})
        meant = [case for case in cases if not slices or case.slice in slices]
        meant = [case for case in meant if not tags or tags.intersection(case.tags)]
        if not meant:
            raise UsageError("no case is of such a slice and has such a tag", hint="Leave --slice or --tag out.")
        return take_evenly(meant, self.limit)


@dataclass(frozen=True)
class AskingOptions:
    """How they are asked."""

    ways: Annotated[
        Literal["both", "shipped", "greedy"],
        typer.Option(
            "--as", help="With the target's own settings, as its users are answered; by the likeliest token; or both."
        ),
    ] = "both"
    repeat: Annotated[
        int,
        typer.Option(
            "--repeat", min=1, max=_MOST_REPEATS, help="Ask each case so often, where answers differ from time to time."
        ),
    ] = 1
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            max=2**63 - 1,
            help="The same seed gives the same answers.",
            show_default="0; none for servers",
        ),
    ] = None
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            min=1,
            max=_MOST_AT_A_TIME,
            help="Cases asked at a time.",
            show_default="16, as memory allows; 4 for servers",
        ),
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", min=1, help="New tokens at most.", show_default="twice the longest right answer, and room"
        ),
    ] = None
    schema: Schema = None
    template_var: TemplateVariables = None
    timeout: Annotated[
        str,
        typer.Option(
            "--timeout",
            metavar="DURATION",
            help="An answer that takes longer is an error. Where nothing comes any more, no more is asked.",
        ),
    ] = "10m"
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            metavar="DURATION",
            help="End after this time, and keep what was answered.",
            show_default="no limit",
        ),
    ] = None

    similar_by: Annotated[
        str | None,
        typer.Option(
            "--similar-by",
            metavar="URL",
            help="For cases that assert `similar`: a server with an embedding model.",
            show_default=False,
        ),
    ] = None
    similar_model: Annotated[
        str | None, typer.Option("--similar-model", help="Which of its models.", show_default="its only one")
    ] = None

    def compared_by(self, cases: Sequence[EvalCase]) -> AbstractContextManager[Embed | None]:
        """What `similar` compares by. Raises UsageError where cases need it and it is not given."""
        from edgeship.measure.cases.similar import Embeddings

        if self.similar_by is not None:
            return Embeddings(self.similar_by, self.similar_model)
        needing = next((case for case in cases if any(each.base == "similar" for each in case.assertions)), None)
        if needing:
            what = f"case {needing.id!r} asserts what its answer is similar to, and nothing says by which model"
            raise UsageError(what, hint="Give --similar-by URL: a server with an embedding model.")
        return nullcontext()

    def read(self) -> EvalOptions:
        """The same as `evaluate_target` takes it. Raises UsageError, ConstraintInvalid."""
        from edgeship.cli.model_run import AnswerOptions
        from edgeship.measure.evaluation.target import WAYS, EvalOptions

        timeout_s = _seconds(self.timeout, "--timeout")
        assert timeout_s
        return EvalOptions(
            ways=WAYS if self.ways == "both" else (self.ways,),
            repeat=self.repeat,
            seed=self.seed,
            concurrency=self.concurrency,
            max_tokens=self.max_tokens,
            constraint=AnswerOptions(schema=self.schema).constraint(),
            variables=read_variables(self.template_var),
            timeout_s=timeout_s,
            duration_s=_seconds(self.duration, "--duration"),
        )


@dataclass(frozen=True)
class JudgedOptions:
    """What it is held against, and where it is kept."""

    min_pass_rate: Annotated[
        float | None,
        typer.Option(
            "--min-pass-rate", min=0, max=1, help="Exit code 1 where fewer answers are right.", show_default=False
        ),
    ] = None
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="FILE|TARGET",
            help="Compare case by case with what --out kept, or with another target that is asked the same.",
            show_default=False,
        ),
    ] = None
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            min=0,
            max=1,
            help="With --baseline: so much less of the cases may be right. Exit code 1 where surely less is, 8 where "
            "too few cases tell.",
            show_default=SHOWN_MAX_DROP,
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the whole result to this file, as JSON.", show_default=False, parser=as_path),
    ] = None

    def margin(self) -> float:
        """By how much the share of right answers may fall. Raises UsageError where nothing is there to fall from."""
        from edgeship.measure.choice.choose import Thresholds

        if self.max_drop is None:
            return Thresholds().max_drop
        if self.baseline is None:
            raise UsageError("--max-drop is given, and nothing to fall from", hint="Name it with --baseline.")
        return self.max_drop


@grouped
def evaluate(
    *,
    target: Annotated[str, TARGET],
    eval_file: EvalFile,
    which: CaseOptions,
    asking: AskingOptions,
    judged: JudgedOptions,
    server: ServerOptions,
    cache_dir: CacheDir = None,
    threads: Threads = None,
    as_json: Json = False,
) -> int:
    """Ask a target the cases of a file, and count the answers that are right."""
    from edgeship import targets
    from edgeship.measure.cases.evalset import read_evalset
    from edgeship.measure.evaluation.document import beside, eval_document, read_baseline
    from edgeship.system.json_file import as_text
    from edgeship.system.storage import write_named

    options, max_drop = asking.read(), judged.margin()
    require_places(judged.out, reads=(target, eval_file, judged.baseline, asking.schema))
    current = settings.resolve(cache_dir=cache_dir, threads=threads)
    meant, key = targets.resolve(target, current), server.api_key
    kept = other = None
    if judged.baseline is not None:
        kept = read_baseline(Path(judged.baseline)) if Path(judged.baseline).is_file() else None
        other = None if kept else targets.resolve(judged.baseline, current)
    with telling() as progress:
        cases = which.of(read_evalset(eval_file, progress))

    with asking.compared_by(cases) as embed:

        def asked(one: Target, server_model: str | None = None, api_key: str | None = None) -> dict[str, Any]:
            facts, found = _ask(one, server_model, api_key, cases, replace(options, embed=embed))
            return eval_document(facts, eval_file, cases, options, found, current.memory_bytes)

        found = asked(meant, server.model, key)
        try:  # the answers took longer than it takes to name another baseline
            if other and not _is_interrupted(found):
                kept = asked(other)  # without the key, which is another server's
            if kept:
                found["baseline"] = beside(found, kept, max_drop)
        finally:
            if judged.out:
                write_named(judged.out, as_text(found))
    if as_json:
        print_json(found)
    else:
        _print(found)
        if judged.out:
            show(f"\nresult: {judged.out}")
    if other and kept and _is_interrupted(kept):
        return EXIT_INTERRUPTED
    return _exit_code(found, judged.min_pass_rate)


def _ask(
    target: Target, model: str | None, key: str | None, cases: Sequence[EvalCase], options: EvalOptions
) -> tuple[dict[str, Any], tuple[WayResult, ...]]:
    """What is to be said of the target, and what came of the cases."""
    from edgeship.engine.api import DEFAULT_LIMITS, Limits
    from edgeship.measure.evaluation.evaluate import slots_for
    from edgeship.measure.evaluation.target import evaluate_target

    limits = Limits(slots=options.concurrency) if options.concurrency and target.kind != "url" else DEFAULT_LIMITS
    with (
        telling() as progress,
        target.open(limits=limits, model=model, api_key=key, slots=slots_for(cases), strict=True) as chat,
    ):
        if chat.note:
            note(f"note: {chat.note}")
        facts = {
            "kind": target.kind,
            "name": target.name,
            "model": getattr(chat, "model", None),
            "engine": chat.name,
            "context_tokens": chat.context_tokens,
        }
        return facts, evaluate_target(chat, cases, options, progress)


def _print(found: Mapping[str, Any]) -> None:
    from edgeship.cli import eval_tables

    target = found["target"]
    named = f" ({target['model']})" if target["model"] else ""
    show(f"\n{target['name']}{named}: {len(found['cases']):,} cases of {found['file']}\n")
    print_table(*eval_tables.figures(found))
    for table in eval_tables.groups(found):
        print_table(*table)
    for line in (*eval_tables.changes(found), *eval_tables.errors(found)):
        show(f"  {line}")
    for remark in eval_tables.remarks(found):
        note(f"note: {remark}")
    _print_failing(eval_tables.failing(found, SHOWN_FAILURES))


def _print_failing(failing: Sequence[Failing]) -> None:
    if not failing:
        return
    show("\nwrong answers, such as:")
    for case in failing:
        show(f"  {case.told}")
        shown = {"asked": case.question, "expected": case.expected, "answer": case.answer, "because": case.reason}
        for name, text in shown.items():
            if text:
                show(f"    {name:<8}  {_on_one_line(text)}")


def _on_one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}..."


def _exit_code(found: Mapping[str, Any], least: float | None) -> int:
    """What scripts see: whether all answers came, then whether enough of them are right, then whether that is known."""
    if _is_interrupted(found):
        return EXIT_INTERRUPTED
    if any(way["errors"] for way in found["ways"].values()):
        return EXIT_ERRORS
    first = next(iter(found["ways"].values()))
    outcome = (found["baseline"] or {}).get("outcome")
    if outcome == "fails" or (least is not None and first["pass_rate"] < least - _ROUNDING):
        return EXIT_BELOW
    return EXIT_UNDECIDED if outcome == "undecided" else 0


def _is_interrupted(found: Mapping[str, Any]) -> bool:
    from edgeship.measure.evaluation.target import INTERRUPTED

    return any(way["stopped"] == INTERRUPTED for way in found["ways"].values())


def _known(option: str, given: Sequence[str] | None, there: set[str]) -> set[str]:
    """Those that were given, each of which is there."""
    strangers = [name for name in given or () if name not in there]
    if strangers:
        listed = ", ".join(sorted(there)) or "none"
        raise UsageError(f"{option} {strangers[0]!r} is in no case", hint=f"There are: {listed}.")
    return set(given or ())


def _seconds(text: str | None, option: str) -> float | None:
    from edgeship.system.duration import seconds_in

    if text is None:
        return None
    try:
        seconds = seconds_in(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}", hint="Write 30s or 5m.") from error
    if seconds <= 0:
        raise UsageError(f"{option} {text} is no time to wait", hint="Write 30s or 5m.")
    return seconds
