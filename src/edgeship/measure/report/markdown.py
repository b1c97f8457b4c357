"""The report of a comparison as Markdown: the verdict, the table and the methods."""

from __future__ import annotations

from collections.abc import Iterable

from edgeship.measure.report.comparison import Report, headline, methods, slice_table, table_rows
from edgeship.measure.report.tables import facts


def render_markdown(report: Report) -> str:
    """The verdict, the table and the methods as Markdown."""
    table = table_rows(report)
    lines = [
        f"# {_markdown(report.name)}: {_markdown(headline(report))}",
        "",
        *(f"- {_markdown(reason)}" for reason in report.choice.reasons),
        "",
        _markdown_row(table.header),
        _markdown_row("---" for _ in table.header),
        *(_markdown_row(row) for row in table.rows),
        "",
        *_markdown_slices(report),
        "## How it was measured",
        "",
        *(f"- **{name}.** {text}" for name, text in methods(report)),
        "",
        f"Machine: {_markdown(facts(report.machine))}.",
        "",
        f"Tools: {_markdown(facts(report.tools))}. Made {report.created}.",
    ]
    if report.commands:
        lines += [
            "",
            "## Go on",
            "",
            *(f"- {_markdown(what)}: `{command}`" for what, command in report.commands),
        ]
    return "\n".join(lines) + "\n"


def _markdown_slices(report: Report) -> list[str]:
    slices = slice_table(report)
    if slices is None:
        return []
    return [
        "## Pass rate by slice",
        "",
        _markdown_row(slices.header),
        _markdown_row("---" for _ in slices.header),
        *(_markdown_row(row) for row in slices.rows),
        "",
    ]


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_markdown(cell) for cell in cells) + " |"


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is: one line, no table border, no HTML."""
    single = " ".join(text.split())
    return single.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "\\`")
