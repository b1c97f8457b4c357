"""What every kind of document has to tell: where and when it was measured, and by which versions."""

from __future__ import annotations

from collections.abc import Sequence

from edgeship.measure.document import Document
from edgeship.measure.report.page.blocks import MOST_ROWS, Facts, Rows
from edgeship.measure.report.tables import Table, facts
from edgeship.system.fields import Fields


def subtitle(document: Document) -> str:
    """When it was measured, and by which version."""
    version = document.fields.text("edgeship")
    return f"Measured {document.created or 'at an unknown time'}{f' by Edgeship {version}' if version else ''}"


def where(document: Document, *more: tuple[str, Fields]) -> Facts | None:
    """The machine and other plain facts."""
    pairs = [(name, facts(part.values)) for name, part in (*more, ("Machine", document.fields.part("machine")))]
    if tools := facts(document.fields.part("tools").values):
        pairs.append(("Versions", tools))
    elif version := document.fields.text("edgeship"):
        pairs.append(("Versions", f"edgeship {version}"))
    known = tuple((name, text) for name, text in pairs if text)
    return Facts(known) if known else None


def rows(caption: str, header: tuple[str, ...], found: Sequence[tuple[str, ...]]) -> Rows | None:
    """A table of these rows without the columns that are empty throughout; None where there is no row."""
    if not found:
        return None
    kept = [column for column in range(len(header)) if column == 0 or any(row[column] for row in found)]
    table = Table(
        tuple(header[column] for column in kept),
        tuple(tuple(row[column] or "–" for column in kept) for row in found[:MOST_ROWS]),
    )
    return Rows(caption, table)
