"""The report of a comparison as Markdown: the verdict, the table and the methods."""

from __future__ import annotations

from collections.abc import Iterable

from edgeship.measure.report.comparison import Report, headline, methods, slice_table, table_rows
from edgeship.measure.report.gated import gate_table
from edgeship.measure.report.tables import Table, facts
from edgeship.system.text import harmless


def render_markdown(report: Report) -> str:
    """The verdict, the table and the methods as Markdown."""
    table = table_rows(report)
    lines = [
        f"# {as_text(report.name)}: {as_text(headline(report))}",
        "",
        *(f"- {as_text(reason)}" for reason in report.reasons),
        "",
        row(table.header),
        row("---" for _ in table.header),
        *map(row, table.rows),
        "",
        *_slices(report),
        *_gate(report),
        "## How it was measured",
        "",
        *(f"- **{name}.** {text}" for name, text in methods(report)),
        "",
        f"Machine: {as_text(facts(report.machine))}.",
        "",
        f"Tools: {as_text(facts(report.tools))}. Made {report.created}.",
    ]
    if report.commands:
        lines += [
            "",
            "## Go on",
            "",
            *(f"- {as_text(what)}: `{command}`" for what, command in report.commands),
        ]
    return "\n".join(lines) + "\n"


def _slices(report: Report) -> list[str]:
    slices = slice_table(report)
    return [] if slices is None else _table("Pass rate by slice", slices)


def _gate(report: Report) -> list[str]:
    tables = (_table(f"Release gate, {gate.label.upper()}: {gate.outcome}", gate_table(gate)) for gate in report.gates)
    return [line for table in tables for line in table]


def _table(heading: str, table: Table) -> list[str]:
    return [
        f"## {heading}",
        "",
        row(table.header),
        row("---" for _ in table.header),
        *map(row, table.rows),
        "",
    ]


def row(cells: Iterable[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(as_text(cell) for cell in cells) + " |"


_MARKUP = str.maketrans(
    {"&": "&amp;", "<": "&lt;", "|": "&#124;", "\\": "&#92;", **{each: f"\\{each}" for each in "`*_[]~"}}
)


def as_text(text: str) -> str:
    """Text that Markdown shows as it is: one line, no table border, no link, no HTML, and nothing that turns a line."""
    return " ".join(harmless(text).split()).translate(_MARKUP)
