"""The same question by each surface, and what is heard there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeship.measure.cases import schemas
from edgeship.validate.apis import CHAT, COMPLETIONS, MESSAGES, OLLAMA_CHAT, RESPONSES
from edgeship.validate.apis.api import UNENDED, Api
from edgeship.validate.apis.told import Told
from edgeship.validate.edges.row import LEFT_OUT, Asked, Crowd, Heard, Known, Left, Row, Surface
from edgeship.validate.over_http import Reply
from edgeship.validate.requests import shortened

_MOST_TOKENS = 8
DEFAULTS: Mapping[str, Any] = {"max_tokens": _MOST_TOKENS, "temperature": 0}
"""What a body has that says nothing else: answers are short, and the same each time."""
API: Mapping[Surface, Api] = {
    "inside": CHAT,
    "chat": CHAT,
    "stream": CHAT,
    "completions": COMPLETIONS,
    "responses": RESPONSES,
    "messages": MESSAGES,
    "ollama": OLLAMA_CHAT,
}
"""In whose words each surface is asked."""


def body_for(surface: Surface, model: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
    """A body of Chat Completions as a surface has it."""
    named = {} if model is None else {"model": model}
    asked = {name: value for name, value in {**named, **DEFAULTS, **body}.items() if value is not LEFT_OUT}
    return API[surface].body(asked, stream=surface == "stream")


def read(surface: Surface, reply: Reply, *, form: bool) -> Heard:
    """What a reply says. form: whether an error must have the form of the API that was asked."""
    heard = Heard(reply.status, reply.took_s, reply.end, said=shortened(reply.body.decode("utf-8", "replace")))
    if reply.status is None or reply.end != "whole":
        return heard
    answered = reply.status < 300
    try:
        if surface == "stream" and answered:
            return _of_stream(API[surface], heard, reply.body)
        found = json.loads(reply.body.decode("utf-8"))
        if answered:
            told = Told()
            API[surface].read(told, found)
            return _as_told(heard, told)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return replace(
            heard, fault=f"it cannot be read ({type(error).__name__}: {error})" if answered or form else None
        )
    wrong = form and reply.status >= 400 and schemas.fault(API[surface].error, found)
    return replace(heard, fault=f"the error has not the form of its API ({wrong})" if wrong else None)


def _of_stream(api: Api, heard: Heard, body: bytes) -> Heard:
    told = Told()
    for event in api.events(body, told.faults):
        if event.data is None:
            continue
        if error := event.data.get("error"):
            return replace(heard, status=_status_of(error), refused_as=str(error))
        api.piece(told, event.data)
    if not api.is_over(body):
        told.faults.append(UNENDED)
    return replace(_as_told(heard, told), fault=next(iter(told.faults), None))


def _as_told(heard: Heard, told: Told) -> Heard:
    prompt, made = told.prompt_tokens, told.completion_tokens
    return replace(heard, text=told.text, finish=told.finish, prompt_tokens=prompt, made_tokens=made)


def _status_of(error: Any) -> int:
    """What an error within a stream would be as an answer: servers refuse there, too."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 600:
        return code
    invalid = isinstance(error, dict) and "invalid" in str(error.get("type"))
    return 400 if invalid else 500


def request_of(row: Row, surface: Surface, known: Known) -> str:
    """What a row asks on a surface, for who reads it."""
    asks = row.asks
    if isinstance(asks, Asked):
        body = asks.of(known)
        return "nothing" if body is None else shortened(json.dumps(body_for(surface, "MODEL", body)))
    if isinstance(asks, Crowd):
        return f"{asks.many} plain questions at the same time"
    return f"a long answer that is {asks.how}" if isinstance(asks, Left) else shortened(repr(asks))
