"""Every row, in the order in which they are asked."""

from __future__ import annotations

from edgeship.validate.edges.bodies import BODIES, CLIENTS, CONSTRAINTS, WIRE
from edgeship.validate.edges.fields import FIELDS, ROLES, SETTINGS
from edgeship.validate.edges.row import Row
from edgeship.validate.edges.texts import CONTROLS, LENGTHS, TEXTS

ROWS: tuple[Row, ...] = (
    *(*TEXTS, *LENGTHS, *CONTROLS, *ROLES, *FIELDS, *SETTINGS),
    *(*CONSTRAINTS, *BODIES, *WIRE, *CLIENTS),
)


def row_of(name: str) -> Row | None:
    """The row of that id; None where there is none."""
    return next((row for row in ROWS if row.id == name), None)
