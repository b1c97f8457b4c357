"""Figures of two targets that were asked in turns: each one's, their ratio, and how sure that is. Pure.

What a turn shows depends on what the machine did meanwhile, so the turns of both that lie beside each other are drawn
together: requests of one turn are no independent witnesses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from edgeship.measure.load import figures
from edgeship.measure.load.doubts import judge, output_tokens
from edgeship.measure.load.driver import Driven
from edgeship.measure.load.figures import LATENCIES, NEEDED
from edgeship.measure.load.levels import Level
from edgeship.measure.load.records import Record
from edgeship.measure.statistics.bootstrap import Statistic, interval
from edgeship.measure.statistics.intervals import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    Work = Callable[[NDArray[np.intp]], Values]
    """A figure of some turns, by their numbers along the last axis."""

LEAST_TURNS = 5
Unit = Literal["s", "/s", "bytes", "J", "share"]


@dataclass(frozen=True)
class Figure:
    """What can be compared. unit: of its values."""

    name: str
    unit: Unit


def _known() -> Iterator[Figure]:
    for latency in LATENCIES:
        for part in ("mean", *(f"p{percent}" for percent in NEEDED)):
            yield Figure(f"{latency.removesuffix('_s')}_{part}", "s")
    yield from (Figure(name, "/s") for name in ("output_tokens_per_s", "input_tokens_per_s", "requests_per_s"))
    yield from (Figure("rss_peak", "bytes"), Figure("cpu_s_per_token", "s"), Figure("joules_per_token", "J"))
    yield Figure("errors", "share")


FIGURES = {figure.name: figure for figure in _known()}
"""Those of latencies are called like ttft_p50. errors: the part of the requests that failed."""


@dataclass(frozen=True)
class Compared:
    """A figure of both targets, in the figure's unit; None where it is not told, and then `why` says so.

    ratio: b over a. ratio_interval, b_interval: where these lie with 95 % confidence; None where that cannot be said.
    """

    figure: Figure
    a: float | None
    b: float | None
    ratio: float | None = None
    ratio_interval: Interval | None = None
    b_interval: Interval | None = None
    why: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As documents have it."""
        return {
            "unit": self.figure.unit,
            "a": self.a,
            "b": self.b,
            "ratio": self.ratio,
            "ratio_interval": _ends(self.ratio_interval),
            "b_interval": _ends(self.b_interval),
            "why": self.why,
        }


def _ends(found: Interval | None) -> list[float] | None:
    return None if found is None else [found.low, found.high]


def compared(
    a: Level, b: Level, names: Collection[str] = FIGURES.keys(), *, intervals: bool = True
) -> dict[str, Compared]:
    """Figures of two levels with as many repeats, which were measured in turns; by default every one.

    intervals: whether it is worked out where they lie, which takes nearly all of the time.
    """
    sides = (_Side(a), _Side(b))
    return {name: _compared(FIGURES[name], *sides, intervals=intervals) for name in names}


def _compared(figure: Figure, a: _Side, b: _Side, *, intervals: bool) -> Compared:
    for name, side in (("A", a), ("B", b)):
        if why := side.why_not(figure.name):
            return Compared(figure, a.value(figure.name), b.value(figure.name), why=f"{name}: {why}")
    first, second = a.work(figure.name), b.work(figure.name)
    every = _numbers(a.turns)
    where = _interval(second, b.turns) if intervals else None
    found = Compared(figure, float(first(every)), float(second(every)), b_interval=where)
    assert found.b is not None
    if not found.a:
        return replace(found, why="A: it is 0, so nothing is a multiple of it")
    if not intervals:
        return replace(found, ratio=found.b / found.a, why="its interval was not worked out")
    ratios = _interval(lambda turns: second(turns) / first(turns), a.turns)
    why = None if ratios else "A: it is 0 in some turns, so that the ratio has no interval"
    if a.turns < LEAST_TURNS:
        why = f"{a.turns} turns are too few for an interval; it takes {LEAST_TURNS}"
    return replace(found, ratio=found.b / found.a, ratio_interval=ratios, why=why)


def _numbers(turns: int) -> Any:
    import numpy as np

    return np.arange(turns)


def _interval(work: Work, turns: int) -> Interval | None:
    """Where a figure lies, by drawing turns with replacement."""

    def of(drawn: Values) -> Values:
        import numpy as np

        return work(drawn.astype(np.intp))

    # A quantile of some turns' requests is smooth in the turns: each of them moves it a little.
    return interval(Statistic("figure of turns", of, least=LEAST_TURNS), _numbers(turns))


