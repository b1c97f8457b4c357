"""One request and what becomes known of it on its way: who asks for what, what it costs, how it ends.

The outermost middleware makes it; what lies within fills it in; the log, the metrics and the keys' limits read it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from edgeship.engine.api import Usage
from edgeship.serve.bodies import Scope

_IN_SCOPE = "edgeship.exchange"
_CURRENT: ContextVar[Exchange | None] = ContextVar("edgeship exchange", default=None)


def _free(_: int) -> None:
    """Nobody counts the tokens of whoever needs no key."""


@dataclass(eq=False)
class Exchange:
    """id: what a client and the log call the request. arrived_s: by `time.perf_counter`.

    key: the name of the API key. priority: who has more goes first. charge: takes tokens from what the key allows.
    waited_s: for a place at the model. first_s: to the first step of an answer.
    finishes: how each of its answers ended. error: the code of what went wrong.
    """

    id: str
    arrived_s: float = field(default_factory=time.perf_counter)
    key: str | None = None
    priority: int = 0
    charge: Callable[[int], object] = _free
    model: str | None = None
    waited_s: float = 0.0
    first_s: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finishes: list[str] = field(default_factory=list)
    error: str | None = None

    def age_s(self) -> float:
        """How long ago it came."""
        return time.perf_counter() - self.arrived_s

    def add(self, usage: Usage, finish: str) -> None:
        """Takes note of how an answer ended and of what it has cost, and charges it."""
        self.finishes.append(finish)
        self.prompt_tokens += usage.prompt_tokens
        self.cached_tokens += usage.cached_tokens
        self.completion_tokens += usage.completion_tokens
        self.charge(usage.prompt_tokens + usage.completion_tokens)


def begin(scope: Scope, request_id: str) -> Exchange:
    """A new one, which belongs to the request of this scope."""
    exchange = Exchange(request_id)
    scope[_IN_SCOPE] = exchange
    _CURRENT.set(exchange)
    return exchange


def of(scope: Scope) -> Exchange:
    """That of a request."""
    exchange: Exchange = scope[_IN_SCOPE]
    return exchange


def current_id() -> str:
    """What the request is called for which this code runs; "-" where it runs for none."""
    exchange = _CURRENT.get()
    return exchange.id if exchange else "-"


def facts(exchange: Exchange) -> dict[str, Any]:
    """What the log says of it; never what was asked or answered."""
    asked = {
        "model": exchange.model,
        "prompt_tokens": exchange.prompt_tokens,
        "cached_tokens": exchange.cached_tokens,
        "completion_tokens": exchange.completion_tokens,
        "waited_s": round(exchange.waited_s, 4),
        "first_s": None if exchange.first_s is None else round(exchange.first_s, 4),
    }
    return {
        "id": exchange.id,
        "key": exchange.key,
        "error": exchange.error,
        "duration_s": round(exchange.age_s(), 4),
        **(asked if exchange.model else {}),
    }
