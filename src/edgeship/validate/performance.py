"""Is as fast and as small as what is in production.

The target and its baseline are asked in turns on this machine, as `edgeship bench --compare` does it, and loaded in
turns; a ratio is held to its bound by its interval. A busy machine makes intervals wide, so turns are added as long as
something is undecided and there is time, and what fails has to fail once more with more turns. Budgets in milliseconds
and bytes need no baseline, and are off until a gate file sets them: they say something of one kind of machine only.

A target that does not answer has no speed, and fails, as one does that says nothing any more. What a target never
tells, such as the memory of a server elsewhere, is skipped; a figure that should be there and is not, or that its own
answers contradict, is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from edgeship.engine.api import Limits
from edgeship.engine.opening import KV_SHARE
from edgeship.engine.remote import RemoteChat
from edgeship.errors import DependencyMissing, EdgeshipError, EngineFailed, MemoryShort, ResourceError, came_from
from edgeship.measure.load import driver
from edgeship.measure.load.bench import Plan
from edgeship.measure.load.chats import ChatAsker
from edgeship.measure.load.conditions import Condition, Judged
from edgeship.measure.load.driver import Driven, Load
from edgeship.measure.load.levels import Level
from edgeship.measure.load.looks import Looks
from edgeship.measure.load.pair import in_turns, openings
from edgeship.measure.load.servers import ServerAsker
from edgeship.measure.load.subject import Access, Asked, opened
from edgeship.measure.load.texts import WORDS
from edgeship.measure.load.turns import FIGURES, Compared, Figure, compared
from edgeship.measure.report.page.units import written
from edgeship.measure.statistics.bootstrap import MEAN, interval, ratio
from edgeship.package import DAMAGED, genai_config
from edgeship.progress import Progress
from edgeship.system.machine import memory_bytes
from edgeship.targets import Target
from edgeship.validate.check import Check
from edgeship.validate.performance_bounds import PerformanceBounds
from edgeship.validate.subject import DEADLINE_S, Effort, Subject
from edgeship.validate.verdict import Finding, Outcome

_PROMPT_TOKENS, _NEW_TOKENS = 64, 32
_LEAST_NEW_TOKENS = 2
_ROOM_TOKENS = 16
"""A question has so many tokens of its own at least, besides those of the chat template."""
_LOAD, _AFTER_LOAD = Figure("load", "s"), Figure("rss_after_load", "bytes")
_ERRORS = FIGURES["errors"]
_NO_ROOM = "the context has no room for a question and its answer"


@dataclass(frozen=True)
class _Effort:
    """turns, most_turns: of asking. loads, most_loads: of loading; none in a hurry. spend_s: on each of both at most.

    longer: what would give an undecided figure more turns. instead: what decides one whose interval holds its bound,
    since nobody sets how many turns are made.
    """

    turns: int
    most_turns: int
    loads: int
    most_loads: int
    spend_s: float
    longer: str
    instead: str
    requests: int = 4


_QUIETER, _WIDER = "a quieter machine, ", ", or a wider bound in the gate file"
_EFFORTS: Mapping[Effort, _Effort] = {
    "quick": _Effort(
        5,
        10,
        0,
        0,
        60.0,
        "more turns, for which there is time without --quick",
        f"{_QUIETER}a run without --quick or with --long{_WIDER}",
    ),
    "default": _Effort(
        8, 48, 5, 20, 600.0, "more turns, for which --long takes up to an hour", f"{_QUIETER}--long{_WIDER}"
    ),
    "long": _Effort(
        24, 96, 10, 40, 3600.0, "a faster machine, which makes more turns in an hour", f"{_QUIETER}a faster one{_WIDER}"
    ),
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
    subject.close_shared()  # it is measured in processes of its own, and memory is to be left for two
    sides = (subject.target,) if baseline is None else (baseline, subject.target)
    measuring = _Measuring(sides, _access(subject, sides), effort, progress)
    asked = [one for one in conditions if one.figure.name in FIGURES]
    loaded = [one for one in conditions if one.figure.name not in FIGURES]
    try:
        questions = measuring.questions()
        if questions is None:
            yield from (_skipped(one, _NO_ROOM) for one in conditions)
            return
        if asked:
            yield from measuring.ask(questions, [_answering(bounds), *asked])
        if loaded:
            yield from measuring.load(questions, loaded)
    except _BaselineFails as fails:
        yield Finding(
            "baseline",
            "undecided",
            f"The baseline could not be measured: {str(fails).rstrip('.')}.",
            decided_by="a baseline that opens and answers",
        )
    except MemoryShort as error:
        yield Finding(
            "memory-for-both",
            "undecided",
            f"Target and baseline could not be measured side by side: {error.what}.",
            decided_by="a machine with more memory",
        )


def _ratios(bounds: PerformanceBounds) -> Iterator[Condition]:
    memory = bounds.max_memory_ratio
    yield _condition(FIGURES["ttft_p50"], bounds.max_ttft_ratio, of_ratio=True)
    yield _condition(FIGURES["tpot_p50"], bounds.max_tpot_ratio, of_ratio=True)
    yield _condition(FIGURES["rss_peak"], memory, of_ratio=True)
    yield _condition(_AFTER_LOAD, memory, of_ratio=True)
    yield _condition(_LOAD, bounds.max_load_ratio, of_ratio=True)


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


def _answering(bounds: PerformanceBounds) -> Condition:
    return _condition(_ERRORS, bounds.max_unanswered_share, of_ratio=False)


def _condition(figure: Figure, most: float, *, of_ratio: bool) -> Condition:
    """The condition under which the target fails."""
    return Condition(f"{figure.name} > {most:g}", figure, ">", most, of_ratio)


def _access(subject: Subject, sides: Sequence[Target]) -> Access:
    """How sides are opened: two packages with as much memory each, of which the second one would find less free."""
    limits = Limits()
    if len(sides) == 2 and all(side.kind in ("package", "folder") for side in sides):
        _, free_bytes = memory_bytes(subject.target.settings.memory_bytes)
        limits = Limits(kv_bytes=free_bytes // (2 * KV_SHARE))
    return Access(limits, subject.against.model, subject.against.api_key)


class _BaselineFails(Exception):
    """What the baseline fails at, which says nothing about the target."""


@dataclass(frozen=True)
class _Measuring:
    """sides: the baseline, where there is one, and the target."""

    sides: tuple[Target, ...]
    access: Access
    effort: _Effort
    progress: Progress

    @contextmanager
    def _of_side(self, place: int) -> Iterator[None]:
        """What only one of the sides takes part in. Raises _BaselineFails for what is the baseline's fault."""
        try:
            yield
        except EdgeshipError as error:
            no_ones = type(error) is EdgeshipError or isinstance(error, ResourceError | DependencyMissing)
            if place == len(self.sides) - 1 or no_ones or came_from(error, KeyboardInterrupt):
                raise
            raise _BaselineFails(error.what) from error

    # --- asking ------------------------------------------------------------------------------------------------------

    def questions(self) -> Asked | None:
        """Questions that all sides have room for; None where they have no room for any.

        Raises _BaselineFails, and what opening the target raises.
        """
        shortest, context = 1, math.inf
        for place, side in enumerate(self.sides):
            with self._of_side(place):
                own, most = _room(side, self.access)
            shortest, context = max(shortest, own), min(context, most)
        prompt, new = max(_PROMPT_TOKENS, shortest + _ROOM_TOKENS), _NEW_TOKENS
        if prompt + new > context:
            new = int(context) // 4
            prompt = int(context) - new
        return Asked(prompt, new) if new >= _LEAST_NEW_TOKENS and prompt > shortest else None

    def ask(self, questions: Asked, conditions: Sequence[Condition]) -> Iterator[Finding]:
        """How they answer, in turns."""
        effort = self.effort
        plan = Plan(questions, driver.Bounds(effort.requests, None, DEADLINE_S), (Load(1),))
        looks = Looks(effort.turns, effort.most_turns, effort.spend_s)
        measure = self._beside if len(self.sides) == 2 else self._alone
        levels = measure(plan, looks, conditions)
        for judged in looks.judged:
            if judged.condition.figure == _ERRORS:
                yield _answers(judged, levels[-1], effort)
            elif judged.interval is None:
                yield _untold(judged, levels if judged.condition.of_ratio else levels[-1:], effort)
            else:
                yield _finding(judged, effort)

    def _beside(self, plan: Plan, looks: Looks, conditions: Sequence[Condition]) -> Sequence[Mapping[str, Any]]:
        """What both sides' levels tell. Raises _BaselineFails."""
        baseline, target = self.sides
        with ExitStack() as stack:
            a, b = openings((baseline, target), plan, self.access, self.progress)
            with self._of_side(0):
                first = stack.enter_context(a)
            [levels], ended_by = in_turns((first, stack.enter_context(b)), plan, looks, conditions, self.progress)
        if ended_by == "interrupted":
            raise KeyboardInterrupt
        for place, level in reversed(list(enumerate(levels))):
            with self._of_side(place):
                _require_heard(level.repeats[-1])
        return [level.to_dict() for level in levels]

    def _alone(self, plan: Plan, looks: Looks, conditions: Sequence[Condition]) -> Sequence[Mapping[str, Any]]:
        """The same where there is no baseline: turns are of the target alone."""
        (target,), load = self.sides, plan.loads[0]
        driven: list[Driven] = []
        with opened(target, plan.asked, self.access, timeout_s=DEADLINE_S, progress=self.progress) as measured:
            while True:
                for number in looks.next_turns():
                    self.progress(f"turn {number + 1} of {looks.goal}", number / looks.goal)
                    driven.append(measured.drive(load, plan.bounds, warm_up=plan.warm_up))
                    _require_heard(driven[-1])
                level = Level(load, tuple(driven), measured.expected)
                found = compared(level, level, {one.figure.name for one in conditions})
                if not looks.note([one.judge(load.name, found[one.figure.name], looks.made) for one in conditions]):
                    return [level.to_dict()]

    # --- loading -----------------------------------------------------------------------------------------------------

    def load(self, questions: Asked, conditions: Sequence[Condition]) -> Iterator[Finding]:
        """How they load, in turns."""
        if reason := self._not_loaded():
            yield from (_skipped(one, reason) for one in conditions)
            return
        seen: list[list[_Loaded]] = [[] for _ in self.sides]
        looks = Looks(self.effort.loads, self.effort.most_loads, self.effort.spend_s)
        # Whatever is opened to be measured is asked a first question, of which nothing is told here.
        asked = replace(questions, new_tokens=_LEAST_NEW_TOKENS)
        while True:
            for number in looks.next_turns():
                self.progress(f"loaded {number} times of {looks.goal}", number / looks.goal)
                for place, side in enumerate(self.sides):
                    with self._of_side(place):
                        seen[place].append(_load(side, asked))
            if not looks.note([one.judge("load", _compared(one.figure, seen), looks.made) for one in conditions]):
                break
        for judged in looks.judged:
            yield _finding(judged, self.effort) if judged.interval else _unloaded(judged, self.effort)

    def _not_loaded(self) -> str | None:
        if not self.effort.loads:
            return "a quick look loads once only"
        if any(side.kind == "url" for side in self.sides):
            return "a server was loaded before"
        return None


