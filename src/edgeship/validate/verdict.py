"""What the gate answers: of each thing that was looked at, of each check, and of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from edgeship.validate.bounds import Held

Outcome = Literal["pass", "fail", "undecided", "skipped"]
"""skipped: it was held to no bound, most often since it was not looked at, and a reason says why; it does not keep a
verdict from being "pass"."""
CheckName = Literal[
    "integrity",
    "domain",
    "format",
    "leaks",
    "lengths",
    "edges",
    "determinism",
    "performance",
    "recovery",
    "conformance",
]
EXIT_CODES: Mapping[Outcome, int] = {"pass": 0, "fail": 1, "undecided": 8, "skipped": 8}
"""Where nothing was looked at, nothing is decided."""
EXIT_INTERRUPTED = 130
NOT_ASKED_FOR = "only others were asked for"
"""Why a check was skipped that a reader does not miss: --only left it out."""


@dataclass(frozen=True)
class Evidence:
    """One request whose answer speaks against the target.

    id: names it for `edgeship validate TARGET --replay ID`: the check, a slash, and what tells it from the others.
    request: what was asked, as `requests.asked` writes it. got, expected: in words; answers are quoted in part.
    """

    id: str
    request: Mapping[str, Any]
    got: str
    expected: str


@dataclass(frozen=True)
class Finding:
    """One thing that a check looked at.

    name: tells it from the check's other findings, in words with hyphens. told: a whole sentence with its figure and
    bound. figure, bound: the number and what it was held to, where it is one. is_least: whether the figure has to be at
    least its bound, and not at most. interval: where chance has a part in it; the truth lies above its lower end, and
    below its upper one, each with a confidence of at least 95 %. decided_by: of an undecided one, what would decide.
    noted: it is told whatever it came to, since somebody asked for the comparison, or since it was measured and no
    bound holds it, which is its outcome "skipped".
    took_s: since the finding before it; the run fills it in.
    """

    name: str
    outcome: Outcome
    told: str
    figure: float | None = None
    bound: float | None = None
    unit: str = ""
    interval: tuple[float, float] | None = None
    decided_by: str | None = None
    evidence: tuple[Evidence, ...] = ()
    took_s: float = 0.0
    is_least: bool = False
    noted: bool = False

    def with_evidence(self, evidence: Iterable[Evidence]) -> Finding:
        """The finding with the requests that speak against the target; one that passes keeps none."""
        return self if self.outcome == "pass" else replace(self, evidence=tuple(evidence))


@dataclass(frozen=True)
class CheckResult:
    """What came of a check.

    reason: why it was skipped. bounds: all that were in force. why: of those that are not the defaults, in the words
    of the gate file.
    """

    check: CheckName
    title: str
    findings: tuple[Finding, ...] = ()
    took_s: float = 0.0
    reason: str | None = None
    bounds: tuple[Held, ...] = ()
    why: str | None = None

    @property
    def outcome(self) -> Outcome:
        """The worst of its findings."""
        return worst(finding.outcome for finding in self.findings)


@dataclass(frozen=True)
class Verdict:
    """What the gate answers. digest: of the package's manifest; None for what is no package.

    interrupted: by Ctrl-C, so that checks are missing.
    fault: of our own, which ended a check and is to be raised once the verdict is told.
    file: where it is kept as JSON, if anywhere.
    """

    target: str
    kind: str
    digest: str | None
    checks: tuple[CheckResult, ...]
    took_s: float
    interrupted: bool = False
    fault: Exception | None = field(default=None, compare=False, repr=False)
    file: str | None = None

    @property
    def wanted(self) -> tuple[CheckResult, ...]:
        """Those of its checks that were asked for."""
        return tuple(check for check in self.checks if check.reason != NOT_ASKED_FOR)

    @property
    def outcome(self) -> Outcome:
        """Fail where a check fails, else undecided where one is or nothing was looked at, else pass."""
        found = worst(check.outcome for check in self.checks)
        return "undecided" if found == "skipped" or (found == "pass" and self.interrupted) else found

    @property
    def exit_code(self) -> int:
        """What a shell is told."""
        return EXIT_INTERRUPTED if self.interrupted else EXIT_CODES[self.outcome]

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Everything that can be asked again."""
        return tuple(each for check in self.checks for finding in check.findings for each in finding.evidence)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The one that decides where all must pass; "skipped" of none."""
    order: Sequence[Outcome] = ("skipped", "pass", "undecided", "fail")
    return max(outcomes, key=order.index, default="skipped")


def as_dict(check: CheckResult) -> dict[str, Any]:
    """A check's result as `--json` prints it."""
    return {"outcome": check.outcome} | asdict(check)
