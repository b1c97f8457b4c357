"""Who may ask, and how much: API keys, each with limits of its own.

A pure ASGI middleware over a ring of keys, which follows its file. What a key allows for a minute is a bucket that
fills steadily: requests are taken from it when they come, tokens when they were used, so that it may be owed some.
"""

from __future__ import annotations

import hmac
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from starlette.datastructures import Headers

from edgeship.errors import EdgeshipError, KeyRefused, RateLimited, UsageError
from edgeship.serve import exchange as exchanges
from edgeship.serve import key_file
from edgeship.serve.bodies import Application, Receive, Refuse, Scope, Send
from edgeship.serve.key_file import Key

OPEN = frozenset({"/", "/favicon.ico", "/health", "/health/live", "/health/ready", "/ready"})
OPEN_BELOW = "/page/"
"""What needs no key: whether the server lives, and the page, which asks for one."""
_MODELS_OF_PAGE = "/page/models"
"""But what the page tells of models does."""
_MINUTE_S = 60.0
_log = logging.getLogger("edgeship.serve")


class Bucket:
    """What is left of so much a minute. clock: the time in seconds."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = per_minute, clock
        self._left, self._at = float(per_minute), clock()

    def wait_s(self, wanted: float) -> float:
        """How long until so much is there; 0 where it is there now."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._most / _MINUTE_S)
        self._at = now
        return max(0.0, (wanted - self._left) * _MINUTE_S / self._most)

    def take(self, amount: float) -> None:
        """Takes as much, whether it is there or not."""
        self._left -= amount


class Holder:
    """A key in use, and what is left of what it allows."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self._requests = Bucket(key.requests_per_minute) if key.requests_per_minute else None
        self._tokens = Bucket(key.tokens_per_minute) if key.tokens_per_minute else None
        self._running = 0

    def begin(self) -> None:
        """Lets a request in, which `end` ends. Raises RateLimited."""
        key = self.key
        if key.concurrent is not None and self._running >= key.concurrent:
            raise _limited(f"{key.concurrent} requests at the same time", 1.0)
        for bucket, wanted, allowed in (
            (self._requests, 1.0, f"{key.requests_per_minute} requests a minute"),
            (self._tokens, 0.0, f"{key.tokens_per_minute} tokens a minute"),
        ):
            if bucket and (wait_s := bucket.wait_s(wanted)):
                raise _limited(allowed, wait_s)
        if self._requests:
            self._requests.take(1.0)
        self._running += 1

    def end(self) -> None:
        """A request is over."""
        self._running -= 1

    def charge(self, tokens: int) -> None:
        """Takes the tokens that an answer has cost."""
        if self._tokens:
            self._tokens.wait_s(0.0)
            self._tokens.take(tokens)


class Keyring:
    """The keys of a file, which is read again whenever it changes. Raises UsageError where it cannot be read at first.

    What cannot be read later is logged, and the keys that were there are good until it is mended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = _state(path)
        self._holders = {key.name: Holder(key) for key in key_file.read(path)}
        if not self._holders:
            raise UsageError("the file of keys holds none", where=str(path), hint="`edgeship key add` adds one.")

    def find(self, given: str | None) -> Holder:
        """Whose key this is. Raises KeyRefused."""
        self._follow()
        if not given:
            raise KeyRefused("this server wants an API key", hint="Send it as `Authorization: Bearer KEY`.")
        wanted, found = key_file.hash_of(given), None
        for holder in self._holders.values():  # all of them, so that the time tells nothing
            if hmac.compare_digest(holder.key.sha256, wanted):
                found = holder
        if found is None:
            raise KeyRefused("this server does not know that API key", hint="See whether it is whole.")
        return found

    def _follow(self) -> None:
        state = _state(self._path)
        if state == self._state:
            return
        self._state = state
        try:
            keys = key_file.read(self._path)
        except EdgeshipError as error:
            _log.error("the file of keys changed and cannot be read, so the old keys are good: %s", error)
            return
        known = self._holders
        self._holders = {
            key.name: known[key.name] if key.name in known and known[key.name].key == key else Holder(key)
            for key in keys
        }


class Keys:
    """Wraps an application: whoever has no key gets no further, and whoever has one is known by its name."""

    def __init__(self, app: Application, *, ring: Keyring, refuse: Refuse) -> None:
        self._app, self._ring, self._refuse = app, ring, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            holder = self._ring.find(_given(Headers(scope=scope)))
            exchange = exchanges.of(scope)
            exchange.key, exchange.priority, exchange.charge = holder.key.name, holder.key.priority, holder.charge
            holder.begin()
        except EdgeshipError as error:
            await self._refuse(scope, error)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            holder.end()


def _given(headers: Headers) -> str | None:
    """The key in a request, as OpenAI's or as Anthropic's clients send it."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" and key.strip() else headers.get("x-api-key")


def _is_open(path: str) -> bool:
    return path in OPEN or (path.startswith(OPEN_BELOW) and not path.startswith(_MODELS_OF_PAGE))


def _limited(allowed: str, wait_s: float) -> RateLimited:
    return RateLimited(
        f"this API key allows {allowed}", hint="Ask again later.", retry_after_s=max(1, math.ceil(wait_s))
    )


def _state(path: Path) -> object:
    """What is another once the file changed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