def _require_heard(driven: Driven) -> None:
    """Raises EngineFailed for a target that says nothing any more."""
    if driven.stopped == "silent":
        raise EngineFailed(f"nothing of any answer came for {DEADLINE_S:.0f} s, so no more was asked")


def _room(side: Target, access: Access) -> tuple[int, float]:
    """The tokens of its shortest question, and of the longest together with its answer."""
    if side.kind in ("package", "folder"):
        # Packages are asked by token ids, without a template.
        return 1, genai_config.read(side.package_folder(), DAMAGED).context_tokens
    model, api_key = (access.model, access.api_key) if side.kind == "url" else (None, None)
    with side.open(model=model, api_key=api_key) as chat:
        count = ServerAsker(chat, DEADLINE_S).counter()[0] if isinstance(chat, RemoteChat) else ChatAsker(chat).count
        return count(WORDS[0]) or 1, chat.context_tokens or math.inf


_Loaded = Mapping[str, float | None]
"""What loading took once, by the figure's name; None for memory that cannot be seen."""


def _load(side: Target, asked: Asked) -> _Loaded:
    with opened(side, asked, Access(), timeout_s=DEADLINE_S) as loaded:
        told = loaded.to_dict()
    return {_LOAD.name: told["load_s"], _AFTER_LOAD.name: told["rss_after_load_bytes"]}


