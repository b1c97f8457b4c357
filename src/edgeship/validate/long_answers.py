"""How to ask for answers that go on for long, so that they can be cut: not every target takes each way."""

from __future__ import annotations

from dataclasses import replace

from edgeship.engine.api import Constraint, Sampling

LONG_TEXT = Constraint(
    "json_schema",
    '{"type": "object", "properties": {"text": {"type": "string", "minLength": 4000}}, "required": ["text"], '
    '"additionalProperties": false}',
)
"""What is held to it goes on for 4,000 characters."""

ENOUGH_S, ENOUGH_STEPS = 4.0, 40
"""An answer that goes on for so long and for so many steps is long enough: where it ends need not be known."""


def ways(sampling: Sampling) -> tuple[Sampling, Sampling, Sampling]:
    """The surest way first. The last one every target takes, and it may end early all the same."""
    return replace(sampling, ignore_eos=True), replace(sampling, constraint=LONG_TEXT), sampling
