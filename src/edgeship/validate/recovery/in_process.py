"""Answers that are cut, and a process that is killed, as whoever runs a model in a program of their own meets it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from edgeship.engine.api import AnswerSteps, Chat, Conversation, Engine, Sampling, Token
from edgeship.engine.isolated import IsolatedEngine
from edgeship.errors import EdgeshipError
from edgeship.system import processes
from edgeship.validate.recovery.bounds import RecoveryBounds
from edgeship.validate.recovery.together import together
from edgeship.validate.requests import asked
from edgeship.validate.verdict import Evidence, Finding, Outcome

CONVERSATION = Conversation([{"role": "user", "content": "Write a short story about a lighthouse keeper and her dog."}])
_LONG, _SHORT = Sampling(ignore_eos=True, temperature=0.0), Sampling(max_tokens=4, temperature=0.0)
_LOOK_S, _CUT_S = 0.02, 0.2
Begin = Callable[[], AnswerSteps]


def cut_findings(chat: Chat, bounds: RecoveryBounds) -> Iterator[Finding]:
    """Whether answers that are cancelled, that run out of time and that nobody reads on free what they held."""
    count = chat.slots if isinstance(chat, Engine) else 1
    _, usual_s = together([partial(_short, chat)] * count, bounds.back_s)
    for name, what, cut in (
        ("cancel", "answers that are cancelled", partial(_cancelled, chat)),
        ("deadline", "answers that run out of time", partial(_out_of_time, chat)),
        ("closed", "answers that nobody reads on", partial(_closed, chat)),
    ):
        together([cut] * count, bounds.back_s)
        yield _freed(chat, bounds, name, what)
        yield _as_before(chat, bounds, name, what, count, usual_s)


def _cancelled(chat: Chat) -> None:
    cancel = threading.Event()
    steps = chat.converse(CONVERSATION, _LONG, cancel=cancel)
    next(steps, None)
    cancel.set()
    for _ in steps:
        pass


def _out_of_time(chat: Chat) -> None:
    for _ in chat.converse(CONVERSATION, _LONG, deadline_s=_CUT_S):
        pass


def _closed(chat: Chat) -> None:
    steps = chat.converse(CONVERSATION, _LONG)
    next(steps, None)
    steps.close()


def _short(chat: Chat) -> Token:
    *_, last = chat.converse(CONVERSATION, _SHORT)
    return last


def _freed(chat: Chat, bounds: RecoveryBounds, name: str, what: str) -> Finding:
    """Whether nothing runs and nothing waits soon after."""
    begun = time.monotonic()
    while (stats := chat.stats()).running or stats.waiting:
        if time.monotonic() - begun > bounds.freed_s:
            held = f"{stats.running} run and {stats.waiting} wait"
            return _finding(f"{name}-frees", "fail", f"Of {what} {held} after {bounds.freed_s:g} s.", bounds.freed_s)
        time.sleep(_LOOK_S)
    took_s = time.monotonic() - begun
    told = f"What {what} held is free after {took_s:.2f} s (at most {bounds.freed_s:g} s)."
    return Finding(f"{name}-frees", "pass", told, took_s, bounds.freed_s, "s")


def _as_before(chat: Chat, bounds: RecoveryBounds, name: str, what: str, count: int, usual_s: float) -> Finding:
    """Whether as many are answered side by side as before, in the usual time."""
    most_s = bounds.slower * usual_s + bounds.freed_s
    found, took_s = together([partial(_short, chat)] * count, most_s)
    good = [each for each in found if isinstance(each, Token)]
    if len(good) < count:
        why = next((f": {each}" for each in found if isinstance(each, Exception)), "")
        told = f"After {what} only {len(good)} of {count} are answered within {most_s:.1f} s{why}."
        return _finding(f"{name}-then-answers", "fail", told, most_s)
    told = f"After {what} {count} are answered in {took_s:.2f} s (at most {most_s:.1f} s)."
    return Finding(f"{name}-then-answers", "pass", told, took_s, most_s, "s")


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

    found, _ = together([ended] * chat.slots, bounds.back_s)
    if len(found) < chat.slots:
        told = f"Its process was killed, and {chat.slots - len(found)} of its answers hang after {bounds.back_s:g} s."
        return _finding(name, "fail", told, bounds.back_s)
    if fault := next(
        (each for each in found if isinstance(each, Exception) and not isinstance(each, EdgeshipError)), None
    ):
        return _finding(name, "fail", f"Its process was killed, and an answer ended with {fault!r}.", bounds.back_s)
    again, took_s = together([partial(_short, chat)], bounds.back_s)
    if not again or isinstance(again[0], Exception):
        why = f": {again[0]}" if again else ""
        told = f"Its process was killed, and it does not answer again within {bounds.back_s:g} s{why}."
        return _finding(name, "fail", told, bounds.back_s)
    told = f"Its process was killed, and it answers again after {took_s:.1f} s (at most {bounds.back_s:g} s)."
    return Finding(name, "pass", told, took_s, bounds.back_s, "s")


def _finding(name: str, outcome: Outcome, told: str, bound_s: float) -> Finding:
    evidence = Evidence(f"recovery/{name}", asked(CONVERSATION, _LONG), told, "it is as if nothing had been asked")
    return Finding(name, outcome, told, bound=bound_s, unit="s", evidence=(evidence,))
