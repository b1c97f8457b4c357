"""A check: what it is called, what it holds figures to, and how it looks at a subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edgeship.progress import Progress
from edgeship.validate.bounds import Bounds
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import CheckName, Finding


@dataclass(frozen=True)
class Check:
    """title: what a target that passes does, such as "Answers its domain's questions".

    bounds: the dataclass of its bounds. run: finds one thing after another, with bounds of that class. What the target
    does wrong is a finding and no exception; an EdgeshipError that escapes becomes a finding that fails.
    not_for: why a subject cannot be looked at by it; None where it can.
    """

    name: CheckName
    title: str
    bounds: type[Bounds]
    run: Callable[[Subject, Any, Progress], Iterator[Finding]]
    not_for: Callable[[Subject], str | None] = lambda _: None
