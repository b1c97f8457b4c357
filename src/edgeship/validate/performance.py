"""Is as fast and as small as what is in production.

The target and its baseline are asked in turns on this machine, as `edgeship bench --compare` does it, and loaded in
turns; a ratio is held to its bound by its interval. A busy machine makes intervals wide, so turns are added as long as
something is undecided, and what fails has to fail once more with more turns. Budgets in milliseconds and bytes need no
baseline, and are off until a gate file sets them: they say something of one kind of machine only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from edgeship.errors import MemoryShort
from edgeship.measure.load import driver
from edgeship.measure.load.bench import Plan
from edgeship.measure.load.conditions import Condition, Judged, settled
from edgeship.measure.load.driver import Driven, Load
from edgeship.measure.load.levels import Level
from edgeship.measure.load.pair import compare
from edgeship.measure.load.subject import Access, Asked, opened
from edgeship.measure.load.turns import FIGURES, Compared, Figure, compared
from edgeship.measure.statistics.bootstrap import MEAN, interval, ratio
from edgeship.progress import Progress
from edgeship.targets import Target
from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.check import Check
from edgeship.validate.subject import Effort, Subject
from edgeship.validate.verdict import Finding, Outcome

_ASKED = Asked(prompt_tokens=64, new_tokens=32)
_LOADED = Asked(prompt_tokens=8, new_tokens=2)
_TIMEOUT_S = 300.0
_LOAD, _AFTER_LOAD = Figure("load", "s"), Figure("rss_after_load", "bytes")
_NO_BUDGET = "0 sets none, which is the default: it holds for one kind of machine."


@dataclass(frozen=True)
class PerformanceBounds(Bounds):
    """What the figures are held to."""

    most_ttft_ratio: float = bound(
        1.25, "The time to the first token, against the baseline's. Less than a quarter nobody notices.", least=0.01
    )
    most_tpot_ratio: float = bound(
        1.15,
        "The time for each further token, against the baseline's. Turns show a tenth on a quiet machine; the rest is "
        "room for a busy one.",
        least=0.01,
    )
    most_memory_ratio: float = bound(
        1.1,
        "Memory after loading and at its peak, against the baseline's. A tenth is beyond what allocators vary by.",
        least=0.01,
    )
    most_load_ratio: float = bound(
        1.5, "The time to load, against the baseline's. What lies in the system's file cache makes it vary.", least=0.01
    )
    max_ttft_ms: float = bound(0.0, f"The time to the first token of a question of 64 tokens. {_NO_BUDGET}")
    min_tokens_per_s: float = bound(0.0, f"How fast an answer is written, after its first token. {_NO_BUDGET}")
    max_memory_bytes: float = bound(0.0, f"Memory at its peak, while one answer is made. {_NO_BUDGET}")
    max_load_s: float = bound(0.0, f"The time to load. {_NO_BUDGET}")


@dataclass(frozen=True)
class _Effort:
    """turns, most_turns: of asking. loads, most_loads: of loading; none in a hurry."""

    turns: int
    most_turns: int
    loads: int
    most_loads: int
    requests: int = 4


_EFFORTS: Mapping[Effort, _Effort] = {
    "quick": _Effort(5, 10, 0, 0),
    "default": _Effort(8, 48, 5, 20),
    "long": _Effort(24, 96, 10, 40),
}
_WORDS = {
    "ttft_p50": "The time to the first token",
    "tpot_p50": "The time for each further token",
    "rss_peak": "Memory at its peak",
    "rss_after_load": "Memory after loading",
    "load": "The time to load",
}
_NAMES = {
    "ttft_p50": "ttft",
    "tpot_p50": "decode",
    "rss_peak": "memory-peak",
    "rss_after_load": "memory-after-load",
    "load": "load-time",
}


def _run(subject: Subject, bounds: PerformanceBounds, progress: Progress) -> Iterator[Finding]:
    baseline, effort = subject.against.baseline, _EFFORTS[subject.effort]
    conditions = [*(_ratios(bounds) if baseline else ()), *_budgets(bounds)]
    if not conditions:
        yield Finding(
            "budget",
            "skipped",
            "Nothing says how fast and small it is to be: name what is in production with --baseline, or set budgets "
            "such as max_ttft_ms in a gate file.",
        )
        return
    access = Access(model=subject.against.model, api_key=subject.against.api_key)
    asked = [one for one in conditions if one.figure.name in FIGURES]
    loaded = [one for one in conditions if one.figure.name not in FIGURES]
    plan = Plan(_ASKED, driver.Bounds(effort.requests, None, _TIMEOUT_S), (Load(1),), repeats=effort.turns)
    try:
        judged: Sequence[Judged]
        if baseline is None:
            judged = _alone(subject.target, plan, access, asked, effort, progress)
        else:
            sides = baseline, subject.target
            judged = compare(sides, plan, access, asked, most_turns=effort.most_turns, progress=progress).judged
        yield from map(_finding, judged)
        if loaded:
            yield from _loads(baseline, subject.target, loaded, effort, progress)
    except MemoryShort as error:
        yield Finding(
            "fits",
            "undecided",
            f"Target and baseline could not be measured side by side: {error.what}.",
            decided_by="a machine with more memory",
        )


def _ratios(bounds: PerformanceBounds) -> Iterator[Condition]:
    memory = bounds.most_memory_ratio
    yield _condition(FIGURES["ttft_p50"], bounds.most_ttft_ratio, of_ratio=True)
    yield _condition(FIGURES["tpot_p50"], bounds.most_tpot_ratio, of_ratio=True)
    yield _condition(FIGURES["rss_peak"], memory, of_ratio=True)
    yield _condition(_AFTER_LOAD, memory, of_ratio=True)
    yield _condition(_LOAD, bounds.most_load_ratio, of_ratio=True)


def _budgets(bounds: PerformanceBounds) -> Iterator[Condition]:
    """Those that are set."""
    if bounds.max_ttft_ms:
        yield _condition(FIGURES["ttft_p50"], bounds.max_ttft_ms / 1000, of_ratio=False)
    if bounds.min_tokens_per_s:
        yield _condition(FIGURES["tpot_p50"], 1 / bounds.min_tokens_per_s, of_ratio=False)
    if bounds.max_memory_bytes:
        yield _condition(FIGURES["rss_peak"], bounds.max_memory_bytes, of_ratio=False)
    if bounds.max_load_s:
        yield _condition(_LOAD, bounds.max_load_s, of_ratio=False)


def _condition(figure: Figure, most: float, *, of_ratio: bool) -> Condition:
    """The condition under which the target fails."""
    return Condition(f"{figure.name} > {most:g}", figure, ">", most, of_ratio)


def _alone(
    target: Target,
    plan: Plan,
    access: Access,
    conditions: Sequence[Condition],
    effort: _Effort,
    progress: Progress,
) -> list[Judged]:
    """What budgets come to where there is no baseline. Turns are of the target alone."""
    turns = plan.repeats
    with opened(target, plan.asked, access, timeout_s=_TIMEOUT_S, progress=progress) as measured:
        driven: list[Driven] = []
        judged: list[Judged] = []
        while True:
            for number in range(len(driven), turns):
                progress(f"turn {number + 1} of {turns}", number / turns)
                driven.append(measured.drive(plan.loads[0], plan.bounds, warm_up=plan.warm_up))
            level = Level(plan.loads[0], tuple(driven), measured.expected)
            found = compared(level, level)
            before, judged = judged, [one.judge(level.load.name, found[one.figure.name], turns) for one in conditions]
            if turns >= effort.most_turns or settled(judged, before):
                return judged
            turns = min(2 * turns, effort.most_turns)


# --- loading ---------------------------------------------------------------------------------------------------------


def _loads(
    baseline: Target | None,
    target: Target,
    conditions: Sequence[Condition],
    effort: _Effort,
    progress: Progress,
) -> Iterator[Finding]:
    """How both load, in turns."""
    sides = (target,) if baseline is None else (baseline, target)
    if reason := _not_loaded(sides, effort):
        yield from (_skipped(one.figure, reason) for one in conditions)
        return
    seen: list[list[_Loaded]] = [[] for _ in sides]
    judged: list[Judged] = []
    loads = effort.loads
    while True:
        for number in range(len(seen[0]), loads):
            progress(f"loaded {number} times of {loads}", number / loads)
            for loaded, side in zip(seen, sides, strict=True):
                loaded.append(_load(side))
        before, judged = judged, [one.judge("load", _compared(one.figure, seen), loads) for one in conditions]
        if loads >= effort.most_loads or settled(judged, before):
            yield from map(_finding, judged)
            return
        loads = min(2 * loads, effort.most_loads)


def _not_loaded(sides: Sequence[Target], effort: _Effort) -> str | None:
    if not effort.loads:
        return "a quick look loads once only"
    if any(side.kind == "url" for side in sides):
        return "a server was loaded before"
    return None


_Loaded = Mapping[str, float]
"""What loading took once, by the figure's name."""


