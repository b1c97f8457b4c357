"""All checks, in the order in which they are made: what needs no answer first, and what may end processes last."""

from __future__ import annotations

from edgeship.validate import (
    conformance,
    determinism,
    domain,
    edges,
    integrity,
    leaks,
    lengths,
    performance,
    recovery,
)
from edgeship.validate.check import Check
from edgeship.validate.output_format import answers as output_format

CHECKS: tuple[Check, ...] = (
    integrity.CHECK,
    domain.CHECK,
    output_format.CHECK,
    lengths.CHECK,
    determinism.CHECK,
    edges.CHECK,
    conformance.CHECK,
    leaks.CHECK,
    performance.CHECK,
    recovery.CHECK,
)
