"""`/v1/chat/completions`, as OpenAI has it, with what vLLM's clients send besides."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from edgeship.engine.answer import Answer, collect
from edgeship.engine.api import CallPiece, Sampling, Token, ToolCall
from edgeship.errors import RequestInvalid
from edgeship.package.conversation import Conversation, ToolChoice
from edgeship.serve import streams, thoughts
from edgeship.serve.answering import Answers
from edgeship.serve.fields import Fields, Several, form_of
from edgeship.serve.logprobs import Spelled, chat_logprobs, check_top, spell
from edgeship.serve.messages import Messages, Tools, in_template
from edgeship.serve.models import Opened
from edgeship.serve.openai.settings import Settings, continuing, for_answer
from edgeship.serve.openai.usage import Usages, usage_of
from edgeship.serve.server import Server, server_of

router = APIRouter()


class FunctionName(Fields):
    """A function by its name."""

    name: str


class NamedTool(Fields):
    """A tool by its name."""

    type: Literal["function"]
    function: FunctionName


class Allowed(Fields):
    """Some of the tools, of which one may or must be called."""

    mode: Literal["auto", "required"]
    tools: Several[NamedTool] = Field(min_length=1)


class AllowedTools(Fields):
    """The same as a choice."""

    type: Literal["allowed_tools"]
    allowed_tools: Allowed


Choice = Annotated[
    Annotated[Literal["auto", "none", "required"], Tag("text")]
    | Annotated[NamedTool | AllowedTools, Field(discriminator="type"), Tag("parts")],
    Discriminator(form_of),
]
"""Whether a tool may or must be called, and which."""


class ChatRequest(Settings):
    """A conversation, and how it is to be answered. continue_final_message, add_generation_prompt: see `continuing`."""

    only = Settings.only | {
        "echo": False,
        "add_special_tokens": False,
        "include_reasoning": True,
        "functions": [],
        "verbosity": "medium",
    }

    messages: Messages
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    tools: Tools | None = None
    tool_choice: Choice = "auto"
    parallel_tool_calls: bool = True
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    continue_final_message: bool = False
    add_generation_prompt: bool | None = None
    modalities: Several[Literal["text"]] | None = None
    service_tier: Literal["auto", "default"] | None = None

    def conversation(self, opened: Opened) -> Conversation:
        """What is to be answered. Raises PromptInvalid, RequestInvalid."""
        continues = continuing(self.continue_final_message, self.add_generation_prompt)
        thinks = self.reasoning_effort not in (None, thoughts.NONE)
        thoughts.require_none(thinks, "reasoning_effort", continues=continues)
        effort = thoughts.effort(opened, self.reasoning_effort, "reasoning_effort")
        choice, allowed = self._chosen()
        return Conversation(
            in_template(self.messages),
            [tool.in_template() for tool in self.tools or ()],
            effort | thoughts.checked(opened, self.chat_template_kwargs),
            tool_choice=choice,
            allowed_tools=allowed,
            parallel_tool_calls=self.parallel_tool_calls,
            continues=continues,
        )

    def _chosen(self) -> tuple[ToolChoice, Sequence[str]]:
        """Whether a tool is called, and which ones may be; none where all may."""
        if isinstance(self.tool_choice, NamedTool):
            return "required", [self.tool_choice.function.name]
        if isinstance(self.tool_choice, AllowedTools):
            some = self.tool_choice.allowed_tools
            return some.mode, [tool.function.name for tool in some.tools]
        return self.tool_choice, ()

    def sampling(self) -> Sampling:
        """How the answer is made. Raises RequestInvalid, ConstraintInvalid."""
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestInvalid("top_logprobs needs logprobs: true", param="top_logprobs")
        check_top(self.top_logprobs, "top_logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise RequestInvalid(
                f"max_tokens is {self.max_tokens}, and max_completion_tokens, which means the same, is "
                f"{self.max_completion_tokens}",
                param="max_tokens",
                hint="Give one of them.",
            )
        limit = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        thinking_tokens = thoughts.most_tokens(self.reasoning_effort)
        return replace(super().sampling(), max_tokens=limit, logprobs=logprobs, thinking_tokens=thinking_tokens)


@router.post("/v1/chat/completions", responses=streams.DOCUMENTED)
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """The model's answer to a conversation."""
    server = server_of(request)
    opened = await server.open(request, body.model)
    conversation = body.conversation(opened)
    with body.naming_constraint():
        sampling = body.sampling()
        samplings = [for_answer(sampling, number) for number in range(body.n)]
        answers = await server.converse(request, opened, conversation, samplings)
    reply = _Reply(body, opened)
    if body.stream:
        return streams.events(_chunks(server, answers, reply), request)
    steps = await answers.steps()
    found = await spell(server, reply.codec, chain(*steps))
    return await server.tell(lambda: reply.whole(steps, found))