def _load(target: Target) -> _Loaded:
    with opened(target, _LOADED, Access(), timeout_s=_TIMEOUT_S) as loaded:
        told = loaded.to_dict()
    return {_LOAD.name: float(told["load_s"]), _AFTER_LOAD.name: float(told["rss_after_load_bytes"] or 0)}


def _compared(figure: Figure, seen: Sequence[Sequence[_Loaded]]) -> Compared:
    sides = [[loaded[figure.name] for loaded in each] for each in seen]
    ratios = interval(ratio(MEAN), sides[0], sides[1], paired=True) if len(sides) == 2 else None
    a, b = fmean(sides[0]), fmean(sides[-1])
    return Compared(figure, a, b, b / a, ratios, interval(MEAN, sides[-1]))


# --- telling ---------------------------------------------------------------------------------------------------------


def _skipped(figure: Figure, reason: str) -> Finding:
    return Finding(_NAMES[figure.name], "skipped", f"{_WORDS[figure.name]} was not compared: {reason}.")


def _finding(judged: Judged) -> Finding:
    condition, figure = judged.condition, judged.condition.figure
    if judged.value is None or judged.interval is None:
        return _skipped(figure, judged.why or "there is no interval for it")
    outcomes: Mapping[str, Outcome] = {"holds": "fail", "fails": "pass", "undecided": "undecided"}
    words = _times if condition.of_ratio else _UNITS[figure.unit]
    ends = f"{words(judged.interval.low).split()[0]} to {words(judged.interval.high)} with 95 % confidence"
    against = " the baseline's" if condition.of_ratio else ""
    told = f"{_WORDS[figure.name]} is {words(judged.value)}{against} ({ends}); {words(condition.bound)} may be."
    return Finding(
        _NAMES[figure.name] + ("" if condition.of_ratio else "-budget"),
        outcomes[judged.verdict],
        told,
        figure=judged.value,
        bound=condition.bound,
        unit="x" if condition.of_ratio else figure.unit,
        interval=(judged.interval.low, judged.interval.high),
        decided_by=judged.why,
    )


def _times(value: float) -> str:
    return f"{value:.3f} times"


_UNITS: Mapping[str, Callable[[float], str]] = {
    "s": lambda value: f"{1000 * value:,.1f} ms",
    "bytes": lambda value: f"{value / 1e6:,.0f} MB",
}

CHECK = Check("performance", "Is as fast and as small as what is in production", PerformanceBounds, _run)
