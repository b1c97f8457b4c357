"""The page of documents of any kinds: each kind a part, and several of a kind beside each other over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from edgeship.errors import DocumentInvalid
from edgeship.measure.document import SHIP, Document
from edgeship.measure.report.comparison import Report
from edgeship.measure.report.page import bench, bench_pair, change, evaluation, fidelity, of_document, ship, verdict
from edgeship.measure.report.page.blocks import Page, Part, Pictures, Rows, Section, Sentences, section, sections
from edgeship.measure.report.page.change import Figure
from edgeship.measure.report.tables import fact
from edgeship.system.fields import in_words


@dataclass(frozen=True)
class _Kind:
    """How documents of one kind are told."""

    title: str
    part: Callable[[Document], Part]
    figures: Callable[[Document], list[Figure]]


def page(documents: Sequence[Document]) -> Page:
    """The page of these documents, at least one."""
    parts = []
    for kind, how in _KINDS.items():
        found = sorted((one for one in documents if one.kind == kind), key=lambda one: one.created)
        for series in _series(found, how):
            newest = how.part(series[-1])
            if len(series) > 1:
                parts.append(_over_time(series, how))
                newest = replace(newest, subtitle=f"The newest. {newest.subtitle}")
            parts.append(newest)
    return Page(parts[0].title if len(parts) == 1 else f"{len(documents)} measurements", tuple(parts))


def _series(found: Sequence[Document], how: _Kind) -> list[list[Document]]:
    """Runs that have figures in common, together: others cannot be held beside each other."""
    series: list[tuple[set[str], list[Document]]] = []
    for one in found:
        names = {figure.name for figure in how.figures(one)}
        for known, runs in series:
            if names & known:
                known |= names
                runs.append(one)
                break
        else:
            series.append((names, [one]))
    return [runs for _, runs in series]


def _over_time(found: Sequence[Document], how: _Kind) -> Part:
    names = _names(found)
    table = change.beside(names, [how.figures(one) for one in found])
    return Part(
        f"{how.title} over time",
        f"From {found[0].created or 'the first'} to {found[-1].created or 'the last'}",
        sections(
            section(
                "Side by side",
                _difference(found, names),
                Rows("Figures of each run, with what became of them", table) if table else None,
                Sentences(_METHOD) if table else None,
            ),
            _drawn(found, names),
            evaluation.from_first_to_last(found[0], found[-1]) if found[0].kind == "eval" else None,
        ),
    )


_METHOD = (
    "In brackets are 95 % intervals. That of a change is made of both figures' own, and is left out where one has "
    "none; it takes the runs for independent of each other. A share changes by points, all else by a part of itself.",
)


def _difference(found: Sequence[Document], names: Sequence[str]) -> Rows | None:
    """What else differs from run to run, and may be why figures do; None where nothing does."""
    stated: list[dict[str, str]] = []
    for one in found:
        parts = {part: one.fields.part(part).values for part in ("target", "workload", "machine", "checkpoint")}
        plain = {
            f"{part}: {key.replace('_', ' ')}": fact(value)
            for part, values in parts.items()
            for key, value in values.items()
            if isinstance(value, str | int | float) and key not in _ALWAYS_ANOTHER
        }
        stated.append(plain | {"edgeship": one.fields.text("edgeship") or ""})
    rows = []
    for key in dict.fromkeys(key for plain in stated for key in plain):
        values = [plain.get(key, "") for plain in stated]
        if len(set(values)) > 1:
            rows.append((key, *values))
    return of_document.rows("What else differs from run to run", ("what else differs", *names), rows)


_ALWAYS_ANOTHER = {"memory_available_bytes", "load_s", "rss_after_load_bytes"}


def _drawn(found: Sequence[Document], names: Sequence[str]) -> Section | None:
    if found[0].kind != "bench":
        return None
    drawn: Pictures | None = bench.over_runs(list(zip(names, found, strict=True)))
    return section("In one picture", drawn)


def _names(found: Sequence[Document]) -> list[str]:
    """The documents' names, made different from each other."""
    names = [one.name for one in found]
    if len(set(names)) == len(names):
        return names
    return [f"{one.name}, {one.created or place}" for place, one in enumerate(found, 1)]


def _report(document: Document) -> Report:
    """A report of `ship` that was read. Raises DocumentInvalid."""
    try:
        return TypeAdapter(Report).validate_python(document.fields.values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"])
        raise DocumentInvalid(
            f"{document.path.name} is a report of ship that this version cannot read: {field}: {in_words(first)}",
            where=str(document.path),
            hint="Read it with the version that wrote it, or ship again.",
        ) from error


def _ship_part(document: Document) -> Part:
    return ship.part(_report(document))


def _ship_figures(document: Document) -> list[Figure]:
    return ship.figures(_report(document))


_KINDS = {
    SHIP: _Kind("What ships", _ship_part, _ship_figures),
    "fidelity": _Kind("Fidelity", fidelity.part, fidelity.figures),
    "eval": _Kind("Evaluation", evaluation.part, evaluation.figures),
    "bench": _Kind("Load", bench.part, bench.figures),
    "verdict": _Kind("Release gate", verdict.part, verdict.figures),
    "bench-pair": _Kind("Two targets", bench_pair.part, bench_pair.figures),
}
