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
from pydantic import Discriminator, Field, Tag
from starlette.responses import JSONResponse, Response

from edgeship.engine.answer import Answer
from edgeship.engine.api import Engine, Logprob, Prompt, Sampling, Token, check_tokens
from edgeship.engine.text import TextCodec
from edgeship.errors import NotSupported, PromptInvalid, RequestInvalid
from edgeship.serve import streams
from edgeship.serve.answering import Answers, Ask
from edgeship.serve.models import Opened
from edgeship.serve.openai.logprobs import Offsets, completion_logprobs, joined, prompt_logprobs
from edgeship.serve.openai.settings import Settings, Tokens, check_top, for_answer
from edgeship.serve.openai.usage import Usages
from edgeship.serve.server import server_of

router = APIRouter()
MOST_PROMPTS = 256
"""In one request, with each counted as often as it is to be answered."""
_NEW_TOKENS = 16
"""Where a request does not say how many, as OpenAI has it."""


def _kind(given: Any) -> str:
    """What a prompt is, by its first element: of a list that is none of these, that is told which it should be."""
    if not isinstance(given, list):
        return "text"
    first = given[0] if given else 0
    return "texts" if isinstance(first, str) else "lists of tokens" if isinstance(first, list) else "tokens"


Prompts = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[Tokens, Tag("tokens")]
    | Annotated[list[str], Field(fail_fast=True), Tag("texts")]
    | Annotated[list[Tokens], Field(fail_fast=True), Tag("lists of tokens")],
    Discriminator(_kind),
]


class CompletionRequest(Settings):
    """One prompt or several, and how they are to be continued."""

    prompt: Prompts
    echo: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    best_of: Literal[1] | None = None
    suffix: Literal[""] | None = None

    @property
    def new_tokens(self) -> int:
        """At most, for each prompt."""
        return _NEW_TOKENS if self.max_tokens is None else self.max_tokens

    def prompts(self) -> dict[str, str | list[int]]:
        """One by one, by the field that each stands in. Raises RequestInvalid for none, or too many."""
        found: Any = [self.prompt] if self.prompt and _kind(self.prompt) in ("text", "tokens") else self.prompt
        if not 0 < len(found) * self.n <= MOST_PROMPTS:
            counted = f"{len(found)} prompts" + (f" with {self.n} answers each" if self.n > 1 else "")
            raise RequestInvalid(f"{counted}; from 1 to {MOST_PROMPTS} are taken", param="prompt")
        return {"prompt": found[0]} if len(found) == 1 else {f"prompt[{place}]": one for place, one in enumerate(found)}

    def sampling(self) -> Sampling:
        """How an answer is made. An engine makes a token at least; `max_tokens: 0` leaves that out of the answer."""
        check_top(self.logprobs, "logprobs")
        check_top(self.prompt_logprobs, "prompt_logprobs")
        of_prompt = [self.prompt_logprobs, self.logprobs if self.echo else None]
        return replace(
            super().sampling(),
            max_tokens=self.new_tokens or 1,
            logprobs=self.logprobs,
            prompt_logprobs=max((count for count in of_prompt if count is not None), default=None),
        )


@dataclass(frozen=True)
class _Model:
    """What is asked, and its tokenizer."""

    id: str
    engine: Engine
    codec: TextCodec


@dataclass(frozen=True)
class _Asked:
    """One prompt. text: as it is echoed."""

    prompt: Prompt
    text: str


@router.post("/v1/completions", responses=streams.DOCUMENTED)
async def completions(body: CompletionRequest, request: Request) -> Response:
    """How each prompt goes on."""
    server = server_of(request)
    model = _model(await server.open(request, body.model))
    with body.naming_constraint():
        prompts, sampling = body.prompts(), body.sampling()
        asked = await server.in_thread(lambda: [_read(model, prompt, field) for field, prompt in prompts.items()])
        asks: list[Ask] = [
            partial(_stream, model.engine, one.prompt, for_answer(sampling, number))
            for one in asked
            for number in range(body.n)
        ]
        answers = await server.answer(request, asks)
    reply = _Reply(body, model, asked, anew=sampling.constraint is not None)
    if body.stream:
        return streams.events(_chunks(answers, reply), request)
    found = await answers.whole()
    return JSONResponse(await server.in_thread(lambda: reply.whole(found)))  # many log-probabilities take a while


def _model(opened: Opened) -> _Model:
    if isinstance(opened.chat, Engine) and opened.codec is not None:
        return _Model(opened.card.id, opened.chat, opened.codec)
    raise NotSupported(
        f"{opened.card.id} answers conversations, and takes no prompts", hint="Ask /v1/chat/completions."
    )