def _compared(figure: Figure, seen: Sequence[Sequence[_Loaded]]) -> Compared:
    sides = [[value for loaded in each if (value := loaded[figure.name])] for each in seen]
    if any(len(known) < len(each) for known, each in zip(sides, seen, strict=True)):
        return Compared(figure, None, None, why="what its process holds cannot be seen")
    ratios = interval(ratio(MEAN), sides[0], sides[1], paired=True) if len(sides) == 2 else None
    a, b = fmean(sides[0]), fmean(sides[-1])
    return Compared(figure, a, b, b / a, ratios, interval(MEAN, sides[-1]))


# --- telling ---------------------------------------------------------------------------------------------------------

_OUTCOMES: Mapping[str, Outcome] = {"holds": "fail", "fails": "pass", "undecided": "undecided"}
_CONTRADICTIONS = ("usage-differs", "empty-chunks", "prefix-cache")
"""Doubts at what a target tells of its answers that it cannot have by its nature; see measure/load/doubts.py."""


def _name(condition: Condition) -> str:
    return _NAMES[condition.figure.name] + ("" if condition.of_ratio else "-budget")


def _skipped(condition: Condition, reason: str) -> Finding:
    words = _WORDS[condition.figure.name]
    return Finding(_name(condition), "skipped", f"{words} was not looked at: {reason}.")


