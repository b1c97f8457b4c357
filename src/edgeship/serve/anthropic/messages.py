"""`/v1/messages`, as Anthropic has it: answers in blocks, whole or as events, and how long a prompt is."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from edgeship.engine.answer import Answer
from edgeship.engine.api import FinishReason, Token, Usage
from edgeship.errors import EdgeshipError
from edgeship.serve import failures, streams
from edgeship.serve.answering import Answers
from edgeship.serve.anthropic.request import Asked, MessagesRequest
from edgeship.serve.messages import read_arguments
from edgeship.serve.server import server_of

router = APIRouter()


@router.post("/v1/messages", responses=streams.DOCUMENTED)
async def create_message(body: MessagesRequest, request: Request) -> Response:
    """The model's answer to a conversation."""
    server = server_of(request)
    opened = await server.open(request, body.model)
    answers = await server.converse(request, opened, body.conversation(opened), [body.sampling()])
    reply = _Reply(opened.card.id, body.max_tokens)
    if body.stream:
        return streams.events(_events(answers, reply), request, _error_event)
    [answer] = await answers.whole()
    return JSONResponse(reply.whole(answer))


@router.post("/v1/messages/count_tokens")
async def count_tokens(body: Asked, request: Request) -> dict[str, int]:
    """How many tokens the prompt of a conversation has."""
    server = server_of(request)
    opened = await server.open(request, body.model)
    prompt = await server.render(opened, body.conversation(opened))
    return {"input_tokens": len(prompt.tokens)}


async def _events(answers: Answers, reply: _Reply) -> AsyncIterator[str]:
    yield _event("message_start", message=reply.message())
    yield _event("ping")
    blocks = _Blocks()
    async for _, step in answers:
        for event in blocks.take(step):
            yield event
        if step.finish is not None:
            assert step.usage, "the last step says what the answer cost"
            for event in blocks.end():
                yield event
            ended = reply.ended(step.finish, step.stopped_by, step.usage)
            yield _event("message_delta", delta=ended, usage=_usage(step.usage))
            yield _event("message_stop")


def _error_event(path: str, error: EdgeshipError) -> str:
    return streams.event(json.dumps(failures.document(path, error)), "error")


def _event(kind: str, **fields: Any) -> str:
    return streams.event(json.dumps({"type": kind} | fields), kind)


class _Reply:
    """The words around an answer."""

    def __init__(self, model: str, max_tokens: int) -> None:
        self._id, self._model, self._max_tokens = f"msg_{uuid.uuid4().hex}", model, max_tokens

    def message(self) -> dict[str, Any]:
        """A message with nothing in it yet."""
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            "usage": _usage(Usage(0, 0, 0, 0)),
        }

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The answer to a request that is no stream."""
        content = [_thinking(answer.thinking)] if answer.thinking else []
        if answer.text or not answer.tool_calls:
            content.append(_text(answer.text))
        content += [_tool_use(call.id, call.name, read_arguments(call)) for call in answer.tool_calls]
        ended = self.ended(answer.finish, answer.stopped_by, answer.usage)
        return self.message() | ended | {"content": content, "usage": _usage(answer.usage)}

    def ended(self, finish: FinishReason, stopped_by: str | None, usage: Usage) -> dict[str, Any]:
        """Why an answer ended."""
        if stopped_by is not None:
            return {"stop_reason": "stop_sequence", "stop_sequence": stopped_by}
        if finish == "tool_calls":
            reason = "tool_use"
        elif finish == "stop":
            reason = "end_turn"
        else:
            # Fewer than were asked for: there was no room for more.
            cut = usage.completion_tokens < self._max_tokens
            reason = "model_context_window_exceeded" if cut else "max_tokens"
        return {"stop_reason": reason, "stop_sequence": None}


class _Blocks:
    """The events of an answer's blocks, which come one after another: each begins, grows and ends."""

    def __init__(self) -> None:
        self._number = -1
        self._kind: str | None = None

    def take(self, step: Token) -> Iterator[str]:
        """What a step adds."""
        if step.thinking:
            yield from self._grow("thinking", _thinking(""), thinking_delta={"thinking": step.thinking})
        if step.text:
            yield from self._grow("text", _text(""), text_delta={"text": step.text})
        for piece in step.calling:
            empty = _tool_use(piece.id, piece.name, {})
            yield from self._grow(f"call {piece.index}", empty, input_json_delta={"partial_json": piece.arguments})

    def end(self) -> Iterator[str]:
        """Ends the last block; an answer of nothing has an empty text."""
        if self._number < 0:
            yield from self._begin("text", _text(""))
        yield from self._stop()

    def _grow(self, kind: str, empty: Mapping[str, Any], **deltas: Mapping[str, Any]) -> Iterator[str]:
        if kind != self._kind:
            yield from self._stop()
            yield from self._begin(kind, empty)
        for name, delta in deltas.items():
            yield self._delta(name, delta)

    def _begin(self, kind: str, empty: Mapping[str, Any]) -> Iterator[str]:
        self._kind, self._number = kind, self._number + 1
        yield _event("content_block_start", index=self._number, content_block=empty)

    def _stop(self) -> Iterator[str]:
        if self._kind is None:
            return
        if self._kind == "thinking":
            yield self._delta("signature_delta", {"signature": ""})
        yield _event("content_block_stop", index=self._number)
        self._kind = None

    def _delta(self, name: str, delta: Mapping[str, Any]) -> str:
        return _event("content_block_delta", index=self._number, delta={"type": name, **delta})


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "citations": None}


def _thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": ""}


def _tool_use(number: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": number, "name": name, "input": arguments, "caller": {"type": "direct"}}


def _usage(usage: Usage) -> dict[str, Any]:
    """What an answer cost: the prompt's tokens that were read, and apart from them those that were known."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_creation": None,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        "server_tool_use": None,
        "service_tier": "standard",
        "inference_geo": None,
    }
