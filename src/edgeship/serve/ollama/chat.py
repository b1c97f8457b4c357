"""`/api/chat` and `/api/generate`, as Ollama has them: an answer in lines of JSON, or as one object."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from edgeship.engine.answer import collect
from edgeship.engine.api import AnswerSteps, Engine, OnStep, Sampling, Token, ToolCall, Usage
from edgeship.engine.codec import Codec
from edgeship.errors import EdgeshipError, NotSupported
from edgeship.serve import failures, streams
from edgeship.serve.answering import Answers
from edgeship.serve.logprobs import Spelled, chat_logprobs, spell
from edgeship.serve.messages import read_arguments
from edgeship.serve.models import Opened
from edgeship.serve.ollama.names import found
from edgeship.serve.ollama.request import Asked, ChatRequest, GenerateRequest
from edgeship.serve.server import Server, server_of

router = APIRouter()

Said = Callable[[str, str, Sequence[ToolCall]], dict[str, Any]]
"""Text, thoughts and calls as a part of an answer."""
Begin = Callable[[Server, Opened], Awaitable[Answers]]


@router.post("/api/chat", responses=streams.DOCUMENTED)
async def chat(body: ChatRequest, request: Request) -> Response:
    """The model's answer to a conversation; without messages, the model is loaded or unloaded."""

    async def begin(server: Server, opened: Opened) -> Answers:
        return await server.converse(request, opened, body.conversation(opened), [body.sampling()])

    return await _reply(body, request, _message, begin if body.messages else None)


@router.post("/api/generate", responses=streams.DOCUMENTED)
async def generate(body: GenerateRequest, request: Request) -> Response:
    """The model's answer to a prompt; without one, the model is loaded or unloaded."""

    async def begin(server: Server, opened: Opened) -> Answers:
        if body.raw:
            body.require_raw()
            return await _raw(server, request, opened, body.prompt, body.sampling())
        return await server.converse(request, opened, body.conversation(opened), [body.sampling()])

    return await _reply(body, request, _response, begin if body.prompt else None)


async def _raw(server: Server, request: Request, opened: Opened, prompt: str, sampling: Sampling) -> Answers:
    engine = opened.chat
    if not isinstance(engine, Engine):
        raise NotSupported(f"raw: {opened.card.id} takes no prompt without its template", hint="Leave it out.")

    def ask(cancel: Any, deadline_s: float | None, on_step: OnStep) -> AnswerSteps:
        return engine.stream(engine.encode(prompt), sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step)

    return await server.answer(request, [ask])


async def _reply(body: Asked, request: Request, said: Said, begin: Begin | None) -> Response:
    """The response. begin: None where nothing is asked, but for the model to be there or to go."""
    server, reply = server_of(request), _Reply(body, said)
    name = found(server.pool, body.model).id
    if begin is None and body.keep_alive_s == 0:
        await server.pool.unload(name)
        return JSONResponse(reply.nothing("unload"))
    opened = await server.open(request, name, keep_alive_s=body.keep_alive_s)
    reply.opened(opened)
    if begin is None:
        return JSONResponse(reply.nothing("load"))
    answers = await begin(server, opened)
    if body.stream:
        return streams.events(_lines(server, answers, reply), request, _error_line, media_type=streams.LINES)
    steps = [step async for _, step in answers]
    spelled = await spell(server, reply.codec, steps)
    return await server.tell(lambda: reply.whole(steps, spelled))


async def _lines(server: Server, answers: Answers, reply: _Reply) -> AsyncIterator[str]:
    async for _, step in answers:
        if part := reply.part(step, await spell(server, reply.codec, [step])):
            yield _line(part)
        if step.finish is not None:
            assert step.usage, "the last step says what the answer cost"
            yield _line(reply.end(step.finish, step.usage))


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value) + "\n"


def _error_line(path: str, error: EdgeshipError) -> str:
    return _line(failures.document(path, error))


class _Reply:
    """The words around an answer, and how long all of it took."""

    def __init__(self, body: Asked, said: Said) -> None:
        self._body, self._said = body, said
        self._began_s = time.perf_counter()
        self._load_s = 0.0
        self.codec: Codec | None = None

    def opened(self, opened: Opened) -> None:
        """The model is there."""
        self.codec, self._load_s = opened.chat.codec, time.perf_counter() - self._began_s

    def part(self, step: Token, spelled: Spelled) -> dict[str, Any] | None:
        """What a step adds; None where that is nothing."""
        logprobs = self._logprobs([step], spelled)
        if not (step.text or step.thinking or step.tool_calls or logprobs.get("logprobs")):
            return None
        return self._facts(step.text, step.thinking, step.tool_calls) | {"done": False} | logprobs

    def end(self, finish: str, usage: Usage) -> dict[str, Any]:
        """What ends a stream."""
        return self._facts() | self._done(finish) | self._times(usage)

    def whole(self, steps: Sequence[Token], spelled: Spelled) -> dict[str, Any]:
        """The answer to a request that is no stream."""
        answer = collect(steps)
        facts = self._facts(answer.text, answer.thinking, answer.tool_calls)
        return facts | self._done(answer.finish) | self._logprobs(steps, spelled) | self._times(answer.usage)

    def nothing(self, why: str) -> dict[str, Any]:
        """The answer to a request without a question."""
        return self._facts() | self._done(why)

    def _facts(self, text: str = "", thinking: str = "", calls: Sequence[ToolCall] = ()) -> dict[str, Any]:
        created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {"model": self._body.model, "created_at": created} | self._said(text, thinking, calls)

    def _done(self, reason: str) -> dict[str, Any]:
        return {"done": True, "done_reason": "stop" if reason == "tool_calls" else reason}

    def _logprobs(self, steps: Sequence[Token], spelled: Spelled) -> dict[str, Any]:
        return {"logprobs": chat_logprobs(steps, spelled)["content"]} if self._body.logprobs else {}

    def _times(self, usage: Usage) -> dict[str, Any]:
        return {
            "total_duration": _nanoseconds(time.perf_counter() - self._began_s),
            "load_duration": _nanoseconds(self._load_s),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(usage.ttft_s - usage.queue_s),
            "eval_count": usage.completion_tokens,
            "eval_duration": _nanoseconds(usage.e2e_s - usage.ttft_s),
        }


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


def _message(text: str, thinking: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = [_call(number, call) for number, call in enumerate(calls)]
    return {"message": message}


def _response(text: str, thinking: str, calls: Sequence[ToolCall]) -> dict[str, Any]:  # noqa: ARG001 - has no tools
    return {"response": text} | ({"thinking": thinking} if thinking else {})


def _call(number: int, call: ToolCall) -> dict[str, Any]:
    function = {"index": number, "name": call.name, "arguments": read_arguments(call)}
    return {"id": call.id, "function": function}
