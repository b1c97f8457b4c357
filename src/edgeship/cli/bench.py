"""`edgeship bench`: how fast a target answers under load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgeship import settings
from edgeship.cli.options import TARGET, CacheDir, Context, Json, ServerOptions, Threads, as_path, grouped
from edgeship.cli.output import note, print_json, print_pairs, print_table, require_places, telling
from edgeship.cli.streams import show
from edgeship.errors import UsageError

if TYPE_CHECKING:
    from edgeship.measure.load.bench import Plan
    from edgeship.measure.load.driver import Load
    from edgeship.measure.load.figures import Slo
    from edgeship.measure.load.records import Levels

OUTCOMES = {"pass": 0, None: 0, "fail": 1, "undecided": 8}
"""The exit code of each; None where nothing is to be decided."""
_MOST_CLIENTS, _MOST_TOKENS, _SMALLEST_RATE, _LARGEST_RATE = 4096, 10**7, 1e-3, 1e6
_SLO_NAMES = ("ttft", "first_text", "tpot", "e2e")
REQUESTS = 64
"""Where neither --requests nor --duration says how many: the fewest that carry a 90th percentile."""


@dataclass(frozen=True)
class AskedOptions:
    """What is asked."""

    prompt_tokens: Annotated[
        int,
        typer.Option("--prompt-tokens", min=1, max=_MOST_TOKENS, help="Tokens of each made-up prompt, exactly."),
    ] = 128
    new_tokens: Annotated[
        int, typer.Option("--new-tokens", min=1, max=_MOST_TOKENS, help="Tokens of each answer, at most.")
    ] = 64
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            help="Ask the questions of this file instead: JSON Lines, in the shapes of --eval.",
            show_default=False,
            parser=as_path,
        ),
    ] = None
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Ask the file's conversations turn by turn, each with the answers so far."),
    ] = False
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="The same seed asks the same prompts at the same times.",
            show_default="0; for a URL another one each time, since a server may remember prompts",
        ),
    ] = None


@dataclass(frozen=True)
class LoadOptions:
    """How it is asked."""

    concurrency: Annotated[
        str | None,
        typer.Option(
            "--concurrency",
            metavar="N[,N...]",
            help="Clients that each ask again once they are answered; a level for each number.",
            show_default="1",
        ),
    ] = None
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            metavar="R[,R...]",
            help="Requests a second, whether or not others are answered; latency counts from when each was due.",
            show_default=False,
        ),
    ] = None
    arrivals: Annotated[
        Literal["poisson", "fixed"], typer.Option("--arrivals", help="Whether the times of --rate are drawn, or even.")
    ] = "poisson"
    sweep: Annotated[
        bool, typer.Option("--sweep", help="1, 2, 4 ... clients, until more of them gain less than a tenth.")
    ] = False
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests",
            min=1,
            help="Requests at each level, in each turn with --compare.",
            show_default=f"{REQUESTS}, or as --duration allows; 6 in a turn",
        ),
    ] = None
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            metavar="DURATION",
            help="Send no request later than this after a level's start, e.g. 30s.",
            show_default="no limit",
        ),
    ] = None
    timeout: Annotated[
        str,
        typer.Option(
            "--timeout",
            metavar="DURATION",
            help="A request that takes longer is an error. Where nothing comes any more, the run ends.",
        ),
    ] = "5m"
    repeat: Annotated[
        int | None,
        typer.Option(
            "--repeat",
            min=1,
            max=1000,
            help="Measure each level so often; 5 give intervals of rates.",
            show_default="1; 12 turns of each target with --compare",
        ),
    ] = None
    warm_up: Annotated[
        int | None,
        typer.Option(
            "--warm-up",
            min=0,
            help="Requests with short answers before each level, which are not counted.",
            show_default="as many as run at the same time",
        ),
    ] = None
    slo: Annotated[
        str | None,
        typer.Option(
            "--slo",
            metavar="NAME=DURATION,...",
            help=f"Count requests that keep these limits, e.g. ttft=500ms,tpot=50ms; names: {', '.join(_SLO_NAMES)}.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class EngineOptions:
    """What a package may take."""

    slots: Annotated[
        int | None,
        typer.Option(
            "--slots",
            min=1,
            help="For a package: answers that are made side by side.",
            show_default="what `tune` found, or 4",
        ),
    ] = None
    context: Context = None
    threads: Threads = None


@dataclass(frozen=True)
class CompareOptions:
    """Two targets beside each other."""

    compare: Annotated[
        bool,
        typer.Option("--compare", help="Ask two targets in turns, A B A B, and tell the ratio of each figure, B/A."),
    ] = False
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="CONDITION",
            help="With --compare: exit with 1 where this is shown to hold, and with 8 where that is undecided; e.g. "
            "'ttft_p50 > 1.1x' (B/A), 'e2e_p90 > 2s' (B). Repeatable.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class KeptOptions:
    """What is kept of it."""

    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write all of it to this file, as --json prints it.", show_default=False, parser=as_path
        ),
    ] = None
    records: Annotated[
        Path | None,
        typer.Option(
            "--records",
            help="Write what was seen of each request to this file, as JSON Lines.",
            show_default=False,
            parser=as_path,
        ),
    ] = None
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Write the table to this file.", show_default=False, parser=as_path),
    ] = None
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Write every figure to this file.", show_default=False, parser=as_path),
    ] = None


@grouped
def bench(
    *,
    target: Annotated[list[str], TARGET],
    compare: CompareOptions,
    asked: AskedOptions,
    load: LoadOptions,
    engine: EngineOptions,
    kept: KeptOptions,
    server: ServerOptions,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Measure how fast a target answers: latencies, tokens a second, and what cannot be believed of them."""
    from edgeship import targets
    from edgeship.engine.api import Limits
    from edgeship.measure.load import bench as measuring
    from edgeship.measure.load import conditions, pair, pair_tables, tables
    from edgeship.measure.load.subject import Access

    fail_if = [conditions.read(text) for text in compare.fail_if or ()]
    _require_count(target, compare, load)
    plan = _plan(asked, load, compared=compare.compare)
    here = settings.resolve(cache_dir=cache_dir, threads=engine.threads)
    first, *others = [targets.resolve(text, here) for text in target]
    access = Access(Limits(engine.slots, engine.context), server.model, server.api_key)
    require_places(kept.out, kept.records, kept.markdown, kept.csv, reads=(*target, asked.prompts))
    with telling() as progress:
        if others:
            both = pair.compare((first, others[0]), plan, access, fail_if, progress=progress)
            document, kept_records = both.document, both.records
        else:
            single = measuring.bench(first, plan, access, progress=progress)
            document, kept_records = single.document, single.records
    _keep(kept, document, kept_records, pair_tables if others else tables)
    if as_json:
        print_json(document)
    elif others:
        _print_pair(document)
    else:
        _print(document)
    return _ended(document, [document["a"], document["b"]] if others else [document])


