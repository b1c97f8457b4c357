"""Chat completions as OpenAI has them: what is asked of a server, and the answer's steps out of its stream. Pure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from edgeship.engine.api import CallPiece, Constraint, Conversation, FinishReason, Sampling, Token, ToolCall, Usage
from edgeship.engine.response_format import read_schema
from edgeship.errors import NotSupported, RemoteFailed
from edgeship.system import json_file
from edgeship.system.fields import LARGEST

END = "[DONE]"
"""What a stream's last event says."""
_FINISHES: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_SETTINGS = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "max_tokens", "seed")
_MOST_MESSAGE = 500
_NO_SUCH_API = "Is it the address of an API like OpenAI's?"
# What vLLM and llama.cpp's server take besides, each by the names that they give it.
_EXTRAS = {
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "repetition_penalty": ("repetition_penalty", "repeat_penalty"),
    "ignore_eos": ("ignore_eos",),
    "thinking_tokens": ("thinking_token_budget", "thinking_budget_tokens"),
}


def request(model: str, conversation: Conversation, sampling: Sampling, *, extras: bool) -> dict[str, Any]:
    """The body of a request for a stream.

    extras: whether the server takes what vLLM and llama.cpp's server take besides.
    Raises NotSupported for what it could not be asked, ConstraintInvalid for a schema that is no JSON.
    """
    if conversation.continues:
        raise NotSupported(
            "the server of this model cannot be asked to go on with an answer that was begun",
            hint="Let the last message be the user's.",
        )
    body: dict[str, Any] = {
        "model": model,
        "messages": [dict(message) for message in conversation.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= {name: value for name in _SETTINGS if (value := getattr(sampling, name)) is not None}
    for name, value in _extra_settings(conversation, sampling).items():
        if not extras:
            raise NotSupported(f"an API like OpenAI's has no {name}", hint="Leave it out.")
        body |= dict.fromkeys(_EXTRAS.get(name, (name,)), value)
    if sampling.logprobs is not None or sampling.prompt_logprobs is not None:
        raise NotSupported("log-probabilities of a server's tokens are not read", hint="Leave them out.")
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    body |= _tools(conversation)
    if sampling.constraint:
        body["response_format"] = _response_format(sampling.constraint)
    return body


def _tools(conversation: Conversation) -> dict[str, Any]:
    if not conversation.tools:
        return {}
    found: dict[str, Any] = {"tools": [dict(tool) for tool in conversation.tools]}
    named = [{"type": "function", "function": {"name": name}} for name in conversation.allowed_tools]
    choice = conversation.tool_choice
    if choice == "required" and len(named) == 1:
        found["tool_choice"] = named[0]
    elif named and choice != "none":
        found["tool_choice"] = {"type": "allowed_tools", "allowed_tools": {"mode": choice, "tools": named}}
    elif choice != "auto":
        found["tool_choice"] = choice
    return found if conversation.parallel_tool_calls else found | {"parallel_tool_calls": False}


def _extra_settings(conversation: Conversation, sampling: Sampling) -> dict[str, Any]:
    """What is asked and no part of OpenAI's API."""
    given = {name: getattr(sampling, name) for name in _EXTRAS}
    found = {name: value for name, value in given.items() if value is not None and value is not False}
    return found | ({"chat_template_kwargs": dict(conversation.variables)} if conversation.variables else {})


def _response_format(constraint: Constraint) -> dict[str, Any]:
    if constraint.kind == "json_object":
        return {"type": "json_object"}
    if constraint.kind != "json_schema":
        raise NotSupported(f"an API like OpenAI's has no {constraint.kind}", hint="Give a JSON schema.")
    schema = read_schema(constraint)
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


@dataclass
class _Call:
    """A tool call whose arguments are still coming. told: how many of their characters steps have; None for no step."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    told: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are JSON, and not only the beginning of it."""
        try:
            json_file.parse(self.arguments)
        except ValueError:
            return False
        return True

    def tell(self) -> CallPiece:
        """What steps do not have yet."""
        first, start = self.told is None, self.told or 0
        self.told = len(self.arguments)
        return CallPiece(self.index, self.id if first else None, self.name if first else None, self.arguments[start:])


def is_called(told: str, asked: str, names: Collection[str]) -> bool:
    """Whether a name in a chunk may mean the model that was asked.

    Servers add a date ("gpt-4o-2024-08-06") or a tag (":latest"), and name a file where they were given its path.
    """
    if told in names:
        return True
    told, asked = _plain(told), _plain(asked)
    return told == asked or told.startswith((f"{asked}-20", f"{asked}:"))


def _plain(name: str) -> str:
    return name.casefold().replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")


class Chunks:
    """The steps of one answer out of the chunks of its stream.

    asked_s: when it was asked, by time.perf_counter(). may_answer: whether a model of this name may; None for any.
    """

    def __init__(self, asked_s: float, may_answer: Callable[[str], bool] | None = None) -> None:
        self._asked_s, self._may_answer = asked_s, may_answer
        self._first_s: float | None = None
        self._finish: FinishReason | None = None
        self._stopped_by: str | None = None
        self._calls: dict[int, _Call] = {}
        self._told: Mapping[str, Any] = {}
        self._count = 0

    def push(self, data: str) -> Token | None:
        """The step that a chunk makes, if it makes one. Raises RemoteFailed."""
        try:
            chunk = json_file.parse(data)
        except ValueError as error:
            raise RemoteFailed("the server's stream holds what is no JSON", hint=_NO_SUCH_API) from error
        if not isinstance(chunk, dict):
            _refuse("an event that is no object")
        if chunk.get("error"):
            raise RemoteFailed(f"the server failed in the middle of the answer: {message_of(chunk)}")
        name = chunk.get("model")
        if self._may_answer and isinstance(name, str) and name and not self._may_answer(name):
            raise RemoteFailed(f"another model than the one that was asked answered: {name!r}")
        self._told = _object(chunk, "usage") or self._told
        choices = chunk.get("choices")
        if not choices:
            return None
        if not isinstance(choices, list) or not isinstance(choices[0], dict):
            _refuse("choices that are none")
        return self._take(choices[0])

    def end(self) -> Token:
        """The last step. Raises RemoteFailed where the stream ended before the answer did."""
        if self._finish is None:
            raise RemoteFailed("the server's stream ended before the answer did", hint="Ask again.")
        # A call without arguments has had no step.
        untold = tuple(call.tell() for call in self._calls.values() if call.told is None)
        cut = self._finish == "length"
        whole = [call for call in self._calls.values() if not cut or call.is_whole]
        calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in whole)
        finish: FinishReason = "tool_calls" if calls and not cut else self._finish
        return Token(
            None, "", finish, usage=self.usage(), tool_calls=calls, calling=untold, stopped_by=self._stopped_by
        )

    def usage(self) -> Usage:
        """What it has cost, as the server tells; without that, no prompt and as many tokens as pieces have come."""
        now_s = time.perf_counter()
        details = _object(self._told, "prompt_tokens_details")
        return Usage(
            prompt_tokens=_count(self._told, "prompt_tokens") or 0,
            completion_tokens=_count(self._told, "completion_tokens") or self._count,
            ttft_s=(self._first_s or now_s) - self._asked_s,
            e2e_s=now_s - self._asked_s,
            cached_tokens=_count(details, "cached_tokens") or 0,
            reasoning_tokens=_count(_object(self._told, "completion_tokens_details"), "reasoning_tokens") or 0,
        )

    def _take(self, choice: Mapping[str, Any]) -> Token | None:
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            _refuse("a delta that is no object")
        text = _text(delta, "content") + _text(delta, "refusal")
        thinking = _text(delta, "reasoning_content") or _text(delta, "reasoning")
        calls = delta.get("tool_calls") or ()
        if not isinstance(calls, list | tuple):
            _refuse("tool_calls that are no list")
        taken = map(self._take_call, calls)
        calling = tuple(call.tell() for call in taken if call.arguments and call.told != len(call.arguments))
        reason = choice.get("finish_reason")
        if reason is not None:
            self._finish = _finish(reason)
            stop = choice.get("stop_reason")  # vLLM's; of a token it is the id
            self._stopped_by = stop if isinstance(stop, str) else None
        if not (text or thinking or calls):
            return None
        self._count += 1
        self._first_s = self._first_s or time.perf_counter()
        return Token(None, text, thinking=thinking, calling=calling) if text or thinking or calling else None

    def _take_call(self, delta: Any) -> _Call:
        function = delta.get("function") or {} if isinstance(delta, dict) else None
        if not isinstance(function, dict):
            _refuse("a tool call that is no object")
        index = delta.get("index")
        if index is None:  # from servers that send each call whole
            index = len(self._calls)
        if not isinstance(index, int):
            _refuse("a tool call's index that is no number")
        call = self._calls.setdefault(index, _Call(len(self._calls)))
        call.id = _text(delta, "id") or call.id or f"call_{index}"
        call.name += _text(function, "name")
        call.arguments += _text(function, "arguments")
        return call


def message_of(body: Any) -> str:
    """What a server says went wrong, in any of the forms that servers use."""
    for name in ("error", "detail", "message"):
        if isinstance(body, dict) and body.get(name):
            return message_of(body[name])
    return (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False))[:_MOST_MESSAGE]


def _finish(reason: Any) -> FinishReason:
    if reason == "content_filter":
        raise RemoteFailed("the server withholds the rest of the answer: content_filter")
    if not isinstance(reason, str) or reason not in _FINISHES:
        raise RemoteFailed(f"the server ends the answer for a reason that is not known here: {reason!r}")
    return _FINISHES[reason]


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        _refuse(f"{name} that is no text")
    return value or ""


def _object(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _count(values: Mapping[str, Any], name: str) -> int | None:
    """A count as the server tells it; what is none is left aside, since no answer hangs on it."""
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST else None


def _refuse(what: str) -> NoReturn:
    raise RemoteFailed(f"the server's stream has {what}", hint=_NO_SUCH_API)
