"""Clients that go, and a model's process that is killed, as those meet it who ask a server."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from edgeship.system import processes
from edgeship.validate.apis import CHAT
from edgeship.validate.long_answers import ENOUGH_S, ENOUGH_STEPS
from edgeship.validate.over_http import Reply, Request, exchange
from edgeship.validate.recovery.bounds import RecoveryBounds
from edgeship.validate.recovery.together import together
from edgeship.validate.server import Server
from edgeship.validate.verdict import Evidence, Finding

_FREES = "client-gone-frees"
_WORKER = "edgeship.engine.isolated_worker"
_QUESTION = "Write a long story about a lighthouse keeper and her dog."
_SHORT_TOKENS, _LONG_TOKENS, _CLIENTS = 4, 4096, 6
_LOOK_S, _LEAST_S = 0.05, 0.5
"""How often it is looked what is at work, and the least time within which that says anything."""
_LOOKS = 20
"""So often it is looked what others have at work before any client comes."""
_EVENT = b"data:"
_BUSY = re.compile(
    rb"^\w+:?_?(?:num_requests_(?:running|waiting)|requests_(?:processing|deferred))(?:\{.*\})? (\S+)$", re.M
)
"""Requests at work and in line, by the names of Edgeship's and vLLM's metrics, and of llama.cpp's."""


@dataclass(frozen=True)
class _Others:
    """The fewest and the most requests that were at work while none of ours was."""

    least: float = 0.0
    most: float = 0.0


def _asked(server: Server, tokens: int, *, stream: bool = False, **more: Any) -> Request:
    messages = [{"role": "user", "content": _QUESTION}]
    body = {"model": server.model, "messages": messages, "max_tokens": tokens, "temperature": 0, **more}
    return CHAT.request(body, stream=stream)


def _answers(server: Server, asked: Request, bounds: RecoveryBounds) -> bool:
    """Whether an answer comes, and is whole."""
    reply = exchange(server.place, asked, bounds.max_restart_s)
    return reply.status == HTTPStatus.OK and not reply.fault


def _short(server: Server, bounds: RecoveryBounds) -> bool:
    return _answers(server, _asked(server, _SHORT_TOKENS), bounds)


def _long(server: Server, bounds: RecoveryBounds) -> Request:
    """A request for a long answer, which does not end early where the server can be told so."""
    takes_it = _answers(server, _asked(server, 1, ignore_eos=True), bounds)
    return _asked(server, _LONG_TOKENS, stream=True, **({"ignore_eos": True} if takes_it else {}))


def gone_findings(server: Server, bounds: RecoveryBounds) -> Iterator[Finding]:
    """Whether clients that go in the middle of their answers leave anything behind."""
    others = _others(server, bounds)
    asked = _long(server, bounds)
    _, usual_s = together([partial(_short, server, bounds)] * _CLIENTS, bounds.max_restart_s)

    def go() -> None:
        exchange(server.place, asked, bounds.max_restart_s, enough=bool)

    whole_s = _whole_s(server, asked, bounds) if others else 0.0
    together([go] * _CLIENTS, bounds.max_restart_s)
    if others is None:
        yield _untold(server, bounds)
    else:
        yield _freed(server, asked, bounds.max_freeing_share * whole_s, others, bounds)
    most_s = bounds.max_slowdown_ratio * usual_s + bounds.max_freeing_s
    found, took_s = together([partial(_short, server, bounds)] * _CLIENTS, most_s)
    if (good := found.count(True)) < _CLIENTS:
        told = f"After clients have gone only {good} of {_CLIENTS} are answered within {most_s:.1f} s."
        yield _finding("client-gone-then-answers", told, asked, most_s)
        return
    told = f"After clients have gone {_CLIENTS} are answered in {took_s:.2f} s (at most {most_s:.1f} s)."
    yield Finding("client-gone-then-answers", "pass", told, took_s, most_s, "s")


def _whole_s(server: Server, asked: Request, bounds: RecoveryBounds) -> float:
    """How long the same answers go on at least; they are read no further where more would say no more."""
    begun_s = time.monotonic()

    def long_enough(body: bytearray) -> bool:
        lasted = time.monotonic() - begun_s > ENOUGH_S and body.count(_EVENT) >= ENOUGH_STEPS
        return lasted or CHAT.is_over(body)

    def read() -> None:
        exchange(server.place, asked, bounds.max_freeing_s / bounds.max_freeing_share, enough=long_enough)

    return together([read] * _CLIENTS, bounds.max_restart_s)[1]


def _freed(server: Server, asked: Request, part_s: float, others: _Others, bounds: RecoveryBounds) -> Finding:
    """Whether nothing is at work any more soon after clients have gone; of a server that tells what is.

    part_s: so soon the answers' own end would not explain it.
    """
    most_s, begun, fewest = min(bounds.max_freeing_s, part_s), time.monotonic(), math.inf
    shown = most_s >= min(bounds.max_freeing_s, _LEAST_S)
    while busy := _at_work(server, bounds):
        fewest = min(fewest, busy)
        if (passed_s := time.monotonic() - begun) > (most_s if shown else bounds.max_freeing_s):
            return _not_freed(asked, fewest, passed_s, most_s, others)
        time.sleep(_LOOK_S)
    if busy is None:
        return _untold(server, bounds)
    if not shown:
        whole_s = part_s / bounds.max_freeing_share
        told = f"The answers are over so soon, after {whole_s:.2f} s, that nothing shows who noticed."
        return Finding(_FREES, "skipped", told)
    took_s = time.monotonic() - begun
    told = f"{took_s:.2f} s after {_CLIENTS} clients have gone nothing is at work (at most {most_s:.2f} s)."
    return Finding(_FREES, "pass", told, took_s, most_s, "s")


