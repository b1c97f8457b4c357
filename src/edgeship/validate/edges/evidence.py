"""A request of the catalogue as evidence keeps it, and under which id it is asked again."""

from __future__ import annotations

from edgeship.validate.edges.row import SURFACES, Surface
from edgeship.validate.edges.target import Outcome
from edgeship.validate.verdict import Evidence

PREFIX = "edges/"


def evidence_of(outcome: Outcome) -> Evidence:
    """An outcome that speaks against the target."""
    row, surface = outcome.row, outcome.surface
    request = {"kind": "edge", "row": row.id, "surface": surface, "told": row.told, "sent": outcome.asked}
    return Evidence(f"{PREFIX}{row.id}/{surface}", request, outcome.wrong or "", outcome.expected)


def surface_in(text: str) -> Surface | None:
    """The surface of that name."""
    return next((surface for surface in SURFACES if surface == text), None)
