"""Asks what a row asks: in process through a Chat, or over HTTP through a socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from edgeship.engine.api import Chat, Constraint, Conversation, Sampling
from edgeship.engine.response_format import constraint
from edgeship.errors import EdgeshipError, UsageError
from edgeship.package.conversation import tool_fields
from edgeship.system import border
from edgeship.validate import over_http
from edgeship.validate.edges import apis
from edgeship.validate.edges.fields import PLAIN_TOKENS
from edgeship.validate.edges.row import LEFT_OUT, Asked, Crowd, Heard, Known, Leaving, Left, Row, Sent, Surface, Then
from edgeship.validate.edges.texts import QUESTION, said
from edgeship.validate.long_answers import ways
from edgeship.validate.requests import shortened

Meanwhile = Callable[[], object]
MODEL, HOST = b"MODEL", b"HOST"
"""In what is sent byte by byte: the model's name as JSON, and the server's authority."""

_CROWD = (QUESTION, "Where is my parcel?", "One, two, three,", "List three colours, please.")
_LATE_S = 0.001
_PIECES = 3
_SETTINGS = {known.name for known in fields(Sampling)}


class Side(Protocol):
    """One way to a target. surfaces: what can be asked by it."""

    @property
    def surfaces(self) -> tuple[Surface, ...]: ...

    @property
    def within_s(self) -> float:
        """A request that has come to no end after so long hangs."""
        ...

    def given(self, within_s: float, surfaces: tuple[Surface, ...]) -> Side:
        """The same with another patience, and what of it can be asked."""
        ...

    def ask(self, row: Row, surface: Surface, known: Known, meanwhile: Meanwhile) -> Heard | None:
        """What comes of a row; None where this target does not let it be made.

        meanwhile: is done while a client is silent, or an answer in the making.
        """
        ...

    def body(self, surface: Surface, body: Mapping[str, Any]) -> Heard:
        """What comes of a body of Chat Completions there."""
        ...


@dataclass(frozen=True)
class Inside:
    """In process, through a Chat."""

    chat: Chat
    within_s: float
    surfaces: tuple[Surface, ...] = ("inside",)

    def given(self, within_s: float, surfaces: tuple[Surface, ...]) -> Inside:
        """See Side."""
        return replace(self, within_s=within_s, surfaces=surfaces)

    def ask(self, row: Row, surface: Surface, known: Known, meanwhile: Meanwhile) -> Heard | None:
        """See Side."""
        asks = row.asks
        if isinstance(asks, Crowd):
            return _crowd(lambda question: self.body(surface, plain(question)), asks.many)
        if isinstance(asks, Left):
            return self._in_time(lambda: self._left(asks.how, meanwhile))
        assert isinstance(asks, Asked), "bytes are sent over HTTP"
        body = asks.of(known)
        if body is None:
            return None
        return self._in_time(lambda: self._asked(body, leaves=asks.leaves, rendered=bool(row.looks)))

    def body(self, surface: Surface, body: Mapping[str, Any]) -> Heard:
        """See Side."""
        assert surface in self.surfaces, surface
        return self._in_time(lambda: self._asked(body, leaves=False, rendered=True))

    def _in_time(self, work: Callable[[], Heard]) -> Heard:
        begun = time.monotonic()
        try:
            heard = border.within(self.within_s, lambda: _caught(work))
        except border.TookTooLong:
            heard = Heard(None, end="late")
        return replace(heard, took_s=time.monotonic() - begun)

    def _asked(self, body: Mapping[str, Any], *, leaves: bool, rendered: bool) -> Heard:
        conversation, sampling = as_asked(body)
        codec = self.chat.codec
        prompt = codec.render(conversation).tokens if rendered and codec else None
        text, last = "", None
        steps = self.chat.converse(conversation, sampling)
        for last in steps:
            text += last.text
            if leaves and text:
                steps.close()
                return Heard(200, end="left", text=text)
        usage = last.usage if last else None
        return Heard(
            200,
            text=text,
            finish=last.finish if last else None,
            prompt_tokens=usage.prompt_tokens if usage else None,
            made_tokens=usage.completion_tokens if usage else None,
            said=shortened(text),
            fault=None if last and last.finish else "the answer has no last step",
            prompt=prompt,
        )

    def _left(self, how: Leaving, meanwhile: Meanwhile) -> Heard:
        *surest, plain = ways(Sampling(temperature=0, max_tokens=512))
        for way in surest:
            with suppress(UsageError):  # the target cannot be asked so
                return self._ended(how, meanwhile, way)
        return self._ended(how, meanwhile, plain)

    def _ended(self, how: Leaving, meanwhile: Meanwhile, sampling: Sampling) -> Heard:
        cancel = threading.Event()
        asked = Conversation(said(QUESTION)["messages"])
        deadline_s = _LATE_S if how == "late" else None
        steps = self.chat.converse(asked, sampling, cancel=cancel, deadline_s=deadline_s)
        for number, step in enumerate(steps, 1):
            if step.finish in ("cancelled", "deadline"):
                return Heard(200, end="left")
            if number == _PIECES and how == "closed":
                meanwhile()
                steps.close()
                return Heard(200, end="left")
            if number == _PIECES and how == "cancelled":
                cancel.set()
        return Heard(200, fault=f"the answer went on to its end though it was {how}")


def _caught(work: Callable[[], Heard]) -> Heard:
    """Errors of ours are refusals, or faults, by the status that a server gives them; any other is a fault."""
    try:
        return work()
    except EdgeshipError as error:
        return Heard(error.http_status, refused_as=error.what, said=shortened(str(error)))
    except Exception as error:  # whatever escapes is what the check looks for
        return Heard(500, said=shortened(f"{type(error).__name__}: {error}"))


def as_asked(body: Mapping[str, Any]) -> tuple[Conversation, Sampling]:
    """A body of Chat Completions in the engine's words. Raises what these raise for what they cannot be."""
    asked = {name: value for name, value in {**apis.DEFAULTS, **body}.items() if value is not LEFT_OUT}
    settings = {name: value for name, value in asked.items() if name in _SETTINGS}
    if isinstance(settings.get("stop"), str | list):
        settings["stop"] = (settings["stop"],) if isinstance(settings["stop"], str) else tuple(settings["stop"])
    if isinstance(settings.get("logit_bias"), dict):
        settings["logit_bias"] = {_number(token): bias for token, bias in settings["logit_bias"].items()}
    if "response_format" in asked:
        settings["constraint"] = constraint(asked["response_format"])
    if "guided_regex" in asked:
        settings["constraint"] = Constraint("regex", asked["guided_regex"])
    choice = asked.get("tool_choice", "auto")
    choice = choice["function"]["name"] if isinstance(choice, dict) else choice
    return Conversation(asked["messages"], **tool_fields(asked.get("tools", ()), choice)), Sampling(**settings)