def _not_freed(asked: Request, fewest: float, passed_s: float, most_s: float, others: _Others) -> Finding:
    """Of a server that had always something at work after the clients had gone: theirs, or that of others.

    fewest: so much it always had.
    """
    told = f"{passed_s:.2f} s after {_CLIENTS} clients have gone {fewest:g} requests are at work"
    if not others.most:
        return _finding(_FREES, f"{told}.", asked, most_s)
    told = f"{told}, and before they came {others.least:g} to {others.most:g} of others were"
    if not others.least and fewest > others.most:
        return _finding(_FREES, f"{told}.", asked, most_s)
    return Finding(
        _FREES, "undecided", f"{told}: nothing tells whose they are.", decided_by="A server that nobody else asks."
    )


def _others(server: Server, bounds: RecoveryBounds) -> _Others | None:
    """What others have at work, where it is looked several times; None where the server does not tell it."""
    if server.pid is not None:  # it was started here, and nobody else knows of it
        return None if _at_work(server, bounds) is None else _Others()
    found: list[float] = []
    while len(found) < _LOOKS:
        if (busy := _at_work(server, bounds)) is None:
            return None
        found.append(busy)
        time.sleep(_LOOK_S)
    return _Others(min(found), max(found))


def _metrics(server: Server, bounds: RecoveryBounds) -> Reply:
    return exchange(server.place, Request("/metrics", method="GET"), bounds.max_restart_s)


def _at_work(server: Server, bounds: RecoveryBounds) -> float | None:
    """Requests that run and wait, as the server's metrics tell it; None where it tells nothing."""
    said = _metrics(server, bounds)
    numbers = _BUSY.findall(said.body) if said.status == HTTPStatus.OK else []
    return sum(map(float, numbers)) if numbers else None


def _untold(server: Server, bounds: RecoveryBounds) -> Finding:
    """Of a server that does not tell what is at work."""
    said = _metrics(server, bounds)
    why = "and names no requests that run or wait"
    if said.status != HTTPStatus.OK:
        why = f"with {said.status}" if said.status else f"with nothing: {said.fault or said.end}"
    told = f"Whether what {_CLIENTS} clients held is free after they have gone is not known: the server answers"
    return Finding(_FREES, "skipped", f"{told} /metrics {why}.")


def killed_finding(server: Server, bounds: RecoveryBounds) -> Finding:
    """Whether a server that was started here comes back when its model's process is killed while it answers."""
    assert server.pid, "what somebody else runs is left alone"
    name, asked = "killed-while-served", _long(server, bounds)
    pids = processes.descendants(server.pid, _WORKER)
    if not pids:
        return Finding(name, "skipped", "The model has no process of its own.")
    begun = threading.Barrier(_CLIENTS + 1)

    def answered() -> bool:
        """Whether it came to an end of some kind."""
        met: list[int] = []

        def over(body: bytearray) -> bool:
            if body and not met:
                met.append(begun.wait(bounds.max_restart_s))
            return CHAT.is_over(body)

        try:
            reply = exchange(server.place, asked, math.inf, silent_s=bounds.max_restart_s, enough=over)
        except threading.BrokenBarrierError:
            return True
        return reply.end != "late"

    def killing() -> bool:
        begun.wait(bounds.max_restart_s)
        for pid in pids:
            processes.kill(pid)
        return True

    works = [answered] * _CLIENTS + [killing]
    found, _ = together(works, 2 * bounds.max_restart_s)
    if found.count(True) < len(works):
        told = f"The model's process was killed, and {len(works) - found.count(True)} of {_CLIENTS} answers hang."
        return _finding(name, told, asked, bounds.max_restart_s)
    [(back, took_s)] = [together([partial(_back, server, bounds)], bounds.max_restart_s)]
    if back != [True]:
        told = (
            f"The model's process was killed, and the server does not answer again within {bounds.max_restart_s:g} s."
        )
        return _finding(name, told, asked, bounds.max_restart_s)
    most = f"at most {bounds.max_restart_s:g} s"
    told = f"The model's process was killed, and the server answers again after {took_s:.1f} s ({most})."
    return Finding(name, "pass", told, took_s, bounds.max_restart_s, "s")


def _back(server: Server, bounds: RecoveryBounds) -> bool:
    until = time.monotonic() + bounds.max_restart_s
    while time.monotonic() < until:
        if _short(server, bounds):
            return True
        time.sleep(_LOOK_S)
    return False


def _finding(name: str, told: str, asked: Request, bound_s: float) -> Finding:
    evidence = Evidence(f"recovery/{name}", asked.as_evidence(), told, "it is as if nothing had been asked")
    return Finding(name, "fail", told, bound=bound_s, unit="s", evidence=(evidence,))