def _answers(judged: Judged, level: Mapping[str, Any], effort: _Effort) -> Finding:
    """Whether the target answers at all."""
    most, errors, asked = judged.condition.bound, level["errors"], level["errors"] + level["completed"]
    share = errors / asked if asked else 0.0
    outcome: Outcome = "pass" if errors <= most * asked else _OUTCOMES[judged.verdict]
    if share == 1 > most:  # it takes no interval to say that
        outcome = "fail"
    why = "".join(f": {kind['kind']}, {str(kind['what']).rstrip('.')}" for kind in level["error_kinds"][:1])
    told = f"{errors} of {asked} questions got no answer ({100 * share:.1f} %; {100 * most:.1f} % may){why}."
    where = judged.interval
    return Finding(
        "answers",
        outcome,
        told,
        figure=share,
        bound=most,
        unit="share",
        interval=(where.low, where.high) if where else None,
        decided_by=(_decided_by(judged, effort) or effort.longer) if outcome == "undecided" else None,
    )


def _untold(judged: Judged, levels: Sequence[Mapping[str, Any]], effort: _Effort) -> Finding:
    """A figure that the turns did not show. levels: of the sides that it takes."""
    figure = judged.condition.figure
    sides = ("baseline", "target")[-len(levels) :]
    for side, level in zip(sides, levels, strict=True):
        if figure.unit == "bytes":
            cost = level["cost"] or {"unknown": {}}
            if cost.get("rss_peak_bytes") is None:
                return _skipped(
                    judged.condition, f"of the {side}, {cost['unknown'].get('rss_peak_bytes', 'nothing is known')}"
                )
        if not level["completed"]:
            return _undecided(judged, f"the {side} answered nothing", f"a {side} that answers")
        latency = f"{figure.name.rpartition('_')[0]}_s"
        doubt = level["refused"].get(latency)
        if doubt in _CONTRADICTIONS:
            why = f"what the {side} tells of its answers contradicts them ({doubt})"
            return _undecided(judged, why, f"a {side} whose usage is that of its answers")
        if doubt:
            return _skipped(judged.condition, f"the {side} does not tell it ({doubt})")
        if latency in level and not level[latency]["values"]:
            return _undecided(judged, f"no answer of the {side} shows anything", f"a {side} that answers")
    return _undecided(judged, "there were too few answers", effort.longer)