def _number(token: Any) -> Any:
    return int(token) if isinstance(token, str) and token.isdecimal() else token


def plain(question: str = QUESTION, tokens: int = PLAIN_TOKENS) -> dict[str, Any]:
    """The plain question, or another that is as plain."""
    return said(question, max_tokens=tokens)


@dataclass(frozen=True)
class OverHttp:
    """Over HTTP. surfaces: the APIs that a server speaks. form: whether errors must have the form of their API."""

    place: over_http.Place
    model: str | None
    within_s: float
    surfaces: tuple[Surface, ...]
    form: bool = False

    def given(self, within_s: float, surfaces: tuple[Surface, ...]) -> OverHttp:
        """See Side."""
        return replace(self, within_s=within_s, surfaces=surfaces)

    def ask(self, row: Row, surface: Surface, known: Known, meanwhile: Meanwhile) -> Heard | None:
        """See Side."""
        asks = row.asks
        if isinstance(asks, Crowd):
            return _crowd(lambda question: self.body(surface, plain(question)), asks.many)
        if isinstance(asks, Sent):
            return self._sent(asks, surface, meanwhile)
        assert isinstance(asks, Asked), "what is left in process is asked there"
        body = asks.of(known)
        if body is None:
            return None
        goes: Then = "leave-midway" if surface == "stream" else "leave"
        return self._posted(surface, body, goes if asks.leaves else "read", form=self.form)

    def body(self, surface: Surface, body: Mapping[str, Any]) -> Heard:
        """See Side."""
        return self._posted(surface, body, "read", form=False)

    def _posted(self, surface: Surface, body: Mapping[str, Any], then: Then, *, form: bool) -> Heard:
        api = apis.API[surface]
        request = over_http.Request(api.path, apis.body_for(surface, self.model, body), headers=api.headers)
        return apis.read(surface, self._exchanged(surface, request, then), form=form)

    def _sent(self, sent: Sent, surface: Surface, meanwhile: Meanwhile) -> Heard:
        body = sent.body
        if body is None:
            body = json.dumps(apis.body_for(surface, self.model, plain())).encode()
        body = body.replace(MODEL, json.dumps(self.model).encode())
        content = in_bytes(self.place, sent, self.place.path(apis.API[surface].path), body)
        reply = self._exchanged(surface, content, sent.then, meanwhile, head=sent.method == "HEAD")
        heard = apis.read(surface, reply, form=self.form and sent.spoken)
        # What a server says to other paths is no answer of the API.
        return heard if sent.spoken else replace(heard, fault=None)

    def _exchanged(
        self,
        surface: Surface,
        request: over_http.Request | bytes,
        then: Then,
        meanwhile: Meanwhile = lambda: None,
        *,
        head: bool = False,
    ) -> over_http.Reply:
        def enough(body: bytearray) -> bool:
            if then == "hold":
                meanwhile()
            return then in ("leave", "hold") or (then == "leave-midway" and bool(body))

        over = apis.API[surface].is_over
        return over_http.exchange(self.place, request, self.within_s, enough=enough, over=over, head=head)


