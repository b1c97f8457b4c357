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
from edgeship.package.conversation import tool_fields

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    Form = Mapping[str, Any] | str | TypeAdapter[Any]


class Asking(TypedDict, total=False):
    """How a question is asked; what is left out, or None, is the model's own default. See Sampling for most of them.

    system: instructions, before the conversation. variables: for the chat template.
    tools: functions that the model may call, as OpenAI describes them; see Conversation. tool_choice: "auto", "none",
    "required", or the name of the one function that is to be called. parallel_tool_calls: several in one answer.
    schema, regex, grammar: what the answer is held to, one of them. A schema is a dict, a JSON text, or a
    pydantic model or another type that pydantic can describe.
    schema_lenient: what of the schema cannot be enforced is left out, instead of refusing it.
    sampling: settings that the others are put on top of.
    cancel: ends the answer once it is set. deadline_s: seconds after which the answer is cut.
    """

    system: str | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | None
    parallel_tool_calls: bool | None
    variables: Mapping[str, Any] | None
    schema: Mapping[str, Any] | str | type[Any] | None
    schema_lenient: bool | None
    regex: str | None
    grammar: str | None
    sampling: Sampling | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[int, float] | None
    max_tokens: int | None
    thinking_tokens: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    ignore_eos: bool | None
    logprobs: int | None
    prompt_logprobs: int | None
    cancel: threading.Event | None
    deadline_s: float | None


def held_to(schema: Mapping[str, Any] | str | type[Any]) -> Constraint | None:
    """A schema, as questions take it, as what answers are held to. Raises UsageError for what describes no answer."""
    return schema_constraint(_schema_text(_form(schema)))


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
    schema: Form | None
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
    given: dict[str, Any] = {name: value for name, value in how.items() if value is not None}
    for name, value in given.items():
        _check(name, value)
    messages: list[Message] = [{"role": "system", "content": given["system"]}] if "system" in given else []
    messages += [{"role": "user", "content": question}] if isinstance(question, str) else _messages(question)
    form = _form(given["schema"]) if "schema" in given else None
    return _Asked(
        Conversation(
            tuple(messages),
            variables=given.get("variables", {}),
            parallel_tool_calls=given.get("parallel_tool_calls", True),
            **tool_fields(tuple(given.get("tools", ())), given.get("tool_choice", "auto")),
        ),
        _sampling(given, form),
        form,
        given.get("cancel"),
        given.get("deadline_s"),
    )


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "system": (str, "a text"),
    "tools": ((list, tuple), "a list of functions"),
    "tool_choice": (str, "'auto', 'none', 'required' or the name of a function"),
    "parallel_tool_calls": (bool, "True or False"),
    "variables": (Mapping, "a dict"),
    "schema_lenient": (bool, "True or False"),
    "regex": (str, "a text"),
    "grammar": (str, "a text"),
    "sampling": (Sampling, "an edgeship.Sampling"),
    "stop": ((str, list, tuple), "a text or a list of texts"),
    "logit_bias": (Mapping, "a dict"),
}
"""What settings must be that engines do not check; engines check the rest of a Sampling's."""


def _check(name: str, value: object) -> None:
    if name not in Asking.__annotations__:
        known = ", ".join(sorted(Asking.__annotations__))
        raise UsageError(f"{name!r} is no setting of a question", hint=f"Settings: {known}.")
    kind, words = _KINDS.get(name, (object, ""))
    if not isinstance(value, kind):
        raise UsageError(f"{name} is {value!r}; it must be {words}")


def _messages(question: object) -> list[Message]:
    if not isinstance(question, list | tuple):
        raise UsageError(
            f"a question is a text or a list of messages, and this is {type(question).__name__}",
            hint='A message is {"role": "user", "content": "..."}.',
        )
    return list(question)


def _form(schema: Any) -> Form:
    return schema if isinstance(schema, str | Mapping) else _described(schema)


def _described(schema: Any) -> TypeAdapter[Any]:
    """A pydantic model, or another type that pydantic can describe."""
    from pydantic import PydanticUserError, TypeAdapter

    try:
        described: TypeAdapter[Any] = TypeAdapter(schema)
        described.json_schema()
    except (PydanticUserError, TypeError, NameError) as error:
        raise UsageError(
            f"schema is {schema!r}, which describes no answer: {error}",
            hint="Give a JSON schema as a dict or a text, or a pydantic model.",
        ) from error
    return described


def _sampling(given: Mapping[str, Any], form: Form | None) -> Sampling:
    known = {field.name for field in fields(Sampling)}
    settings = {name: value for name, value in given.items() if name in known}
    if "stop" in settings:
        stop = settings["stop"]
        settings["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    constraint = _constraint(given, form)
    if constraint is not None:
        settings["constraint"] = constraint
    base: Sampling = given.get("sampling", Sampling())
    return replace(base, **settings)


def _constraint(given: Mapping[str, Any], form: Form | None) -> Constraint | None:
    asked = [name for name in ("schema", "regex", "grammar") if name in given]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} exclude each other", hint="Give one of them.")
    if form is not None:
        held = schema_constraint(_schema_text(form))
        return held and replace(held, lenient=given.get("schema_lenient", False))
    if "regex" in given:
        return Constraint("regex", given["regex"])
    return Constraint("lark", given["grammar"]) if "grammar" in given else None


def _schema_text(form: Form) -> str:
    if isinstance(form, str):
        return form
    try:
        return json.dumps(form if isinstance(form, Mapping) else form.json_schema())
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the schema is no JSON: {error}", hint="Write it of dicts, lists, texts and numbers."
        ) from error


def _parse(form: Form, text: str) -> Any:
    return json.loads(text) if isinstance(form, str | Mapping) else form.validate_json(text)


class _Cancel(threading.Event):
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
    cancel = _Cancel(asked.cancel)
    try:
        # To render and encode a long prompt takes a while, in which the loop is to go on.
        handle = await asyncio.to_thread(replace(asked, cancel=cancel).begin, chat, hand_over)
        with closing(handle):
            while True:
                step = await steps.get()
                if isinstance(step, Exception):
                    raise step
                yield step
                if step.finish:
                    return
    finally:
        cancel.set()