async def _chunks(server: Server, answers: Answers, reply: _Reply) -> AsyncIterator[str]:
    """The events of a stream: a role, what comes, why it ends, and what it cost."""
    for number in range(reply.body.n):
        yield reply.chunk(number, {"role": "assistant", "content": ""})
    async for number, step in answers:
        reply.count(number, step)
        if (delta := _delta(step)) or step.logprob:  # a part of a character adds no text yet, and has its own
            logprobs = reply.logprobs_of([step], await spell(server, reply.codec, [step]))
            yield reply.chunk(number, delta, logprobs=logprobs)
        if step.finish is not None:
            yield reply.chunk(number, {}, finish=step.finish)
    if reply.body.tells_usage:
        yield reply.usage_chunk()
    yield streams.DONE


def _delta(step: Token) -> dict[str, Any]:
    """What a step adds to a message."""
    delta: dict[str, Any] = {}
    if step.thinking:
        delta["reasoning_content"] = step.thinking
    if step.text:
        delta["content"] = step.text
    if step.calling:
        delta["tool_calls"] = [_piece(piece) for piece in step.calling]
    return delta


def _piece(piece: CallPiece) -> dict[str, Any]:
    if piece.id is None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": piece.index, "id": piece.id, "type": "function", "function": function}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class _Reply:
    """The answer's words, whole or in chunks."""

    def __init__(self, body: ChatRequest, opened: Opened) -> None:
        self.body, self.codec = body, opened.chat.codec
        self._facts = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": opened.card.id,
        }
        self._usages = Usages(answers=body.n)

    def whole(self, steps: Sequence[Sequence[Token]], spelled: Spelled) -> dict[str, Any]:
        """The answers to a request that is no stream. steps: of each."""
        answers = [collect(each) for each in steps]
        choices = (
            {
                "index": number,
                "message": _message(answer),
                "logprobs": self.logprobs_of(steps[number], spelled),
                "finish_reason": answer.finish,
            }
            for number, answer in enumerate(answers)
        )
        usage = usage_of([answer.usage for answer in answers], answers=self.body.n)
        return self._facts | {"object": "chat.completion", "choices": choices, "usage": usage}

    def chunk(self, number: int, delta: Mapping[str, Any], *, finish: str | None = None, logprobs: Any = None) -> str:
        """One event of a stream."""
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._event([choice], {"usage": self._usages.so_far()} if self.body.tells_usage_always else {})

    def usage_chunk(self) -> str:
        """The event that says what the answers cost."""
        return self._event([], {"usage": self._usages.told()})

    def count(self, number: int, step: Token) -> None:
        """Takes note of what a step cost."""
        self._usages.count(number, step)

    def logprobs_of(self, steps: Sequence[Token], spelled: Spelled) -> Any:
        """Those of these tokens, where they were asked for."""
        return chat_logprobs(steps, spelled) if self.body.logprobs else None

    def _event(self, choices: list[Any], more: Mapping[str, Any]) -> str:
        return streams.event(json.dumps(self._facts | {"object": "chat.completion.chunk", "choices": choices, **more}))


def _message(answer: Answer) -> dict[str, Any]:
    calls = [_call(call) for call in answer.tool_calls]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text if answer.text or not calls else None,
        "refusal": None,
    }
    if answer.thinking:
        message["reasoning_content"] = answer.thinking
    return message | ({"tool_calls": calls} if calls else {})