def _require_count(named: list[str], compare: CompareOptions, load: LoadOptions) -> None:
    """Raises UsageError where there are not as many targets as are to be measured, and for what excludes each other."""
    if compare.compare:
        if len(named) != 2:
            raise UsageError(f"--compare takes two targets, and {len(named)} are named", hint="Name A and B.")
        if load.sweep:
            raise UsageError("--sweep and --compare exclude each other", hint="Name loads with --concurrency.")
    elif len(named) != 1:
        raise UsageError(f"{len(named)} targets are named, and one is measured", hint="--compare takes two.")
    elif compare.fail_if:
        raise UsageError("--fail-if needs two targets", hint="Write `edgeship bench --compare A B --fail-if ...`.")


def _plan(asked: AskedOptions, load: LoadOptions, *, compared: bool = False) -> Plan:
    """What the options mean. Raises UsageError."""
    from edgeship.measure.load import pair
    from edgeship.measure.load.bench import Plan
    from edgeship.measure.load.driver import Bounds
    from edgeship.measure.load.subject import Asked

    if asked.replay and asked.prompts is None:
        raise UsageError("--replay needs conversations", hint="Give them with --prompts FILE.")
    given = {"--concurrency": load.concurrency, "--rate": load.rate, "--sweep": load.sweep or None}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} exclude each other", hint="Give one of them.")
    duration_s = _seconds(load.duration, "--duration")
    timeout_s = _seconds(load.timeout, "--timeout")
    assert timeout_s is not None
    loads = _loads(load)
    fewest = max(pair.TURN_REQUESTS, *(one.concurrency or 1 for one in loads)) if compared else REQUESTS
    requests = load.requests or (fewest if duration_s is None else None)
    return Plan(
        asked=Asked(**vars(asked)),
        bounds=Bounds(requests, duration_s, timeout_s),
        loads=loads,
        sweep=load.sweep,
        repeats=load.repeat or (pair.TURNS if compared else 1),
        warm_up=load.warm_up,
        slo=_slo(load.slo),
    )


