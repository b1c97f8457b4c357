"""Speaks its APIs as their schemas say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeship.progress import Progress
from edgeship.validate.bounds import Bounds
from edgeship.validate.check import Check
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Finding


@dataclass(frozen=True)
class ConformanceBounds(Bounds):
    """What the figures are held to."""


def _run(subject: Subject, bounds: ConformanceBounds, progress: Progress) -> Iterator[Finding]:
    yield from ()


CHECK = Check("conformance", "Speaks its APIs as their schemas say", ConformanceBounds, _run)