def in_bytes(place: over_http.Place, sent: Sent, path: str, body: bytes) -> bytes:
    """A request that is odd, as it goes over the connection."""
    if sent.whole is not None:
        return sent.whole.replace(HOST, place.authority.encode())
    headers = [f"Content-Type: {sent.content_type}"] if sent.content_type is not None else []
    length = str(len(body)) if sent.length == "true" else sent.length
    headers += [f"Content-Length: {length}"] if length is not None else []
    line = f"{sent.method} {sent.path or path} {sent.version}"
    return over_http.in_bytes(place, line, [*headers, *sent.headers], body)


def _crowd(ask: Callable[[str], Heard], many: int) -> Heard:
    """The worst of what many hear that ask at the same time, which takes until the last of them has heard it.

    An answer that is that to another question is a fault.
    """
    alone = {question: ask(question).text for question in _CROWD}
    asked = [_CROWD[number % len(_CROWD)] for number in range(many)]
    with ThreadPoolExecutor(many) as pool:
        found = list(pool.map(ask, asked))
    judged = [_own_answer(question, heard, alone) for question, heard in zip(asked, found, strict=True)]
    return replace(max(judged, key=_badness), took_s=max(heard.took_s for heard in found))


def _own_answer(question: str, heard: Heard, alone: Mapping[str, str | None]) -> Heard:
    others = [other for other, text in alone.items() if text == heard.text and text != alone[question]]
    if heard.text and others:
        return replace(heard, fault=f"{question!r} got the answer to {others[0]!r}")
    return heard


def _badness(heard: Heard) -> tuple[bool, bool, int]:
    return heard.end not in ("whole", "left"), heard.fault is not None, heard.status or 600