def _loads(options: LoadOptions) -> tuple[Load, ...]:
    from edgeship.measure.load.driver import Load

    if options.rate is not None:
        rule = f"numbers from {_SMALLEST_RATE:g} to {_LARGEST_RATE:,.0f}, like 0.5,2"
        rates = _numbers(options.rate, "--rate", float, (_SMALLEST_RATE, _LARGEST_RATE), rule)
        return tuple(Load(rate_per_s=rate, arrivals=options.arrivals) for rate in rates)
    rule = f"whole numbers from 1 to {_MOST_CLIENTS}, like 1,8"
    given = "1" if options.concurrency is None else options.concurrency
    clients = _numbers(given, "--concurrency", int, (1, _MOST_CLIENTS), rule)
    return tuple(Load(count) for count in clients)


def _numbers(text: str, option: str, kind: Any, bounds: tuple[float, float], rule: str) -> list[Any]:
    """The numbers of a list, each within the bounds and there once. Raises UsageError."""
    least, most = bounds
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(least <= number <= most for number in found) or len(set(found)) < len(found):
        raise UsageError(f"{option} is {text!r}; it must be {rule}, each once", hint="Give it such a value.")
    return found


def _seconds(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    found = settings.parse_seconds(text, option)
    if found == 0:
        raise UsageError(f"{option} is 0, and nothing could be measured", hint="Give it some time, e.g. 30s.")
    return found


def _slo(text: str | None) -> Slo | None:
    from edgeship.measure.load.figures import Slo

    if text is None:
        return None
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (one.strip() for one in part.partition("="))
        if not equals or name not in _SLO_NAMES or name in limits:
            raise UsageError(
                f"--slo is {text!r}; {part!r} is no limit",
                hint=f"Write ttft=500ms,tpot=50ms. Names: {', '.join(_SLO_NAMES)}.",
            )
        limits[name] = settings.parse_seconds(value, f"--slo {name}")
    return Slo(limits)


def _keep(kept: KeptOptions, document: dict[str, Any], seen: Levels, tables: Any) -> None:
    """tables: the module that writes such a document as Markdown and CSV."""
    from edgeship.measure.load import records
    from edgeship.system.json_file import as_text
    from edgeship.system.storage import write_named

    if kept.out is not None:
        write_named(kept.out, as_text(document))
    if kept.records is not None:
        records.write(kept.records, seen, document["stopped"])
    if kept.markdown is not None:
        write_named(kept.markdown, tables.as_markdown(document))
    if kept.csv is not None:
        write_named(kept.csv, tables.as_csv(document))


def _print(document: dict[str, Any]) -> None:
    from edgeship.measure.load import tables

    print_table(*tables.table(document))
    target, knee = document["target"], document["knee"]
    facts: list[tuple[str, str]] = []
    if target["load_s"] is not None:
        facts.append(("loaded in", f"{target['load_s']:.2f} s"))
        for name, first in (target["first_request"] or {}).items():
            if first["ttft_s"] is not None:
                facts.append((f"first request, {name}", f"TTFT {first['ttft_s']:.3f} s, E2E {first['e2e_s']:.3f} s"))
    if knee:
        beyond = "more clients gain less than a tenth" if knee["reached"] else "not reached with the most clients tried"
        facts.append(("knee", f"concurrency {knee['concurrency']}: {beyond}"))
    if facts:
        print_pairs(facts)
    for one in tables.notes(document):
        note(one)


def _print_pair(document: dict[str, Any]) -> None:
    from edgeship.measure.load import pair_tables

    print_table(*pair_tables.table(document))
    if document["conditions"]:
        print_table(*pair_tables.verdicts(document))
    for one in pair_tables.notes(document):
        note(one)
    print_pairs([(side.upper(), str(document[side]["target"]["name"])) for side in "ab"])
    if document["outcome"]:
        show(f"outcome: {document['outcome']}")


def _ended(document: dict[str, Any], sides: list[dict[str, Any]]) -> int:
    """Says why it is a part, or that a target answered nothing; returns the exit code."""
    from edgeship.cli.failure import EXIT_INTERRUPTED
    from edgeship.errors import RemoteFailed
    from edgeship.measure.load.tables import part

    for said in part(document):
        note(said)
    stopped = document["stopped"]
    if stopped == "interrupted":
        return EXIT_INTERRUPTED
    for one in sides:
        if not any(level["completed"] for level in one["levels"]):
            kinds = [kind for level in one["levels"] for kind in level["error_kinds"]]
            why = f": {kinds[0]['what']}" if kinds else ""
            note(f"no request was answered{why}")
            return RemoteFailed.exit_code
    return RemoteFailed.exit_code if stopped else OUTCOMES[document.get("outcome")]
