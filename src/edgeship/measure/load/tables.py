"""A bench's document as tables: for a terminal, as Markdown, and as CSV with every figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeship.measure.load.figures import LATENCIES, NEEDED

NOT_TOLD = "-"
STOPPED: Mapping[str, str] = {
    "interrupted": "This is a part: the run was interrupted.",
    "silent": "This is a part: a target said nothing for as long as a request may take, and was asked no more.",
}
"""Why a document is a part, by its `stopped`."""
_COLUMNS = (
    ("TTFT MEAN", "ttft_s", "mean"),
    ("TTFT P50", "ttft_s", "p50"),
    ("TTFT P95", "ttft_s", "p95"),
    ("TPOT MEAN", "tpot_s", "mean"),
    ("ITL P95", "itl_s", "p95"),
    ("E2E P50", "e2e_s", "p50"),
)
_RATES = (("OUT TOK/S", "output_tokens_per_s"), ("IN TOK/S", "input_tokens_per_s"), ("REQ/S", "requests_per_s"))
_PLAIN = ("name", "concurrency", "rate_per_s", "arrivals", "requests", "completed", "errors", "unfinished", "wall_s")


def table(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What people look at first: names of columns, and a row for each level."""
    levels: Sequence[Mapping[str, Any]] = document["levels"]
    good = any(level["goodput"] for level in levels)
    header = ["LOAD", "REQUESTS", "ERRORS", *(name for name, *_ in _COLUMNS), *(name for name, _ in _RATES)]
    return header + (["GOODPUT"] if good else []), [_row(level, good=good) for level in levels]


def _row(level: Mapping[str, Any], *, good: bool) -> list[str]:
    cells = [level["name"], str(level["completed"]), str(level["errors"])]
    cells += [duration(level[figure], part) for _, figure, part in _COLUMNS]
    cells += [NOT_TOLD if level[name] is None else f"{level[name]:.4g}" for _, name in _RATES]
    share = level["goodput"] and level["goodput"]["share"]
    return cells + ([NOT_TOLD if share is None else f"{share:.0%}"] if good else [])


def duration(spread: Mapping[str, Any], part: str) -> str:
    """A latency in ms or s; "needs N" where it takes N requests more."""
    value = spread[part]
    if value is None:
        more = spread["needs"].get(part)
        return f"needs {more}" if more else NOT_TOLD
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"


def notes(document: Mapping[str, Any]) -> Iterator[str]:
    """What must be known beside the table: errors and warnings of each level."""
    for level in document["levels"]:
        for one in level["error_kinds"]:
            yield f"{level['name']}: error: {one['count']} x {one['kind']}: {one['what']}"
        for warning in level["warnings"]:
            yield f"{level['name']}: {warning}"


def part(document: Mapping[str, Any]) -> Sequence[str]:
    """That it is a part, and why; nothing of what was measured in whole."""
    stopped = document["stopped"]
    return [STOPPED[stopped]] if stopped else []


def as_markdown(document: Mapping[str, Any]) -> str:
    """The table with what was measured, on which machine, and what must be known beside it."""
    header, rows = table(document)
    target = document["target"]
    lines = [
        f"# {plain(str(target['name']))}",
        "",
        circumstances(document, document["workload"]),
        "",
        line(header),
        line(["---"] * len(header)),
        *map(line, rows),
    ]
    if target["load_s"] is not None:
        lines += ["", f"loaded in {target['load_s']:.2f} s"]
    told = [*part(document), *notes(document)]
    return "\n".join([*lines, *([""] if told else []), *(f"- {plain(note)}" for note in told), ""])


def circumstances(document: Mapping[str, Any], workload: Mapping[str, Any]) -> str:
    """What was asked, by which version, when, and on which machine."""
    machine = document["machine"]
    what = (
        f"prompts of {workload['prompt_tokens']} tokens"
        if workload["kind"] == "synthetic"
        else f"{workload['kind']} of {workload['prompts']}"
    )
    return (
        f"{what}, answers of {workload['new_tokens']} tokens; edgeship {document['edgeship']}, {document['created']}, "
        f"{machine['cpu']}, {machine['cores_usable']} cores"
    )


def line(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(map(plain, cells))} |"


def plain(cell: str) -> str:
    """A text that is no markup of a table."""
    return " ".join(cell.split()).replace("|", "\\|")


def as_csv(document: Mapping[str, Any]) -> str:
    """A line for each level with every figure, in seconds and tokens a second; empty where one is not told.

    stopped: why this is a part; empty where it is none.
    """
    parts = ("mean", *(f"p{percent}" for percent in NEEDED))
    columns = [*_PLAIN, *(f"{figure[:-2]}_{part}_s" for figure in LATENCIES for part in parts)]
    columns += [name for _, name in _RATES] + ["tps_per_user", "goodput_share", "stopped"]
    stream = io.StringIO()
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(columns)
    for level in document["levels"]:
        lines.writerow(
            [
                *(level[name] for name in _PLAIN),
                *(level[figure][part] for figure in LATENCIES for part in parts),
                *(level[name] for _, name in _RATES),
                level["tps_per_user"],
                level["goodput"] and level["goodput"]["share"],
                document["stopped"],
            ]
        )
    return stream.getvalue()
