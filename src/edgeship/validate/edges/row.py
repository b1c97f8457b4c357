"""A row of the catalogue: something that is asked, where it can be asked, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Surface = Literal["inside", "chat", "stream", "completions", "messages", "responses", "ollama"]
"""Where something is asked. inside: in process, through a Chat; the others are APIs over HTTP, "stream" is chat's."""
Kind = Literal["texts", "control-tokens", "roles", "fields", "settings", "constraints", "bodies", "wire", "clients"]
SURFACES: tuple[Surface, ...] = get_args(Surface)
KINDS: tuple[Kind, ...] = get_args(Kind)

CHATS: tuple[Surface, ...] = ("inside", "chat", "stream")
EVERYWHERE = SURFACES
OVER_HTTP: tuple[Surface, ...] = ("chat", "stream")
LEFT_OUT = object()
"""As the value of a body's field: the field is not sent."""


@dataclass(frozen=True)
class Expect:
    """What may come of a request.

    answered: an answer that is whole. refused: an error from 400 to 499; statuses: these alone, where any are named.
    closed: the connection may be closed without a word. also: statuses from 500 on that are no fault here.
    """

    answered: bool = False
    refused: bool = False
    statuses: tuple[int, ...] = ()
    closed: bool = False
    also: tuple[int, ...] = ()

    def __str__(self) -> str:
        statuses = f" with {' or '.join(map(str, self.statuses))}" if self.statuses else ""
        also = f" or answered with {' or '.join(map(str, self.also))}" if self.also else ""
        ways = ("answered", self.answered), (f"refused{statuses}", self.refused), ("cut off", self.closed)
        return " or ".join(way for way, may in ways if may) + also


ANSWERED, REFUSED = Expect(answered=True), Expect(refused=True)
EITHER = Expect(answered=True, refused=True)
NOT_UNDERSTOOD = (501, 505)
"""Statuses for methods and versions that a server does not know."""
ANY_END = Expect(answered=True, refused=True, closed=True, also=NOT_UNDERSTOOD)


def refused(*statuses: int) -> Expect:
    """Refused with one of these."""
    return Expect(refused=True, statuses=statuses)


@dataclass(frozen=True)
class Known:
    """What is known of a target before it is asked odd things. plain: its answer to the plain question.

    controls: texts of its control tokens; of a server whose tokens are not known, those of common families.
    """

    plain: str
    controls: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """A body as Chat Completions have it, without the model; the other surfaces are given the same in their words.

    body: or what makes it of what is known; None where the target does not let it be made. leaves: the client has
    enough when the answer has begun, and goes.
    """

    body: Mapping[str, Any] | Callable[[Known], Mapping[str, Any] | None]
    leaves: bool = False

    def of(self, known: Known) -> Mapping[str, Any] | None:
        """The body for one target."""
        return self.body(known) if callable(self.body) else self.body


Then = Literal["read", "leave", "leave-midway", "hold"]
"""What a client does once it has sent: reads the answer, goes at once, goes after its first bytes, or stays silent."""


@dataclass(frozen=True)
class Sent:
    """A request byte by byte, which only a socket sends.

    body: of the plain question where it is None; MODEL in it stands for the model's name as JSON. path: that of the
    surface where it is None. length: what Content-Length says, where that is not the truth; None leaves it out.
    headers: besides Host, Content-Type and Content-Length. whole: all bytes of the request, with HOST for the host.
    spoken: whether it is HTTP that reaches the API, so that what is said to it has the form of the API.
    """

    body: bytes | None = None
    method: str = "POST"
    path: str | None = None
    headers: tuple[str, ...] = ()
    content_type: str | None = "application/json"
    length: str | None = "true"
    version: str = "HTTP/1.1"
    whole: bytes | None = None
    then: Then = "read"
    spoken: bool = True


@dataclass(frozen=True)
class Crowd:
    """Some plain questions in turns, many at the same time."""

    many: int


Leaving = Literal["closed", "cancelled", "late"]


@dataclass(frozen=True)
class Left:
    """A long answer in process that is not heard to its end: closed, cancelled, or past its deadline."""

    how: Leaving


@dataclass(frozen=True)
class Heard:
    """What came of a request. status: of HTTP, in process that of the error; None where nothing came.

    text: of the answer. prompt_tokens, made_tokens: where they are told. fault: what is wrong with the answer's form.
    said: the answer as it came, in part. end: how it ended. prompt: in process, the token ids that the question made.
    """

    status: int | None
    took_s: float = 0.0
    end: Literal["whole", "cut", "closed", "late", "left", "unreachable"] = "whole"
    text: str | None = None
    finish: str | None = None
    prompt_tokens: int | None = None
    made_tokens: int | None = None
    fault: str | None = None
    said: str = ""
    refused_as: str | None = None
    prompt: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Seen:
    """What a look at an answer has to go by. first: how the plain question was answered on this surface, in full.

    control_ids: of the target's control tokens, where they are known. shown: a prompt's tokens as text.
    ours: whether what Edgeship promises is looked for besides what every server must do.
    """

    heard: Heard
    body: Mapping[str, Any]
    first: Heard
    known: Known
    control_ids: frozenset[int] = frozenset()
    shown: Callable[[tuple[int, ...]], str] | None = None
    ours: bool = True


Look = Callable[[Seen], str | None]
"""What is wrong with an answer, in words; None where nothing is."""


@dataclass(frozen=True)
class Row:
    """One request. told: what it is, in words. must: of any server. own: of packages and the server over them, where
    Edgeship promises more. elsewhere: the same for the other APIs than Chat Completions, where that is another promise.

    looks: what is looked at in an answer. quick: whether a quick check asks it.
    """

    id: str
    kind: Kind
    told: str
    asks: Asked | Sent | Crowd | Left
    must: Expect
    own: Expect | None = None
    elsewhere: Expect | None = None
    surfaces: tuple[Surface, ...] = CHATS
    looks: tuple[Look, ...] = ()
    quick: bool = False

    def expected(self, surface: Surface, *, ours: bool) -> Expect:
        """What must come of it there. ours: whether the target is a package."""
        if not ours:
            return self.must
        other = None if surface in CHATS else self.elsewhere
        return other or self.own or self.must
