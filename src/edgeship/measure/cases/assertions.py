"""What an answer must be like: assertions by the field's names, and what each finds. Pure.

`not-` before a name asks for the opposite. What cannot be told of an answer, such as the tokens of one whose target
counts none, holds neither way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgeship.engine.thinking import answer_of
from edgeship.measure.cases.assertion_kinds import KINDS, NEEDS_TOOLS, CannotBeTold, Unit
from edgeship.measure.cases.assertion_kinds import Around as Around
from edgeship.measure.cases.assertion_kinds import Embed as Embed
from edgeship.measure.cases.assertion_kinds import Reply as Reply
from edgeship.measure.cases.assertion_kinds import wanted_calls as wanted_calls
from edgeship.system.fields import shown
from edgeship.system.text import meant

NOT = "not-"
MOST_WEIGHT = 1e9
"""Of an assertion or a case: sums of larger ones would say nothing of smaller ones, or be no number at all."""
_NOTHING_AROUND = Around()


@dataclass(frozen=True)
class AssertionResult:
    """What one assertion found. score: from 0 to 1. weight: in the score of its case. reason: in words."""

    name: str
    passed: bool
    score: float
    weight: float
    reason: str


class Assertion(BaseModel):
    """One thing that an answer must be like.

    type: its name, perhaps after `not-`. value, threshold, path, unit: what it is held against, see `docs/evaluations`.
    weight: in the score of the case; 0 only reports. metric: what reports call it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(min_length=1)
    value: Any = None
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    path: str | None = None
    unit: Unit | None = None
    weight: float = Field(default=1.0, ge=0, le=MOST_WEIGHT)
    metric: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _can_be_checked(self) -> Assertion:
        kind = KINDS.get(self.base)
        if kind is None:
            raise ValueError(unknown(self.type))
        for name in ("value", "threshold", "path", "unit"):
            if name not in kind.fields and getattr(self, name) is not None:
                raise ValueError(f"{self.type} has no {name}")
        if "value" in kind.fields and kind.value_required and "value" not in self.model_fields_set:
            raise ValueError(f"{self.type} needs a value")
        kind.require(self)
        return self

    @property
    def needs_tools(self) -> bool:
        """Whether it looks into the tools that could be called."""
        return self.base in NEEDS_TOOLS

    @property
    def base(self) -> str:
        """The name without `not-`."""
        return self.type.removeprefix(NOT)

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.metric or self.type

    @property
    def told(self) -> str:
        """The assertion in a few words, for people."""
        value = None if self.value is None and self.base != "json-path" else shown(self.value)
        limit = None if self.threshold is None else f"{self.threshold:g}"
        return " ".join(part for part in (self.type, self.path, value, limit, self.unit) if part)


def check(assertion: Assertion, reply: Reply, around: Around = _NOTHING_AROUND) -> AssertionResult:
    """What an assertion finds in an answer; thoughts before it are left aside. Raises what `around.embed` raises."""
    opposite = assertion.type.startswith(NOT)
    try:
        found = KINDS[assertion.base].look(assertion, reply, answer_of(reply.text), around)
        score, passed = found.score, found.passed
        if opposite:
            score, passed = 1 - score, not passed
        reason = found.reason
    except CannotBeTold as error:
        score, passed, reason = 0.0, False, str(error)
    return AssertionResult(assertion.name, passed, score, assertion.weight, reason)


def unknown(name: str, more: Iterable[str] = ()) -> str:
    """What is said of a name that no assertion has, with the nearest that there is. more: other names to look among."""
    close = meant(name, [*KINDS, *(f"{NOT}{known}" for known in KINDS), *more])
    return f"there is no assertion {shown(name)}" + (f"; did you mean {close}?" if close else "")


def is_known(name: str) -> bool:
    """Whether there is an assertion of that name."""
    return name.removeprefix(NOT) in KINDS