def _unloaded(judged: Judged, effort: _Effort) -> Finding:
    if judged.value is None:
        return _skipped(judged.condition, judged.why or "it is not told")
    return _undecided(judged, "there was time for few loads", effort.longer)


def _undecided(judged: Judged, why: str, decided_by: str) -> Finding:
    words = _WORDS[judged.condition.figure.name]
    return Finding(_name(judged.condition), "undecided", f"{words} is not known: {why}.", decided_by=decided_by)


def _finding(judged: Judged, effort: _Effort) -> Finding:
    """A figure that has an interval."""
    condition, figure, where = judged.condition, judged.condition.figure, judged.interval
    assert judged.value is not None, "what has an interval has a value"
    assert where is not None, "see above"
    if condition.figure == FIGURES["tpot_p50"] and not condition.of_ratio:
        return _speed(judged, effort, judged.value, (where.low, where.high))
    words = _times if condition.of_ratio else _UNITS[figure.unit]
    low, high = words(where.low), words(where.high)
    ends = f"{low.removesuffix(high.partition(' ')[2]).rstrip()} to {high} with 95 % confidence"
    against = " the baseline's" if condition.of_ratio else ""
    told = f"{_WORDS[figure.name]} is {words(judged.value)}{against} ({ends}); {words(condition.bound)} may be."
    return Finding(
        _name(condition),
        _OUTCOMES[judged.verdict],
        told,
        figure=judged.value,
        bound=condition.bound,
        unit="times" if condition.of_ratio else figure.unit,
        interval=(where.low, where.high),
        decided_by=_decided_by(judged, effort),
        noted=True,
    )


def _speed(judged: Judged, effort: _Effort, token_s: float, ends_s: tuple[float, float]) -> Finding:
    """The time for a token in the unit of its budget, which is the least that it may be."""
    speed, least = 1 / token_s, 1 / judged.condition.bound
    ends = 1 / ends_s[1], 1 / ends_s[0]
    told = (
        f"An answer is written at {speed:,.4g} tokens/s after its first token ({ends[0]:,.4g} to {ends[1]:,.4g} "
        f"tokens/s with 95 % confidence); {least:,.4g} tokens/s must be."
    )
    return Finding(
        _name(judged.condition),
        _OUTCOMES[judged.verdict],
        told,
        figure=speed,
        bound=least,
        unit="tokens/s",
        interval=ends,
        decided_by=_decided_by(judged, effort),
        is_least=True,
        noted=True,
    )


def _decided_by(judged: Judged, effort: _Effort) -> str | None:
    return judged.why and f"{judged.why}. What helps: {effort.instead}."


def _times(value: float) -> str:
    return f"{value:.3f} times"


_UNITS: Mapping[str, Callable[[float], str]] = {
    "s": lambda value: written(value, "s"),
    "bytes": lambda value: f"{value / 1e6:,.0f} MB",
}

CHECK = Check("performance", "Is as fast and as small as what is in production", PerformanceBounds, _run)
