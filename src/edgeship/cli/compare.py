"""`edgeship compare`: how closely precisions follow a checkpoint, or targets the first of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeship import settings
from edgeship.cli.options import (
    CacheDir,
    CheckpointOptions,
    ForceResources,
    Json,
    Memory,
    RecipeOptions,
    ServerOptions,
    Threads,
    as_path,
    grouped,
)
from edgeship.cli.output import note, print_json, print_table, require_places, telling
from edgeship.cli.ship import Candidates, Reference, candidates_of
from edgeship.cli.streams import show
from edgeship.errors import UsageError

if TYPE_CHECKING:
    from edgeship.comparing import Compared, Comparison
    from edgeship.measure.agreement.fidelity import Fidelity, Likelihood
    from edgeship.measure.agreement.worst_tokens import Wanted, WorstToken

SHOWN_WORST = 3
SHOWN_CHARACTERS = 100
_NONE = "-"

ComparedArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CHECKPOINT|TARGET...",
        help="One checkpoint, whose precisions are compared with it; or targets, which are compared with the first.",
    ),
]
Texts = Annotated[
    Path | None,
    typer.Option(
        "--texts",
        help="What to compare over: JSON Lines as --eval takes them, or plain text.",
        show_default="the reference's own answers to built-in questions",
        parser=as_path,
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Texts at the most, taken evenly.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Write all of it to this file, as --json prints it.", show_default=False, parser=as_path
    ),
]


@grouped
def compare(
    *,
    compared: ComparedArgument,
    texts: Texts = None,
    limit: Limit = 48,
    precision: Candidates = None,
    changes: RecipeOptions,
    reference: Reference = "auto",
    reading: CheckpointOptions,
    server: ServerOptions,
    force_resources: ForceResources = False,
    cache_dir: CacheDir = None,
    threads: Threads = None,
    memory: Memory = None,
    out: Out = None,
    as_json: Json = False,
) -> int:
    """Measure how closely each precision of a checkpoint, or each target, follows the original."""
    from edgeship import comparing, targets
    from edgeship.system.json_file import as_text
    from edgeship.system.storage import write_named

    require_places(out, reads=(*compared, texts))
    current = settings.resolve(cache_dir=cache_dir, threads=threads, memory=memory)
    if len(compared) == 1:
        _require_unset("which is for servers", {"--model": server.model, "--api-key-env": server.api_key_env})
        recipes = candidates_of(precision, changes)
        opened = reading.open(compared[0])
        with telling() as progress:
            found = comparing.compare_checkpoint(
                opened,
                settings=current,
                recipes=recipes,
                reference=reference,
                texts_file=texts,
                limit=limit,
                force_resources=force_resources,
                progress=progress,
            )
    else:
        of_checkpoint = {
            "--precision": precision,
            "--reference": reference != "auto",
            "--force-resources": force_resources,
        }
        changed = {"--" + name.replace("_", "-"): value for name, value in {**vars(changes), **vars(reading)}.items()}
        _require_unset("which is for checkpoints, beside several targets", of_checkpoint | changed)
        named = [targets.resolve(text, current) for text in compared]
        with telling() as progress:
            found = comparing.compare_targets(
                named,
                settings=current,
                texts_file=texts,
                limit=limit,
                model=server.model,
                api_key=server.api_key,
                progress=progress,
            )
    document = found.to_dict()
    if out is not None:
        write_named(out, as_text(document))
    if as_json:
        print_json(document)
    else:
        _print(found)
    return 0


def _require_unset(what: str, options: Mapping[str, object]) -> None:
    if given := next((name for name, value in options.items() if value), None):
        raise UsageError(f"{given} is given, {what}", hint="Leave it out, or name one checkpoint alone.")


def _print(found: Comparison) -> None:
    measured = [(one, one.measurement) for one in found.candidates if one.measurement is not None]
    of = "" if found.name == found.reference else f"{found.name} "
    show(f"\n{of}beside {found.reference}\n")
    print_table(
        ["", "SIZE MB", "MEMORY MB", "LOAD S", "PREFILL TOK/S", "DECODE TOK/S"],
        [
            [
                one.label,
                f"{by.size_bytes / 1e6:,.1f}",
                f"{by.peak_memory_bytes / 1e6:,.0f}",
                f"{by.load_s:.2f}",
                f"{by.speed.prefill_tokens_per_s.median:,.0f}",
                f"{by.speed.decode_tokens_per_s.median:,.1f}",
            ]
            for one, by in measured
        ],
    )
    klds = [(one, by.fidelity) for one, by in measured if by.fidelity is not None]
    if klds:
        header = ["KLD, NATS", "MEAN", "ERROR", "MEDIAN", "90 %", "95 %", "99 %", "99.9 %", "MAX"]
        print_table(header, [_kld_row(one.label, fidelity) for one, fidelity in klds])
    print_table(
        ["", "TOP-1 %", "ERROR", "TOP-5 %", "PERPLEXITY RATIO", "ERROR", "RIGHT TOKEN, MEAN %", "RMS %"],
        [_agreement_row(one) for one in found.candidates if _likelihood(one) is not None],
    )
    some = next((likelihood for one in found.candidates if (likelihood := _likelihood(one)) is not None), None)
    if some is None:
        note("note: no text fits into the context, so there is no fidelity to tell")
        return
    show(f"  over {some.positions:,} tokens of {_texts(found.texts_used)}: {found.texts}")
    show("  errors are standard errors over texts; right token: how much likelier the candidate finds it")
    if skipped := found.texts_skipped:
        were = "was" if skipped == 1 else "were"
        note(f"note: {_texts(skipped)} {were} left out: longer than the context, or more than is kept of them")
    for one in found.candidates:
        if one.likelihood is not None:
            from edgeship.comparing import NO_KLD

            note(f"note: {one.label} has no KLD: {NO_KLD}")
    if klds:
        _print_worst(found)


def _kld_row(label: str, found: Fidelity) -> list[str]:
    values = [
        *(found.mean_kld_nats, found.mean_kld_error_nats, found.median_kld_nats, found.p90_kld_nats),
        *(found.p95_kld_nats, found.p99_kld_nats, found.p999_kld_nats, found.max_kld_nats),
    ]
    return [label, *(_figures(value) for value in values)]


def _agreement_row(one: Compared) -> list[str]:
    found = _likelihood(one)
    assert found is not None
    errors = found.errors or {}
    top5 = getattr(found, "top5_agreement", None)
    return [
        one.label,
        _percent(found.top1_agreement),
        _percent(errors.get("top1_agreement")),
        _percent(top5),
        f"{found.perplexity_ratio:.4f}",
        _figures(errors.get("perplexity_ratio")),
        _NONE if found.mean_probability_change is None else f"{found.mean_probability_change * 100:+z.2f}",
        _percent(found.rms_probability_change),
    ]


def _likelihood(one: Compared) -> Fidelity | Likelihood | None:
    return one.measurement.fidelity if one.measurement is not None else one.likelihood


def _figures(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.1e}" if 0 < value < 0.00005 else f"{value:.4f}"


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count:,} texts"


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{value * 100:.2f}"


def _print_worst(found: Comparison) -> None:
    """Where the candidate that strays most strays furthest, so that nobody has to read JSON to see what goes wrong."""
    furthest, worst = max(
        ((one.label, one.measurement.worst_tokens) for one in found.candidates if one.measurement is not None),
        key=lambda pair: pair[1][0].kld_nats if pair[1] else -1.0,
    )
    show(f"\n{furthest} strays furthest at:")
    for token in worst[:SHOWN_WORST]:
        _print_worst_token(token)


def _print_worst_token(worst: WorstToken) -> None:
    before = " ".join(worst.before.split())
    shown = before if len(before) <= SHOWN_CHARACTERS else f"...{before[-SHOWN_CHARACTERS:]}"
    show(f"  {worst.kld_nats:.3f} nats, text {worst.text_number + 1}, after: {shown}")
    show(f"    reference  {_wanted(worst.reference)}")
    show(f"    candidate  {_wanted(worst.candidate)}")


def _wanted(found: tuple[Wanted, ...]) -> str:
    return ", ".join(f"{one.text!r} {one.probability * 100:.1f} %" for one in found)
