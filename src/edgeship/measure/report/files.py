"""The report of a comparison as files: everything as JSON, a table as Markdown, and a page that stands alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgeship.errors import NotWritable
from edgeship.measure.report.comparison import Report
from edgeship.measure.report.markdown import render_markdown
from edgeship.measure.report.page import ship
from edgeship.measure.report.page.rendering import render
from edgeship.system.storage import write_file


@dataclass(frozen=True)
class ReportPaths:
    """Where a report lies."""

    json: Path
    markdown: Path
    html: Path


def write_report(folder: Path, report: Report) -> ReportPaths:
    """Writes report.json, report.md and report.html, each whole or not at all. Raises NotWritable."""
    paths = ReportPaths(folder / "report.json", folder / "report.md", folder / "report.html")
    texts = (
        (paths.json, json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"),
        (paths.markdown, render_markdown(report)),
        (paths.html, render(ship.page(report))),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts:
            write_file(path, text)
    except OSError as error:
        raise NotWritable(f"the report cannot be written: {error.strerror or error}", where=str(folder)) from error
    return paths
