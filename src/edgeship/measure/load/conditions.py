"""Conditions on two targets that were compared, such as 'ttft_p50 > 1.1x', and whether they are shown to hold. Pure."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from edgeship.errors import UsageError
from edgeship.measure.load.turns import FIGURES, Compared, Figure, Unit
from edgeship.measure.statistics.intervals import Interval

_TEXT = re.compile(
    r"\s*(?P<figure>[A-Za-z0-9_.-]+)\s*(?P<sign>[<>]=?)\s*(?P<number>[0-9]+(\.[0-9]+)?)\s*(?P<unit>[A-Za-z%/]*)\s*"
)
RATIO = "x"
_UNITS: Mapping[Unit, Mapping[str, float]] = {
    "s": {"us": 1e-6, "ms": 1e-3, "s": 1.0},
    "/s": {"/s": 1.0},
    "bytes": {"MB": 1e6, "GB": 1e9},
    "J": {"mJ": 1e-3, "J": 1.0},
    "share": {"%": 0.01},
}
_FORM = (
    "Write FIGURE, one of > >= < <=, and a number with its unit: 'ttft_p50 > 1.1x' (B over A) or 'e2e_p90 > 2s' (of B)."
)
_MOST_TURNS = 1000
_ONCE = "it lies beyond the bound for the first time, and has to do so once more, with more turns"

Verdict = Literal["holds", "fails", "undecided"]
"""Of a condition: it is shown to hold, shown not to hold, or neither."""
Outcome = Literal["pass", "fail", "undecided"]
"""Of all conditions under which B is to fail."""


@dataclass(frozen=True)
class Condition:
    """A figure of B, or its ratio to A's, on one side of a bound. text: as it was written."""

    text: str
    figure: Figure
    sign: Literal[">", ">=", "<", "<="]
    bound: float
    of_ratio: bool

    def judge(self, load: str, found: Compared, turns: int) -> Judged:
        """What this load shows of it."""
        value, where = (found.ratio, found.ratio_interval) if self.of_ratio else (found.b, found.b_interval)
        if value is None or where is None:
            return Judged(self, load, value, None, "undecided", found.why or "there is no interval for it")
        verdict = self._verdict(where)
        return Judged(
            self, load, value, where, verdict, self._decides(where, turns) if verdict == "undecided" else None
        )

    def _verdict(self, where: Interval) -> Verdict:
        inside, outside = (where.low, where.high) if self.sign[0] == ">" else (-where.high, -where.low)
        bound = self.bound if self.sign[0] == ">" else -self.bound
        if inside > bound or (inside == bound and "=" in self.sign):
            return "holds"
        if outside < bound or (outside == bound and "=" not in self.sign):
            return "fails"
        return "undecided"

    def _decides(self, where: Interval, turns: int) -> str:
        """Intervals become narrower by the root of the turns."""
        middle, half = (where.low + where.high) / 2, (where.high - where.low) / 2
        away = abs(middle - self.bound)
        needed = math.ceil(round(turns * (half / away) ** 2, 6)) if away else math.inf
        if needed > _MOST_TURNS:
            return f"its interval contains the bound, and {_MOST_TURNS} turns would not decide it"
        return f"its interval contains the bound; about {max(needed, turns + 1)} turns would decide it"


@dataclass(frozen=True)
class Judged:
    """A condition at one load. value: what was found, and where it lies; why: what keeps it from being decided."""

    condition: Condition
    load: str
    value: float | None
    interval: Interval | None
    verdict: Verdict
    why: str | None = None

    @property
    def key(self) -> tuple[Condition, str]:
        """What tells it from others of the same look."""
        return self.condition, self.load

    def to_dict(self) -> dict[str, Any]:
        """As documents have it."""
        return {
            "condition": self.condition.text,
            "load": self.load,
            "figure": self.condition.figure.name,
            "of": "ratio" if self.condition.of_ratio else "b",
            "bound": self.condition.bound,
            "value": self.value,
            "interval": None if self.interval is None else [self.interval.low, self.interval.high],
            "verdict": self.verdict,
            "why": self.why,
        }


def read(text: str) -> Condition:
    """The condition that a text states. Raises UsageError, which names what is wrong with it."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise UsageError(f"--fail-if is {text!r}, which is no condition", hint=_FORM)
    figure = FIGURES.get(match["figure"])
    if figure is None:
        close = difflib.get_close_matches(match["figure"].casefold(), FIGURES, n=1)
        nearest = f"Did you mean {close[0]}? " if close else ""
        raise UsageError(
            f"--fail-if {text!r}: no figure is called {match['figure']}",
            hint=f"{nearest}Figures: {', '.join(_families())}.",
        )
    units = _UNITS[figure.unit]
    if match["unit"] != RATIO and match["unit"] not in units:
        stated = f"{match['unit']} is no unit of {figure.name}" if match["unit"] else "the number has no unit"
        raise UsageError(
            f"--fail-if {text!r}: {stated}",
            hint=f"Write {match['number']}x for the ratio of B to A, or one of {', '.join(units)} for B alone.",
        )
    of_ratio = match["unit"] == RATIO
    bound = float(match["number"]) * (1.0 if of_ratio else units[match["unit"]])
    if of_ratio and bound == 0:
        raise UsageError(f"--fail-if {text!r}: no ratio is below 0", hint=_FORM)
    sign: Any = match["sign"]
    return Condition(" ".join(text.split()), figure, sign, bound, of_ratio)


def settled(judged: Sequence[Judged], before: Sequence[Judged]) -> bool:
    """Whether more turns are of no use: each condition is shown not to hold, or to hold, and did so `before` as well.

    What is looked at again and again until something shows, shows by chance more often than a single look would.
    A figure that has no interval by now is one that the target does not tell: it gets none by more turns.
    """
    held = _that_hold(before)
    return all(
        one.interval is None or one.verdict == "fails" or (one.verdict == "holds" and one.key in held) for one in judged
    )


def confirmed(judged: Sequence[Judged], before: Sequence[Judged]) -> tuple[Judged, ...]:
    """The last of several looks, in which what holds for the first time is undecided."""
    held = _that_hold(before)
    return tuple(
        replace(one, verdict="undecided", why=_ONCE) if one.verdict == "holds" and one.key not in held else one
        for one in judged
    )


def _that_hold(judged: Sequence[Judged]) -> set[tuple[Condition, str]]:
    return {one.key for one in judged if one.verdict == "holds"}


def outcome(judged: Sequence[Judged]) -> Outcome | None:
    """Of all conditions at all loads: one that holds fails B; None without conditions."""
    verdicts = {one.verdict for one in judged}
    if not verdicts:
        return None
    return "fail" if "holds" in verdicts else "undecided" if "undecided" in verdicts else "pass"


def _families() -> list[str]:
    """The figures, those of one latency as one."""
    parts = sorted({name.rpartition("_")[2] for name, figure in FIGURES.items() if _is_latency(figure)}, key=_order)
    latencies = dict.fromkeys(name.rpartition("_")[0] for name, figure in FIGURES.items() if _is_latency(figure))
    several = [f"{name}_{'|'.join(parts)}" for name in latencies]
    return several + [name for name, figure in FIGURES.items() if not _is_latency(figure)]


def _is_latency(figure: Figure) -> bool:
    return figure.unit == "s" and not figure.name.endswith("_per_token")


def _order(part: str) -> tuple[bool, str]:
    return part != "mean", part
