"""A model as a program asks it: questions, answers, streams and schemas over any Chat."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from edgeship.engine.answer import Answer, collect
from edgeship.engine.api import AnswerSteps, Chat, Constraint, Conversation, Message, OnStep, Sampling, Token
from edgeship.engine.response_format import schema_constraint
from edgeship.errors import AnswerInvalid, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    Schema = Mapping[str, Any] | str | type[BaseModel]


class Asking(TypedDict, total=False):
    """How a question is asked; what is left out is the model's own default. See Sampling for most of them.

    system: instructions, before the conversation. tools, variables: for the chat template.
    schema, regex, grammar: what the answer is held to, one of them. A schema is a dict, a JSON text or a pydantic
    model.
    sampling: settings that the others are put on top of.
    cancel: ends the answer once it is set. deadline_s: seconds after which the answer is cut.
    """

    system: str
    tools: Sequence[Mapping[str, Any]]
    variables: Mapping[str, Any]
    schema: Schema
    regex: str
    grammar: str
    sampling: Sampling
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    max_tokens: int
    seed: int
    stop: str | Sequence[str]
    ignore_eos: bool
    logprobs: int
    prompt_logprobs: int
    cancel: threading.Event
    deadline_s: float


class Model:
    """A model that was opened; `edgeship.load` makes it. Any number of threads and tasks may ask it at the same time.

    chat: what answers, an Engine where tokens and scores can be had.
    """

    def __init__(self, chat: Chat) -> None:
        self.chat = chat

    @property
    def context_tokens(self) -> int | None:
        """Tokens of prompt and answer together; None where that is not known."""
        return self.chat.context_tokens

    @property
    def defaults(self) -> Sampling:
        """The settings that hold where none are given."""
        return self.chat.defaults

    @property
    def note(self) -> str | None:
        """What is to be known about how the model is run; None where there is nothing."""
        return self.chat.note

    def ask(self, question: str | Sequence[Message], **how: Unpack[Asking]) -> Answer:
        """The whole answer to a text, or to a conversation.

        Raises UsageError and PromptInvalid for what cannot be asked, ConstraintInvalid for a schema that answers cannot
        be held to, EngineBusy, EngineFailed.
        """
        asked = _read(question, how)
        with closing(asked.begin(self.chat)) as steps:
            return asked.with_value(collect(steps))

    def stream(self, question: str | Sequence[Message], **how: Unpack[Asking]) -> AnswerSteps:
        """The answer as it is made. Closing it, or dropping it, ends the answer. Raises as `ask`."""
        return _read(question, how).begin(self.chat)

    async def ask_async(self, question: str | Sequence[Message], **how: Unpack[Asking]) -> Answer:
        """The same as `ask`; no thread waits for the answer, and cancelling the task ends it."""
        asked = _read(question, how)
        return asked.with_value(collect([step async for step in _steps(self.chat, asked)]))

    def stream_async(self, question: str | Sequence[Message], **how: Unpack[Asking]) -> AsyncGenerator[Token, None]:
        """The same as `stream`, for `async for`."""
        return _steps(self.chat, _read(question, how))

    def close(self) -> None:
        """Frees the model; answers that are not finished, and any later use, raise EngineFailed."""
        self.chat.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


@dataclass(frozen=True)
class _Asked:
    """A question with all that was said of how to answer it."""

    conversation: Conversation
    sampling: Sampling
    schema: Schema | None
    cancel: threading.Event | None
    deadline_s: float | None

    def begin(self, chat: Chat, on_step: OnStep | None = None) -> AnswerSteps:
        return chat.converse(
            self.conversation, self.sampling, cancel=self.cancel, deadline_s=self.deadline_s, on_step=on_step
        )

    def with_value(self, answer: Answer) -> Answer:
        """The answer with what it says in the schema's form. Raises AnswerInvalid."""
        if self.schema is None or answer.finish != "stop":
            return answer
        try:
            return replace(answer, parsed=_parse(self.schema, answer.text))
        except ValueError as error:  # pydantic's is one too
            raise AnswerInvalid(
                f"the answer does not fit the schema: {error}",
                hint="A stop text that cuts it, a model's own checks and servers that ignore schemas can lead to this.",
                answer=answer,
            ) from error


def _read(question: str | Sequence[Message], how: Asking) -> _Asked:
    unknown = sorted(set(how) - set(Asking.__annotations__))
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} is no setting of a question",
            hint=f"Settings: {', '.join(sorted(Asking.__annotations__))}.",
        )
    messages: list[Message] = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
    if "system" in how:
        messages.insert(0, {"role": "system", "content": how["system"]})
    schema = how.get("schema")
    return _Asked(
        Conversation(tuple(messages), tuple(how.get("tools", ())), how.get("variables", {})),
        _sampling(how),
        schema,
        how.get("cancel"),
        how.get("deadline_s"),
    )


def _sampling(how: Asking) -> Sampling:
    known = {field.name for field in fields(Sampling)} - {"constraint"}
    given: dict[str, Any] = {name: value for name, value in how.items() if name in known}
    if "stop" in given:
        stop = given["stop"]
        given["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    constraint = _constraint(how)
    if constraint is not None:
        given["constraint"] = constraint
    return replace(how.get("sampling", Sampling()), **given)


def _constraint(how: Asking) -> Constraint | None:
    given = [name for name in ("schema", "regex", "grammar") if name in how]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other", hint="Give one of them.")
    if "schema" in how:
        return schema_constraint(_schema_text(how["schema"]))
    if "regex" in how:
        return Constraint("regex", how["regex"])
    return Constraint("lark", how["grammar"]) if "grammar" in how else None


def _schema_text(schema: Schema) -> str:
    if isinstance(schema, str):
        return schema
    return json.dumps(schema.model_json_schema() if isinstance(schema, type) else schema)


def _parse(schema: Schema, text: str) -> Any:
    return schema.model_validate_json(text) if isinstance(schema, type) else json.loads(text)


class _Ending(threading.Event):
    """Set once whoever asked is gone, and where the event that they gave is set."""

    def __init__(self, given: threading.Event | None) -> None:
        super().__init__()
        self._given = given

    def is_set(self) -> bool:
        return super().is_set() or (self._given is not None and self._given.is_set())


async def _steps(chat: Chat, asked: _Asked) -> AsyncGenerator[Token, None]:
    """The steps of an answer, handed over to the running event loop by the engine's own thread."""
    loop = asyncio.get_running_loop()
    steps: asyncio.Queue[Token | Exception] = asyncio.Queue()

    def hand_over(step: Token | Exception) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody wants the step any more
            loop.call_soon_threadsafe(steps.put_nowait, step)

    # A task may be cancelled while its answer is being begun, before there is anything to close.
    ending = _Ending(asked.cancel)
    try:
        # To render and encode a long prompt takes a while, in which the loop is to go on.
        handle = await asyncio.to_thread(replace(asked, cancel=ending).begin, chat, hand_over)
        with closing(handle):
            while True:
                step = await steps.get()
                if isinstance(step, Exception):
                    raise step
                yield step
                if step.finish:
                    return
    finally:
        ending.set()