def _read(model: _Model, given: str | list[int], field: str) -> _Asked:
    engine = model.engine
    try:
        prompt = engine.encode(given) if isinstance(given, str) else Prompt(tuple(given), continues=True)
        limit = engine.context_tokens - 1
        check_tokens(prompt.tokens, limit=limit, vocab_size=engine.vocab_size, cut=engine.context_cut)
    except PromptInvalid as error:
        error.param = field
        raise
    return _Asked(prompt, given if isinstance(given, str) else model.codec.decode(given, special=True))


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
    """The answers' words, whole or in chunks. anew: they begin as if no text stood before them."""

    def __init__(self, body: CompletionRequest, model: _Model, asked: Sequence[_Asked], *, anew: bool) -> None:
        self.body = body
        self._facts = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model.id,
        }
        each = [one for one in asked for _ in range(body.n)]
        self._choices = [_Choice(number, body, model.codec, one, anew=anew) for number, one in enumerate(each)]
        self._usages = Usages(prompts=len(asked), answers=body.n, made=bool(body.new_tokens))

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The answers to a request that is no stream."""
        for number, answer in enumerate(answers):
            self._usages.count(number, Token(None, "", usage=answer.usage))
        choices = [choice.whole(answer) for choice, answer in zip(self._choices, answers, strict=True)]
        return self._facts | {"choices": choices, "usage": self._usages.told()}

    def chunk(self, number: int, step: Token) -> str | None:
        """The event of a step; None where it says nothing."""
        self._usages.count(number, step)
        told = self._choices[number].step(step)
        if told is None:
            return None
        return self._event([told], {"usage": self._usages.so_far()} if self.body.tells_usage_always else {})

    def usage_chunk(self) -> str:
        """The event that says what the answers cost."""
        return self._event([], {"usage": self._usages.told()})

    def _event(self, choices: list[Any], more: dict[str, Any]) -> str:
        return streams.event(json.dumps(self._facts | {"choices": choices, **more}))


class _Choice:
    """One answer, told at once or step by step. The first time, that which is echoed goes before it."""

    def __init__(self, number: int, body: CompletionRequest, codec: TextCodec, asked: _Asked, *, anew: bool) -> None:
        self._number, self._body, self._codec, self._asked = number, body, codec, asked
        goes_on = codec.stream(() if anew else asked.prompt.tokens)
        self._offsets = Offsets(goes_on, len(asked.text) if body.echo else 0)
        self._begun = False

    def whole(self, answer: Answer) -> dict[str, Any]:
        """A whole answer."""
        steps = [Token(token, "", logprob=found) for token, found in zip(answer.tokens, answer.logprobs, strict=False)]
        return self._told(answer.text, steps, answer.prompt_logprobs, answer.finish)

    def step(self, step: Token) -> dict[str, Any] | None:
        """What a step adds; None for nothing."""
        told = self._told(step.text, [step], step.prompt_logprobs or (), step.finish)
        adds = told["text"] or told["finish_reason"] or (told["logprobs"] or {}).get("tokens")
        return told if adds or "prompt_logprobs" in told else None

    def _told(
        self, text: str, steps: Sequence[Token], of_prompt: Sequence[Logprob], finish: str | None
    ) -> dict[str, Any]:
        begins, self._begun = not self._begun, True
        if not self._body.new_tokens:
            text, steps, finish = "", [], finish and "length"
        told: dict[str, Any] = {
            "index": self._number,
            "text": self._asked.text + text if begins and self._body.echo else text,
            "logprobs": self._logprobs(steps, of_prompt if begins else None),
            "finish_reason": finish,
        }
        if begins and (top := self._body.prompt_logprobs) is not None:
            told["prompt_logprobs"] = prompt_logprobs(self._asked.prompt.tokens, of_prompt, self._codec, top)
        return told

    def _logprobs(self, steps: Sequence[Token], of_prompt: Sequence[Logprob] | None) -> dict[str, Any] | None:
        top = self._body.logprobs
        if top is None:
            return None
        scored = [(step.id, step.logprob) for step in steps if step.id is not None and step.logprob]
        made = completion_logprobs(scored, self._codec, self._offsets, top)
        if of_prompt is None or not self._body.echo:
            return made
        tokens = self._asked.prompt.tokens
        echoed = zip(tokens, (None, *of_prompt), strict=True)
        return joined(completion_logprobs(echoed, self._codec, self._of_echo(tokens), top), made)

    def _of_echo(self, tokens: Sequence[int]) -> Offsets:
        """A tokenizer puts special tokens around a text that are not part of it; those that are written there are."""
        written = self._codec.decode(tokens, special=True) == self._asked.text
        return Offsets(self._codec.stream(special=written))
