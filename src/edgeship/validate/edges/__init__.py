"""Malformed, hostile and odd requests as a catalogue, and what must come of each."""

from __future__ import annotations

from edgeship.validate.check import Check
from edgeship.validate.edges.looking import EdgeBounds, look

CHECK = Check("edges", "Survives edge cases and invalid input", EdgeBounds, look)
