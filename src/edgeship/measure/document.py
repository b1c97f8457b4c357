"""The head of every measurement that is kept as JSON: its kind, by which version, when, and on which machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from edgeship.package.manifest import now
from edgeship.system.machine import this_machine
from edgeship.version import __version__

Kind = Literal["bench", "bench-pair", "eval", "fidelity"]
VERSION = 1
"""Of all kinds; a document of a later one may hold what this version cannot read."""


def schema(kind: Kind) -> str:
    """What a document of this kind says of itself under "schema"."""
    return f"edgeship/{kind}/{VERSION}"


def head(kind: Kind, memory_limit_bytes: int | None = None) -> dict[str, Any]:
    """The first fields of a document: schema, edgeship (the version), created (UTC), machine."""
    return {
        "schema": schema(kind),
        "edgeship": __version__,
        "created": now(),
        "machine": asdict(this_machine(memory_limit_bytes)),
    }
