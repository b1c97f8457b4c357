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
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Discriminator, Tag
from starlette.responses import Response

from edgeship.engine.answer import collect
from edgeship.engine.api import Engine, Logprob, Sampling, Token, check_tokens
from edgeship.engine.codec import Codec, Prompt
from edgeship.errors import NotSupported, PromptInvalid, RequestInvalid
from edgeship.serve import streams
from edgeship.serve.answering import Answers, Ask
from edgeship.serve.fields import Several
from edgeship.serve.logprobs import Scored, Spelled, check_top, completion_logprobs, prompt_logprobs, spell
from edgeship.serve.models import Opened
from edgeship.serve.openai.settings import Settings, Tokens, for_answer
from edgeship.serve.openai.usage import Usages
from edgeship.serve.server import Server, server_of

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
    | Annotated[Several[str], Tag("texts")]
    | Annotated[Several[Tokens], Tag("lists of tokens")],
    Discriminator(_kind),
]


class CompletionRequest(Settings):
    """One prompt or several, and how they are to be continued."""

    only = Settings.only | {"suffix": "", "add_special_tokens": True}

    prompt: Prompts
    echo: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None

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
class _Asked:
    """One prompt. text: what is echoed. places: where its tokens begin in that, if they are told."""

    prompt: Prompt
    text: str = ""
    places: tuple[int, ...] = ()


@router.post("/v1/completions", responses=streams.DOCUMENTED)
async def completions(body: CompletionRequest, request: Request) -> Response:
    """How each prompt goes on."""
    server = server_of(request)
    opened = await server.open(request, body.model)
    engine = _engine(opened)
    with body.naming_constraint():
        prompts, sampling = body.prompts(), body.sampling()
        asked = await server.in_thread(lambda: [_read(engine, body, one, field) for field, one in prompts.items()])
        asks: list[Ask] = [
            partial(_stream, engine, one.prompt, for_answer(sampling, number))
            for one in asked
            for number in range(body.n)
        ]
        answers = await server.answer(request, asks)
    reply = _Reply(body, opened.card.id, asked)
    if body.stream:
        return streams.events(_chunks(server, engine.codec, answers, reply), request)
    steps = await answers.steps()
    read = chain(*(one.prompt.tokens for one in asked))
    found = await spell(server, engine.codec, chain(*steps), read)
    # Many log-probabilities take a while.
    return await server.tell(lambda: reply.whole(steps, found))


def _engine(opened: Opened) -> Engine:
    if isinstance(opened.chat, Engine):
        return opened.chat
    raise NotSupported(
        f"{opened.card.id} answers conversations, and takes no prompts", hint="Ask /v1/chat/completions."
    )


def _read(engine: Engine, body: CompletionRequest, given: str | list[int], field: str) -> _Asked:
    try:
        prompt = engine.encode(given) if isinstance(given, str) else Prompt(tuple(given), continues=True)
        limit = engine.context_tokens - 1
        check_tokens(prompt.tokens, limit=limit, vocab_size=engine.vocab_size, cut=engine.context_cut)
    except PromptInvalid as error:
        error.param = field
        raise
    if not body.echo:
        return _Asked(prompt)
    text = given if isinstance(given, str) else engine.codec.decode(given, special=True)
    return _Asked(prompt, text, engine.codec.places(prompt.tokens, text) if body.logprobs is not None else ())


def _stream(
    engine: Engine, prompt: Prompt, sampling: Sampling, cancel: Any, deadline_s: float | None, on_step: Any
) -> Any:
    return engine.stream(prompt, sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step)


async def _chunks(server: Server, codec: Codec, answers: Answers, reply: _Reply) -> AsyncIterator[str]:
    async for number, step in answers:
        found = await spell(server, codec, [step], reply.prompt_tokens(number))
        told = partial(reply.chunk, number, step, found)
        if chunk := await server.in_thread(told) if step.prompt_logprobs else told():
            yield chunk
    if reply.body.tells_usage:
        yield reply.usage_chunk()
    yield streams.DONE


class _Reply:
    """The answers' words, whole or in chunks."""

    def __init__(self, body: CompletionRequest, model: str, asked: Sequence[_Asked]) -> None:
        self.body = body
        self._facts = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        each = [one for one in asked for _ in range(body.n)]
        self._choices = [_Choice(number, body, one) for number, one in enumerate(each)]
        self._usages = Usages(prompts=len(asked), answers=body.n, made=bool(body.new_tokens))

    def prompt_tokens(self, number: int) -> Sequence[int]:
        """Those that an answer follows."""
        return self._choices[number].asked.prompt.tokens

    def whole(self, steps: Sequence[Sequence[Token]], spelled: Spelled) -> dict[str, Any]:
        """The answers to a request that is no stream. steps: of each."""
        for number, each in enumerate(steps):
            self._usages.count(number, each[-1])
        choices = (choice.whole(each, spelled) for choice, each in zip(self._choices, steps, strict=True))
        return self._facts | {"choices": choices, "usage": self._usages.told()}

    def chunk(self, number: int, step: Token, spelled: Spelled) -> str | None:
        """The event of a step; None where it says nothing."""
        self._usages.count(number, step)
        told = self._choices[number].step(step, spelled)
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

    def __init__(self, number: int, body: CompletionRequest, asked: _Asked) -> None:
        self._number, self._body, self.asked = number, body, asked
        self._begun = False

    def whole(self, steps: Sequence[Token], spelled: Spelled) -> dict[str, Any]:
        """A whole answer. spelled: how the tokens of prompt and answer are written, and the likeliest ones."""
        answer = collect(steps)
        return self._told(answer.text, steps, answer.finish, spelled)

    def step(self, step: Token, spelled: Spelled) -> dict[str, Any] | None:
        """What a step adds; None for nothing."""
        told = self._told(step.text, [step], step.finish, spelled)
        adds = told["text"] or told["finish_reason"] or (told["logprobs"] or {}).get("tokens")
        return told if adds or "prompt_logprobs" in told else None

    def _told(self, text: str, steps: Sequence[Token], finish: str | None, spelled: Spelled) -> dict[str, Any]:
        begins, self._begun = not self._begun, True
        of_prompt = steps[0].prompt_logprobs or ()
        if not self._body.new_tokens:
            text, steps, finish = "", [], finish and "length"
        told: dict[str, Any] = {
            "index": self._number,
            "text": self.asked.text + text if begins else text,
            "logprobs": self._logprobs(steps, of_prompt if begins else None, spelled),
            "finish_reason": finish,
        }
        if begins and (top := self._body.prompt_logprobs) is not None:
            told["prompt_logprobs"] = prompt_logprobs(self.asked.prompt.tokens, of_prompt, spelled, top)
        return told

    def _logprobs(
        self, steps: Sequence[Token], of_prompt: Sequence[Logprob] | None, spelled: Spelled
    ) -> dict[str, Any] | None:
        top, asked = self._body.logprobs, self.asked
        if top is None:
            return None
        scored: list[Scored] = []
        if of_prompt is not None and self._body.echo:
            scored += zip(asked.prompt.tokens, (None, *of_prompt), asked.places, strict=True)
        scored += [
            (step.id, step.logprob, len(asked.text) + step.start)
            for step in steps
            if step.id is not None and step.logprob is not None and step.start is not None
        ]
        return completion_logprobs(scored, spelled, top)
