"""A verdict as Markdown: for GitHub's summary of a job, and for whoever reads Markdown."""

from __future__ import annotations

import html
from collections.abc import Iterator

from edgeship.measure.report.markdown import as_text, row
from edgeship.system.text import harmless
from edgeship.validate import told
from edgeship.validate.verdict import Finding, Outcome, Verdict

MOST_BYTES = 500_000
"""GitHub refuses a summary of more than 1 MiB, and with it what other steps wrote."""
MOST_CHARACTERS = 1000
_SAID: tuple[Outcome, ...] = ("fail", "undecided")
_MARKS = {"pass": "✅", "fail": "❌", "undecided": "❔", "skipped": "⏭️"}


def as_markdown(verdict: Verdict) -> str:
    """The verdict, the table, the findings that do not pass, and their evidence as far as there is room for it."""
    shown = told.table(verdict)
    lines = [
        f"## {_MARKS[verdict.outcome]} {as_text(told.headline(verdict))}",
        "",
        row(shown.header),
        row("---" for _ in shown.header),
        *map(row, shown.rows),
        "",
        *(f"- {as_text(note)}" for note in told.notes(verdict)),
    ]
    size, left = sum(len(line.encode()) + 1 for line in lines), 0
    for outcome in _SAID:
        for check, finding in told.to_tell(verdict, outcome):
            part = "\n".join(_finding(verdict, f"{check.check}/{finding.name}", finding))
            if size + len(part.encode()) > MOST_BYTES:
                left += 1
                continue
            lines.append(part)
            size += len(part.encode()) + 1
    if left:
        lines += ["", f"{left:,} more findings are in the JSON document."]
    return "\n".join([*lines, ""])


def _finding(verdict: Verdict, name: str, finding: Finding) -> Iterator[str]:
    yield from ("", f"**{finding.outcome}: {as_text(name)}** {as_text(told.sentence(finding))}")
    yield from _evidence(verdict, finding)


def _evidence(verdict: Verdict, finding: Finding) -> Iterator[str]:
    """Folded. What a model answered stands in `pre`, where nothing is markup but HTML, which is escaped."""
    if not finding.evidence:
        return
    shown = finding.evidence[: told.MOST_SHOWN]
    yield from (
        "",
        f"<details><summary>{len(shown):,} of {len(finding.evidence):,} kept requests that show it</summary>",
        "",
    )
    for one in shown:
        facts = "\n".join(f"{name:<10}{_cut(text)}" for name, text in told.facts(verdict, one))
        yield from (f"<pre>{html.escape(harmless(facts), quote=False)}</pre>", "")
    yield "</details>"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."
