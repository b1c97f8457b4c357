"""`/v1/completions`: a text, or token ids, and how they go on; and how likely the model finds what is there already.

Evaluation harnesses score texts through it: they echo a prompt with its log-probabilities.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from edgeship.engine.answer import Answer
from edgeship.engine.api import Engine, Logprob, Prompt, Sampling, Token, Usage, check_tokens
from edgeship.engine.text import TextCodec
from edgeship.errors import NotSupported, RequestInvalid
from edgeship.serve import streams
from edgeship.serve.answering import Answers, Ask
from edgeship.serve.models import Opened
from edgeship.serve.openai.logprobs import Scored, completion_logprobs
from edgeship.serve.openai.settings import Settings, check_top, for_answer
from edgeship.serve.openai.usage import usage_of
from edgeship.serve.server import server_of

router = APIRouter()
MOST_PROMPTS = 256
"""In one request."""
_NEW_TOKENS = 16
"""Where a request does not say how many, as OpenAI has it."""
Tokens = list[Annotated[int, Field(ge=0)]]


class CompletionRequest(Settings):
    """One prompt or several, and how they are to be continued."""

    prompt: str | Tokens | list[str] | list[Tokens]
    echo: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    best_of: Literal[1] | None = None
    suffix: Literal[""] | None = None

    @property
    def new_tokens(self) -> int:
        """At most, for each prompt."""
        return _NEW_TOKENS if self.max_tokens is None else self.max_tokens

    def prompts(self) -> list[str | list[int]]:
        """One by one. Raises RequestInvalid for none, or too many."""
        given: Any = self.prompt
        alone = isinstance(given, str) or (given and isinstance(given[0], int))
        found = [given] if alone else list(given)
        if not 0 < len(found) <= MOST_PROMPTS:
            raise RequestInvalid(f"{len(found)} prompts; from 1 to {MOST_PROMPTS} are taken", param="prompt")
        return found

    def sampling(self) -> Sampling:
        """How an answer is made. An engine makes a token at least; `max_tokens: 0` leaves that out of the answer."""
        check_top(self.logprobs, "logprobs")
        check_top(self.prompt_logprobs, "prompt_logprobs")
        asked = self.logprobs if self.echo and self.prompt_logprobs is None else self.prompt_logprobs
        return replace(
            super().sampling(),
            max_tokens=self.new_tokens or 1,
            logprobs=self.logprobs,
            prompt_logprobs=asked,
        )


@dataclass(frozen=True)
class _Asked:
    """One prompt. text: as it is echoed."""

    prompt: Prompt
    text: str


@router.post("/v1/completions", responses=streams.DOCUMENTED)
async def completions(body: CompletionRequest, request: Request) -> Response:
    """How each prompt goes on."""
    server = server_of(request)
    opened = await server.open(request, body.model)
    engine, sampling = _engine(opened), body.sampling()
    asked = [await server.in_thread(partial(_read, engine, opened.codec, prompt)) for prompt in body.prompts()]
    asks: list[Ask] = [
        partial(_stream, engine, one.prompt, for_answer(sampling, number)) for one in asked for number in range(body.n)
    ]
    answers = await server.answer(request, asks)
    reply = _Reply(body, opened, [one for one in asked for _ in range(body.n)])
    if body.stream:
        return streams.events(_chunks(answers, reply), request)
    return JSONResponse(reply.whole(await answers.whole()))


def _engine(opened: Opened) -> Engine:
    if isinstance(opened.chat, Engine):
        return opened.chat
    raise NotSupported(
        f"{opened.card.id} answers conversations, and takes no prompts", hint="Ask /v1/chat/completions."
    )


def _read(engine: Engine, codec: TextCodec | None, given: str | list[int]) -> _Asked:
    if isinstance(given, str):
        return _Asked(engine.encode(given), given)
    check_tokens(given, limit=engine.context_tokens, vocab_size=engine.vocab_size)
    return _Asked(Prompt(tuple(given)), codec.decode(given, special=True) if codec else "")


def _stream(
    engine: Engine, prompt: Prompt, sampling: Sampling, cancel: Any, deadline_s: float | None, on_step: Any
) -> Any:
    return engine.stream(prompt, sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step)


async def _chunks(answers: Answers, reply: _Reply) -> AsyncIterator[str]:
    async for number, step in answers:
        if chunk := reply.chunk(number, step):
            yield chunk
    if reply.body.tells_usage:
        yield reply.usage_chunk()
    yield streams.DONE


class _Reply:
    """The answers' words, whole or in chunks. asked: the prompt of each answer."""

    def __init__(self, body: CompletionRequest, opened: Opened, asked: Sequence[_Asked]) -> None:
        self.body, self._codec, self._asked = body, opened.codec, asked
        self._facts = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": opened.card.id,
        }
        self._sent = [0 for _ in asked]
        self._usages: dict[int, Usage] = {}

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The answers to a request that is no stream."""
        choices = [self._choice(number, answer) for number, answer in enumerate(answers)]
        return self._facts | {"choices": choices, "usage": self._usage([answer.usage for answer in answers])}

    def chunk(self, number: int, step: Token) -> str | None:
        """The event of a step; None where it says nothing."""
        if step.usage:
            self._usages[number] = step.usage
        first = self._sent[number] == 0
        text, scored = self._made(step.text, [step] if step.id is not None else [])
        if first and self.body.echo:
            text = self._asked[number].text + text
            scored = [*self._echoed(number, step.prompt_logprobs), *scored]
        if not (text or scored or step.finish):
            return None
        choice = self._told(number, text, scored, self._sent[number], step.finish)
        self._sent[number] += len(text)
        return streams.event(json.dumps(self._facts | {"choices": [choice]}))

    def usage_chunk(self) -> str:
        """The event that says what the answers cost."""
        usage = self._usage([self._usages[number] for number in sorted(self._usages)])
        return streams.event(json.dumps(self._facts | {"choices": [], "usage": usage}))

    def _choice(self, number: int, answer: Answer) -> dict[str, Any]:
        steps = [Token(token, "", logprob=found) for token, found in zip(answer.tokens, answer.logprobs, strict=False)]
        text, scored = self._made(answer.text, steps)
        if self.body.echo:
            text = self._asked[number].text + text
            scored = [*self._echoed(number, answer.prompt_logprobs), *scored]
        choice = self._told(number, text, scored, 0, answer.finish)
        if self.body.prompt_logprobs is not None:
            choice["prompt_logprobs"] = self._prompt_logprobs(number, answer.prompt_logprobs)
        return choice

    def _made(self, text: str, steps: Sequence[Token]) -> tuple[str, list[Scored]]:
        """What was made of an answer, where any of it was asked for."""
        if not self.body.new_tokens:
            return "", []
        return text, [(step.id, step.logprob) for step in steps if step.id is not None and step.logprob]

    def _echoed(self, number: int, found: Sequence[Logprob] | None) -> list[Scored]:
        if self.body.logprobs is None:
            return []
        return list(zip(self._asked[number].prompt.tokens, (None, *(found or ())), strict=False))

    def _told(
        self, number: int, text: str, scored: Sequence[Scored], offset: int, finish: str | None
    ) -> dict[str, Any]:
        told = None
        if self.body.logprobs is not None and self._codec is not None:
            told = completion_logprobs(scored, self._codec, offset)
        return {"index": number, "text": text, "logprobs": told, "finish_reason": finish}

    def _prompt_logprobs(self, number: int, found: Sequence[Logprob]) -> list[Any]:
        """vLLM's own form: of each of the prompt's tokens, the likeliest ones and itself, by their ids."""
        told: list[Any] = [None]
        for token, how in zip(self._asked[number].prompt.tokens[1:], found, strict=False):
            told.append({str(one): {"logprob": logprob} for one, logprob in (*how.top, (token, how.logprob))})
        return told

    def _usage(self, usages: Sequence[Usage]) -> dict[str, Any]:
        """Each prompt counts once, however many answers it has."""
        return usage_of(usages, answers=self.body.n, made=bool(self.body.new_tokens))