class _Side:
    """What one target showed in each turn."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._told = level.to_dict()
        self._trust = judge(level.records, level.expected)
        self.turns = len(level.repeats)

    def why_not(self, name: str) -> str | None:
        """Why a figure is not told; None where it is."""
        refused = self._trust.refused
        latency, part = _split(name)
        if latency:
            if latency in refused:
                return f"it is refused ({refused[latency]})"
            spread = self._told[latency]
            if spread[part] is None:
                more = spread["needs"].get(part)
                return f"it takes {more} requests more" if more else "no request shows it"
            return None
        if name in refused:
            return f"it is refused ({refused[name]})"
        if name.endswith("_per_token") and "output_tokens_per_s" in refused:
            return f"it is refused ({refused['output_tokens_per_s']})"
        if self.value(name) is None:
            cost = self._told["cost"] or {"unknown": {}}
            field = {"rss_peak": "rss_peak_bytes"}.get(name, name.removesuffix("_per_token"))
            return str(cost["unknown"].get(field, "no request shows it"))
        return None

    def value(self, name: str) -> float | None:
        """The figure of all turns together, as its level tells it."""
        latency, part = _split(name)
        if latency:
            found = self._told[latency][part]
        elif name == "errors":
            asked = self._told["completed"] + self._told["errors"]
            found = self._told["errors"] / asked if asked else None
        elif name == "rss_peak" or name.endswith("_per_token"):
            found = (self._told["cost"] or {}).get("rss_peak_bytes" if name == "rss_peak" else name)
        else:
            found = self._told[name]
        return None if found is None else float(found)

    def work(self, name: str) -> Work:
        """What works the figure out of some turns."""
        latency, part = _split(name)
        if latency and part != "mean":
            return _quantile([self._latencies(driven, latency) for driven in self._level.repeats], int(part[1:]) / 100)
        sums = [self._sums(driven, name, latency) for driven in self._level.repeats]
        return _quotient([above for above, _ in sums], [below for _, below in sums])

    def _sums(self, driven: Driven, name: str, latency: str | None) -> tuple[float, float]:
        """What a turn adds above and below the line."""
        complete = [record for record in driven.records if record.is_complete]
        errors = sum(record.is_error for record in driven.records)
        tokens = float(sum(output_tokens(record) or 0 for record in complete))
        cost = driven.cost
        if latency:
            values = self._latencies(driven, latency)
            return sum(values), len(values)
        match name:
            case "output_tokens_per_s":
                return tokens, driven.wall_s
            case "input_tokens_per_s":
                return float(sum(record.reply.prompt_tokens or 0 for record in complete)), driven.wall_s
            case "requests_per_s":
                return float(len(complete)), driven.wall_s
            case "errors":
                return float(errors), float(errors + len(complete))
            case "rss_peak":
                return float((cost and cost.rss_peak_bytes) or 0), 1.0
            case "cpu_s_per_token":
                return (cost and cost.cpu_s) or 0.0, tokens
            case _:
                return (cost and cost.joules) or 0.0, tokens

    def _latencies(self, driven: Driven, latency: str) -> list[float]:
        complete = [record for record in driven.records if record.is_complete]
        if latency == "itl_s":
            shown_only = self._trust.shown_only
            return [gap for record in complete for gap in figures.gaps_s(record, shown_only=shown_only)]
        return [value for record in complete if (value := _OF_RECORD[latency](record)) is not None]


_OF_RECORD: Mapping[str, Callable[[Record], float | None]] = {
    "ttft_s": figures.ttft_s,
    "first_text_s": figures.first_text_s,
    "tpot_s": lambda record: figures.tpot_s(record, output_tokens(record)),
    "e2e_s": figures.e2e_s,
}


def _split(name: str) -> tuple[str | None, str]:
    """The latency that a figure is of, and what of it; None where it is of none."""
    latency, _, part = name.rpartition("_")
    return (f"{latency}_s", part) if f"{latency}_s" in LATENCIES else (None, name)


def _quotient(above: Sequence[float], below: Sequence[float]) -> Work:
    import numpy as np

    tops, bottoms = np.array(above, np.float64), np.array(below, np.float64)

    def work(turns: NDArray[np.intp]) -> Values:
        found: Values = tops[turns].sum(axis=-1) / bottoms[turns].sum(axis=-1)
        return found

    return work


def _quantile(values: Sequence[Sequence[float]], part: float) -> Work:
    """Of all values of the turns together, between two of them in proportion, as numpy does it."""
    import numpy as np

    whole = np.unique(np.concatenate([np.array(each, np.float64) for each in values]))
    # Of each value, how many of each turn's are not larger.
    ranks = np.array([np.searchsorted(np.sort(each), whole, side="right") for each in values]).T
    sizes = np.array([len(each) for each in values])

    def ranked(often: NDArray[np.intp], rank: Values) -> Values:
        """The smallest value that more than `rank` of those drawn do not exceed, by halving the range."""
        low, high = np.zeros(rank.shape, np.intp), np.full(rank.shape, whole.size - 1)
        while (low < high).any():
            middle = (low + high) // 2
            enough = (often * ranks[middle]).sum(axis=-1) > rank
            low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
        found: Values = whole[high]
        return found

    def work(turns: NDArray[np.intp]) -> Values:
        often = (turns[..., None] == np.arange(len(sizes))).sum(axis=-2)
        count = (often * sizes).sum(axis=-1)
        place = part * (count - 1).clip(0)
        low = np.floor(place)
        below, above = ranked(often, low), ranked(often, np.minimum(low + 1, (count - 1).clip(0)))
        found: Values = np.where(count > 0, below + (above - below) * (place - low), np.nan)
        return found

    return work
