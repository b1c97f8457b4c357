"""A verdict with something of everything; every text of a target in it is the given one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.engine.api import Conversation, Sampling
from edgeship.progress import Progress
from edgeship.settings import resolve
from edgeship.targets import Target
from edgeship.validate.bounds import Bounds, Held, bound
from edgeship.validate.check import Check
from edgeship.validate.requests import asked
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import CheckName, CheckResult, Evidence, Finding, Outcome, Verdict


def evidence(text: str = "words", number: int = 1) -> Evidence:
    request = asked(Conversation([{"role": "user", "content": text}]), Sampling(max_tokens=4))
    return Evidence(f"domain/{number}", request, got=text, expected=text)


def verdict(text: str = "words", **changes: Any) -> Verdict:
    """One check of each outcome."""
    right = Finding("right", "pass", f"So many are right: {text}.", 0.9, 0.8, "share", (0.85, 0.95), took_s=1.5)
    domain = (
        right,
        Finding(
            "by-slice", "fail", f"Too few: {text}", 0.5, 0.8, "share", evidence=(evidence(text), evidence(text, 2))
        ),
        Finding("beside-the-original", "undecided", text, decided_by=f"{text}: 100 more cases."),
    )
    checks = (
        CheckResult("integrity", "Is whole", (Finding("digests", "pass", "All match."),), 0.5),
        CheckResult("domain", text, domain, 12.0, bounds=(Held("least", 0.8, 0.9),), why=text),
        CheckResult("lengths", "Holds over input lengths", (domain[2],), 2.0, bounds=(Held("growth", 2, 2),)),
        CheckResult("leaks", "Leaks nothing", reason=f"the gate turns it off: {text}"),
    )
    return Verdict(**{"target": text, "kind": "package", "digest": "0123", "checks": checks, "took_s": 15.0, **changes})


def of(*outcomes: Outcome, interrupted: bool = False) -> Verdict:
    """A verdict whose checks have these outcomes."""
    names: Sequence[CheckName] = ("integrity", "domain", "format", "leaks", "lengths", "edges")
    checks = tuple(
        CheckResult(name, name, () if outcome == "skipped" else (Finding("one", outcome, "It is so."),))
        for name, outcome in zip(names, outcomes, strict=False)
    )
    return Verdict("triage", "package", None, checks, 2.0, interrupted)


@dataclass(frozen=True)
class SomeBounds(Bounds):
    """Of every kind."""

    least: float = bound(0.8, "The smallest share of right answers.", most=1)
    growth: float = bound(1e-6, "By how much more a token may take.")
    requests: int = bound(500, "So many are asked.", least=1)
    cores: int = bound(2, "So many are used.", least=1, most=64)


Run = Callable[[Subject, Any, Progress], Iterator[Finding]]


def check(name: CheckName, run: Run | None = None, **more: Any) -> Check:
    """A check that passes, or that does as is said."""

    def passes(subject: Subject, bounds: SomeBounds, progress: Progress) -> Iterator[Finding]:
        progress("asking", 0.5)
        yield Finding("one", "pass", f"{subject.target.name} is held to {bounds.least:g}.", 0.9, bounds.least)

    return Check(name, f"{name.capitalize()} is as it should be", SomeBounds, run or passes, **more)


def subject(name: str = "http://127.0.0.1:1") -> Subject:
    return Subject(Target("url", name, resolve()))
