"""Answers that are cut off, and a process that is killed, as whoever runs a model in a program of their own meets it.

Whether an engine noticed that an answer was cut shows only where the answer would have gone on for long: so the same
answers are let alone first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from edgeship.engine.api import Chat, Conversation, Engine, Sampling, Token
from edgeship.engine.isolated import IsolatedEngine
from edgeship.errors import EdgeshipError, UsageError
from edgeship.system import processes
from edgeship.validate.long_answers import ENOUGH_S, ENOUGH_STEPS, ways
from edgeship.validate.recovery.bounds import RecoveryBounds
from edgeship.validate.recovery.together import together
from edgeship.validate.requests import asked
from edgeship.validate.verdict import Evidence, Finding, Outcome

CONVERSATION = Conversation([{"role": "user", "content": "Write a short story about a lighthouse keeper and her dog."}])
_PLAIN = Sampling(temperature=0.0)
_LONG = ways(_PLAIN)[0]
_SHORT = Sampling(max_tokens=4, temperature=0.0)
_LOOK_S, _CUT_S = 0.02, 0.2
_LEAST_S = 0.5
"""An answer must have so much time to be cut in, or nothing shows who cut it."""


@dataclass(frozen=True)
class _Asked:
    """What is asked of a chat, and how long that takes where nothing is cut.

    count: so many answers side by side. long: how those are asked that will be cut. short_s: so long take as many short
    ones. whole_s: so long at least goes each of the long ones on, from its first step.
    """

    count: int
    long: Sampling
    short_s: float
    whole_s: float

    def short_most_s(self, bounds: RecoveryBounds) -> float:
        """So long may the short ones take when something was cut before."""
        return bounds.max_slowdown_ratio * self.short_s + bounds.max_freeing_s

    def freed_most_s(self, bounds: RecoveryBounds) -> float:
        """So soon must be free what the long ones held: before they would have been over by themselves."""
        return min(bounds.max_freeing_s, bounds.max_freeing_share * self.whole_s)


Cut = Callable[[Chat, Sampling], float]
"""Begins an answer, cuts it, and waits for its end; when it was cut, by time.monotonic()."""


def cut_findings(chat: Chat, bounds: RecoveryBounds) -> Iterator[Finding]:
    """Whether answers that are cancelled, that run out of time and that nobody reads on free what they held."""
    count = chat.slots if isinstance(chat, Engine) else 1
    _, short_s = together([partial(_short, chat)] * count, bounds.max_restart_s)
    long = next(way for way in ways(_PLAIN) if _takes(chat, way))
    whole, _ = together([partial(_whole_s, chat, long, bounds)] * count, bounds.max_restart_s)
    lasted = [each for each in whole if not isinstance(each, Exception)]
    if len(lasted) < count:
        why = next((f"end with an error: {each}" for each in whole if isinstance(each, Exception)), None)
        told = f"Long answers that are to be cut off {why or f'have not begun after {bounds.max_restart_s:g} s'}."
        yield _finding("long-answers", "fail", told, bounds.max_restart_s, long)
        return
    asked_of = _Asked(count, long, short_s, min(lasted))
    if asked_of.freed_most_s(bounds) < min(bounds.max_freeing_s, _LEAST_S):
        told = f"Answers are over so soon, after {asked_of.whole_s:.2f} s, that nothing shows who ended them."
        yield Finding("long-answers", "skipped", told)
        return
    _at_rest(chat, time.monotonic() + bounds.max_freeing_s)
    yield from _each_cut(chat, asked_of, bounds)


def _each_cut(chat: Chat, asked_of: _Asked, bounds: RecoveryBounds) -> Iterator[Finding]:
    cuts: tuple[tuple[str, str, Cut], ...] = (
        ("cancel", "answers that are cancelled", _cancelled),
        ("deadline", "answers that run out of time", _out_of_time),
        ("closed", "answers that nobody reads on", _closed),
    )
    still = ""
    for name, what, cut in cuts:
        if still:
            yield Finding(f"{name}-frees", "skipped", f"What {still} hold is not free, so nothing else is looked at.")
            continue
        freed = _freed(chat, bounds, name, what, cut, asked_of)
        yield freed
        yield _as_before(chat, bounds, name, what, asked_of)
        if freed.outcome == "fail" and not _at_rest(chat, time.monotonic() + asked_of.whole_s + bounds.max_freeing_s):
            still = what


def _takes(chat: Chat, way: Sampling) -> bool:
    """Whether answers can be asked in this way; the last one can."""
    if way == _PLAIN:
        return True
    try:
        steps = chat.converse(CONVERSATION, replace(way, max_tokens=1))
        for _ in steps:
            pass
    except UsageError:
        return False
    return True


def _whole_s(chat: Chat, long: Sampling, bounds: RecoveryBounds) -> float:
    """Seconds for which a long answer goes on after its first step; it is ended where more would say no more."""
    steps = chat.converse(CONVERSATION, long)
    next(steps, None)
    begun_s, passed_s, most_s = time.monotonic(), 0.0, bounds.max_freeing_s / bounds.max_freeing_share
    for number, _ in enumerate(steps, 1):
        passed_s = time.monotonic() - begun_s
        if passed_s > most_s or (passed_s > ENOUGH_S and number >= ENOUGH_STEPS):
            break
    steps.close()
    return passed_s


def _cancelled(chat: Chat, long: Sampling) -> float:
    cancel = threading.Event()
    steps = chat.converse(CONVERSATION, long, cancel=cancel)
    next(steps, None)
    cut_s = time.monotonic()
    cancel.set()
    for _ in steps:
        pass
    return cut_s


def _out_of_time(chat: Chat, long: Sampling) -> float:
    cut_s = time.monotonic() + _CUT_S
    for _ in chat.converse(CONVERSATION, long, deadline_s=_CUT_S):
        pass
    return cut_s


def _closed(chat: Chat, long: Sampling) -> float:
    steps = chat.converse(CONVERSATION, long)
    next(steps, None)
    cut_s = time.monotonic()
    steps.close()
    return cut_s


def _short(chat: Chat) -> Token:
    *_, last = chat.converse(CONVERSATION, _SHORT)
    return last


def _freed(chat: Chat, bounds: RecoveryBounds, name: str, what: str, cut: Cut, asked_of: _Asked) -> Finding:
    """Whether answers have ended, and nothing runs and nothing waits, soon after they were cut."""
    name, most_s, end_s = f"{name}-frees", asked_of.freed_most_s(bounds), asked_of.short_most_s(bounds) + _CUT_S
    found, _ = together([partial(cut, chat, asked_of.long)] * asked_of.count, end_s)
    cut_s = [each for each in found if not isinstance(each, Exception)]
    if len(cut_s) < asked_of.count:
        missing = f"{asked_of.count - len(found)} of {asked_of.count} have not ended after {end_s:.1f} s"
        why = next((f"one ended with an error: {each}" for each in found if isinstance(each, Exception)), missing)
        return _finding(name, "fail", f"Of {what} {why.rstrip('.')}.", most_s, asked_of.long)
    free = _at_rest(chat, max(cut_s) + most_s)
    took_s = max(0.0, time.monotonic() - max(cut_s))
    if not free or took_s > most_s + _LOOK_S:
        stats = chat.stats()
        held = f"{stats.running} run and {stats.waiting} wait" if not free else "the last one ended"
        told = f"Of {what} {held} {took_s:.2f} s after they were cut off (at most {most_s:.2f} s)."
        return _finding(name, "fail", told, most_s, asked_of.long, took_s)
    told = f"What {what} held is free after {took_s:.2f} s (at most {most_s:.2f} s)."
    return Finding(name, "pass", told, took_s, most_s, "s")


def _at_rest(chat: Chat, until_s: float) -> bool:
    """Whether nothing runs and nothing waits, now or by then."""
    while (stats := chat.stats()).running or stats.waiting:
        if time.monotonic() > until_s:
            return False
        time.sleep(_LOOK_S)
    return True


def _as_before(chat: Chat, bounds: RecoveryBounds, name: str, what: str, asked_of: _Asked) -> Finding:
    """Whether as many are answered side by side as before, in the usual time."""
    name, count, most_s = f"{name}-then-answers", asked_of.count, asked_of.short_most_s(bounds)
    found, took_s = together([partial(_short, chat)] * count, most_s)
    good = [each for each in found if isinstance(each, Token)]
    if len(good) < count:
        why = next((f": {each}" for each in found if isinstance(each, Exception)), "")
        told = f"After {what} only {len(good)} of {count} are answered within {most_s:.1f} s{why}."
        return _finding(name, "fail", told, most_s, _SHORT)
    told = f"After {what} {count} are answered in {took_s:.2f} s (at most {most_s:.1f} s)."
    return Finding(name, "pass", told, took_s, most_s, "s")


def killed_finding(chat: IsolatedEngine, bounds: RecoveryBounds) -> Finding:
    """Whether a model comes back whose process is killed while it answers."""
    name, pid = "killed", chat.pid

    def ended() -> bool:
        steps = chat.converse(CONVERSATION, _LONG)
        next(steps, None)
        processes.kill(pid)
        with suppress(EdgeshipError):
            for _ in steps:
                pass
        return True

    found, _ = together([ended] * chat.slots, bounds.max_restart_s)
    if len(found) < chat.slots:
        hanging = chat.slots - len(found)
        told = f"Its process was killed, and {hanging} of its answers hang after {bounds.max_restart_s:g} s."
        return _finding(name, "fail", told, bounds.max_restart_s)
    errors = [each for each in found if isinstance(each, Exception)]
    if len(errors) == len(found):
        return _finding(
            name, "fail", f"Its process was to be killed, and no answer began: {errors[0]}", bounds.max_restart_s
        )
    if fault := next((each for each in errors if not isinstance(each, EdgeshipError)), None):
        return _finding(
            name, "fail", f"Its process was killed, and an answer ended with {fault!r}.", bounds.max_restart_s
        )
    again, took_s = together([partial(_short, chat)], bounds.max_restart_s)
    if not again or isinstance(again[0], Exception):
        why = f": {again[0]}" if again else ""
        told = f"Its process was killed, and it does not answer again within {bounds.max_restart_s:g} s{why}."
        return _finding(name, "fail", told, bounds.max_restart_s)
    told = f"Its process was killed, and it answers again after {took_s:.1f} s (at most {bounds.max_restart_s:g} s)."
    return Finding(name, "pass", told, took_s, bounds.max_restart_s, "s")


def _finding(
    name: str, outcome: Outcome, told: str, bound_s: float, sampling: Sampling = _LONG, figure: float | None = None
) -> Finding:
    evidence = Evidence(f"recovery/{name}", asked(CONVERSATION, sampling), told, "it is as if nothing had been asked")
    return Finding(name, outcome, told, figure, bound_s, "s", evidence=(evidence,))
