"""The document of two targets that were asked in turns, as tables: for a terminal, as Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from edgeship.measure.load import tables
from edgeship.measure.load.tables import NOT_TOLD, line, plain

_SHOWN = {
    *("ttft_mean", "ttft_p50", "ttft_p95", "tpot_mean", "itl_p95", "e2e_p50"),
    *("output_tokens_per_s", "requests_per_s", "rss_peak", "cpu_s_per_token", "joules_per_token"),
}
_VERDICTS = {"holds": "holds: B fails", "fails": "does not hold", "undecided": "undecided"}
Table = tuple[list[str], list[list[str]]]


def table(document: Mapping[str, Any]) -> Table:
    """What people look at first: a row for each load and figure, with the figures that conditions name."""
    named = {one["figure"] for one in document["conditions"]}
    rows = []
    for load in document["loads"]:
        for name, one in load["figures"].items():
            known = one["a"] is not None or one["b"] is not None
            if name in named or (name in _SHOWN and known):
                values = [_value(one[side], one["unit"]) for side in "ab"]
                rows.append([load["name"], name, *values, _times(one["ratio"]), _within(one)])
    return ["LOAD", "FIGURE", "A", "B", "B/A", "95 % INTERVAL"], rows


def verdicts(document: Mapping[str, Any]) -> Table:
    """A row for each condition at each load."""
    rows = []
    for one in document["conditions"]:
        unit = document["loads"][0]["figures"][one["figure"]]["unit"]
        values = [one["value"], *(one["interval"] or (None, None))]
        found, low, high = (_times(value) if one["of"] == "ratio" else _value(value, unit) for value in values)
        where = NOT_TOLD if one["interval"] is None else f"{low} to {high}"
        rows.append([one["condition"], one["load"], found, where, _VERDICTS[one["verdict"]]])
    return ["FAIL IF", "LOAD", "FOUND", "95 % INTERVAL", "VERDICT"], rows


def notes(document: Mapping[str, Any]) -> Iterator[str]:
    """What must be known beside the tables."""
    yield from document["warnings"]
    for one in document["conditions"]:
        if one["verdict"] == "undecided":
            yield f"{one['load']}: {one['condition']} is undecided: {one['why']}"
    for side in "ab":
        yield from (f"{side.upper()}, {note}" for note in tables.notes(document[side]))


def as_markdown(document: Mapping[str, Any]) -> str:
    """The tables with what was measured, on which machine, and what must be known beside it."""
    names = [document[side]["target"]["name"] for side in "ab"]
    lines = [f"# A: {plain(str(names[0]))}, B: {plain(str(names[1]))}", ""]
    lines += [f"{document['turns']} turns each; {tables.circumstances(document, document['a']['workload'])}"]
    for header, rows in (table(document), verdicts(document)):
        if rows:
            lines += ["", line(header), line(["---"] * len(header)), *map(line, rows)]
    told = [*tables.part(document), *notes(document)]
    return "\n".join([*lines, *([""] if told else []), *(f"- {plain(note)}" for note in told), ""])


def as_csv(document: Mapping[str, Any]) -> str:
    """A line for each load and figure, in the figure's unit; empty where something is not told.

    stopped: why this is a part; empty where it is none.
    """
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(["load", "figure", "unit", "a", "b", "ratio", "ratio_low", "ratio_high", "why", "stopped"])
    for load in document["loads"]:
        for name, one in load["figures"].items():
            ends = one["ratio_interval"] or (None, None)
            found = (one[key] for key in ("unit", "a", "b", "ratio"))
            lines.writerow([load["name"], name, *found, *ends, one["why"], document["stopped"]])
    return stream.getvalue()


def _within(one: Mapping[str, Any]) -> str:
    ends = one["ratio_interval"]
    return f"{_times(ends[0])} to {_times(ends[1])}" if ends else one["why"] or NOT_TOLD


def _times(ratio: float | None) -> str:
    return NOT_TOLD if ratio is None else f"{ratio:.3f}x"


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return NOT_TOLD
    match unit:
        case "s":
            return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.2f} s"
        case "bytes":
            return f"{value / 1e6:,.0f} MB"
        case "share":
            return f"{value:.1%}"
        case _:
            return f"{value:.4g} {unit}" if unit == "J" else f"{value:.4g}{unit}"
