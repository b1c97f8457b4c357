"""The same question in the words of each API, and what each says to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from edgeship.package.conversation import text_of
from edgeship.validate.edges.row import LEFT_OUT, Asked, Crowd, Heard, Known, Left, Row, Surface
from edgeship.validate.edges.wire import Reply
from edgeship.validate.requests import shortened

_MOST_TOKENS = 8
DEFAULTS: Mapping[str, Any] = {"max_tokens": _MOST_TOKENS, "temperature": 0}
"""What a body has that says nothing else: answers are short, and the same each time."""
_END = "[DONE]"


def body_for(surface: Surface, model: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
    """A body of Chat Completions as another API has it. Fields that it calls otherwise are renamed, others are kept."""
    asked = {name: value for name, value in {"model": model, **DEFAULTS, **body}.items() if value is not LEFT_OUT}
    if model is None:
        asked.pop("model")
    if surface == "stream":
        return asked | {"stream": True, "stream_options": {"include_usage": True}}
    if surface == "completions":
        return _renamed(asked, {"messages": "prompt"}, lambda messages: text_of(messages[-1]["content"]))
    if surface == "messages":
        return _renamed(asked, {"stop": "stop_sequences"})
    if surface == "responses":
        return _renamed(asked, {"messages": "input", "max_tokens": "max_output_tokens"}) | {"store": False}
    if surface == "ollama":
        options = {
            "num_predict" if name == "max_tokens" else name: asked.pop(name) for name in DEFAULTS if name in asked
        }
        return asked | {"options": options, "stream": False}
    return asked


def _renamed(asked: dict[str, Any], names: Mapping[str, str], value: Any = None) -> dict[str, Any]:
    return {names.get(name, name): value(each) if value and name in names else each for name, each in asked.items()}


def written(body: Mapping[str, Any]) -> bytes:
    """A body as JSON, in which halves of characters are as good as any other; NaN is written as Python writes it."""
    return json.dumps(body).encode()


def read(surface: Surface, reply: Reply, *, form: bool) -> Heard:
    """What a reply says. form: whether an error must have the form of the API that was asked."""
    heard = Heard(reply.status, reply.took_s, reply.end, said=shortened(reply.body.decode("utf-8", "replace")))
    if reply.status is None or reply.end != "whole":
        return heard
    try:
        if surface == "stream" and 200 <= reply.status < 300:
            return _of_stream(heard, reply.body.decode("utf-8"))
        found = json.loads(reply.body.decode("utf-8"))
        if reply.status < 300:
            return _answer(surface, heard, found)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if reply.status < 300 or form:
            return replace(heard, fault=f"it cannot be read ({type(error).__name__}: {error})")
        return heard
    wrong = _error_fault(surface, found) if form and reply.status >= 400 else None
    return replace(heard, fault=wrong)


def _answer(surface: Surface, heard: Heard, found: Any) -> Heard:
    text, finish = _text_of(surface, found)
    if not isinstance(text, str):
        raise TypeError(f"the answer's text is {text!r}")
    usage = found if surface == "ollama" else found.get("usage") or {}
    return replace(
        heard,
        text=text,
        finish=finish,
        prompt_tokens=_count(usage, "prompt_tokens", "input_tokens", "prompt_eval_count"),
        made_tokens=_count(usage, "completion_tokens", "output_tokens", "eval_count"),
    )


def _text_of(surface: Surface, found: Any) -> tuple[Any, Any]:
    if surface == "completions":
        return found["choices"][0]["text"], found["choices"][0]["finish_reason"]
    if surface == "messages":
        texts = [block["text"] for block in found["content"] if block["type"] == "text"]
        return "".join(texts), found["stop_reason"]
    if surface == "responses":
        parts = [part for item in found["output"] if item["type"] == "message" for part in item["content"]]
        return "".join(part["text"] for part in parts if part["type"] == "output_text"), found["status"]
    if surface == "ollama":
        return found["message"]["content"], found.get("done_reason")
    choice = found["choices"][0]
    return choice["message"].get("content") or "", choice["finish_reason"]


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    found = (usage.get(name) for name in names)
    return next((count for count in found if isinstance(count, int)), None)


def _of_stream(heard: Heard, body: str) -> Heard:
    texts: list[str] = []
    finish, ended = None, False
    usage: Mapping[str, Any] = {}
    for data in _events(body):
        ended = data == _END
        if ended:
            continue
        event = json.loads(data)
        if error := event.get("error"):
            return replace(heard, status=_status_of(error), refused_as=str(error))
        for choice in event.get("choices", ()):
            texts.append(choice["delta"].get("content") or "")
            finish = choice.get("finish_reason") or finish
        usage = event.get("usage") or usage
    fault = None if ended else f"its stream ends without {_END}"
    made = _count(usage, "completion_tokens")
    asked = _count(usage, "prompt_tokens")
    return replace(heard, text="".join(texts), finish=finish, prompt_tokens=asked, made_tokens=made, fault=fault)


def _events(body: str) -> Iterator[str]:
    for line in body.split("\n"):
        name, _, value = line.partition(":")
        if name == "data":
            yield value.strip()


def _status_of(error: Any) -> int:
    """What an error within a stream would be as an answer: servers refuse there, too."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 600:
        return code
    invalid = isinstance(error, dict) and "invalid" in str(error.get("type"))
    return 400 if invalid else 500


def _error_fault(surface: Surface, found: Any) -> str | None:
    error = found.get("error") if isinstance(found, dict) else None
    if surface == "ollama":
        fits = isinstance(error, str) and error != ""
    else:
        fits = isinstance(error, dict) and all(isinstance(error.get(name), str) for name in ("message", "type"))
        if surface == "messages":
            fits = fits and found.get("type") == "error"
    return None if fits else "the error has not the form of its API"


def written_text(text: str | None) -> bytes:
    """A text as JSON."""
    return json.dumps(text).encode()


def request_of(row: Row, surface: Surface, known: Known) -> str:
    """What a row asks on a surface, for who reads it."""
    asks = row.asks
    if isinstance(asks, Asked):
        body = asks.of(known)
        return "nothing" if body is None else shortened(json.dumps(body_for(surface, "MODEL", body)))
    if isinstance(asks, Crowd):
        return f"{asks.many} plain questions at the same time"
    return f"a long answer that is {asks.how}" if isinstance(asks, Left) else shortened(repr(asks))
