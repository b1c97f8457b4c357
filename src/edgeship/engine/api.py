"""The contract in two sizes: a Chat answers conversations; an Engine also takes and tells tokens."""

from __future__ import annotations

import functools
import reprlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, get_type_hints, runtime_checkable

from edgeship.engine.codec import Codec
from edgeship.engine.codec import Prompt as Prompt
from edgeship.errors import ContextFull, EngineBusy, PromptInvalid, UsageError
from edgeship.package.conversation import Conversation as Conversation
from edgeship.package.conversation import Message as Message
from edgeship.package.conversation import ToolUse as ToolUse
from edgeship.settings import MOST_THREADS
from edgeship.system.fields import LARGEST

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from pydantic import BaseModel

MOST_LOGPROBS = 20
"""Likeliest tokens that can be asked for."""

_LARGE, _LARGEST, _LARGEST_TOLD, _LARGEST_BIAS = 10_000, 2**64 - 1, "2^64 - 1", 1e9
"""Beyond these a setting means nothing, and 32 bits would not hold what it makes of a logit."""
_EITHER_SIGN = f"a number from -{_LARGE} to {_LARGE}"
_MOST_SLOTS, _MOST_BYTES = 1024, 2**63 - 1
_COUNTS = {
    "threads": (1, MOST_THREADS),
    "slots": (1, _MOST_SLOTS),
    "context_tokens": (1, LARGEST),
    "kv_bytes": (0, _MOST_BYTES),
    "waiting": (0, LARGEST),
    "memory_bytes": (1, _MOST_BYTES),
}
"""What the counts among an engine's settings may be: far beyond what any machine has."""

FinishReason = Literal["stop", "length", "tool_calls", "cancelled", "deadline"]


@dataclass(frozen=True)
class Constraint:
    """What an answer must look like.

    text: a JSON schema, a regular expression or a Lark grammar; for "json_object" it is not read.
    lenient: what of a schema cannot be enforced is left out; otherwise such a schema is refused.
    """

    kind: Literal["json_schema", "json_object", "regex", "lark"]
    text: str = ""
    lenient: bool = False


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; a field that is None takes the package's own default.

    temperature: 0 always takes the likeliest token.
    top_k: 0 leaves every token in.
    min_p: tokens less likely than this share of the likeliest are left out; 0 leaves every token in.
    repetition_penalty: divides (or multiplies, below 0) logits of tokens in prompt and answer; 1 changes nothing.
    presence_penalty, frequency_penalty: taken from the logits of tokens in the answer, once or for each time.
    logit_bias: added to logits, by token id.
    seed: the same seed gives the same answer, whatever else runs at the same time.
    max_tokens: new tokens at most; the context may hold fewer.
    thinking_tokens: of what a model thinks before it answers at most, marks left out; then it is made to answer.
    thoughts_count: whether what a model thinks before it answers is part of max_tokens, where that can be told.
    stop: texts that end the answer and are not part of it.
    ignore_eos: go on past the tokens that end an answer, up to max_tokens; for measuring speed.
    logprobs: report each token's log-probability, and those of this many likeliest ones. They are the model's own,
    before temperature, penalties and constraint.
    prompt_logprobs: the same for the prompt's tokens but the first.
    constraint: the answer is held to it, after what the model thinks before it; where max_tokens ends it first, it is
    incomplete and says "length".
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    constraint: Constraint | None = None
    thoughts_count: bool = True
    thinking_tokens: int | None = None

    def over(self, defaults: Sampling) -> Sampling:
        """These settings, with `defaults` where a field is None."""
        unset = {known.name for known in fields(self) if getattr(self, known.name) is None}
        return replace(self, **{name: getattr(defaults, name) for name in unset})


@dataclass(frozen=True)
class Logprob:
    """How likely the model found a token, in nats. top: the likeliest token ids with theirs, likeliest first."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants to be called. arguments: JSON, as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class CallPiece:
    """What a step adds to a call in the making. index: which of the answer's calls. arguments: more of their JSON.

    id, name: on the first piece of a call, and on no other.
    """

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True)
class Token:
    """One step of an answer.

    text: what this step adds to the answer; may be empty while a character is incomplete.
    finish: set on the last step only. Only an answer that was cut (cancelled, deadline) or complete before its first
    token ends with a step without id; a token that ends the answer has its id and is counted, but leaves no text.
    Engines that are told texts and no ids (Foundry Local) have none on any step.
    usage: what the answer cost; on the last step only.
    prompt_tokens: how many the prompt has; on the first step, from engines that tell it.
    start: where the token begins in the text that the answer's tokens make, in characters; beside its log-probability.
    prompt_logprobs: on the first step, where asked for: one for each of the prompt's tokens but the first.
    thinking: what this step adds to what the model thinks before it answers, from chats that can tell it apart.
    calling: what this step adds to calls in the making. A call that the answer's end cuts stays without an end.
    tool_calls: those that this step completes.
    stopped_by: the stop text that ended the answer; on the last step only, from engines that tell it.
    """

    id: int | None
    text: str
    finish: FinishReason | None = None
    logprob: Logprob | None = None
    usage: Usage | None = None
    prompt_logprobs: tuple[Logprob, ...] | None = None
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    calling: tuple[CallPiece, ...] = ()
    stopped_by: str | None = None
    prompt_tokens: int | None = None
    start: int | None = None

    @property
    def counts(self) -> bool:
        """Whether it stands for a token: by its id or, from engines that tell none, as a piece of text."""
        return self.id is not None or (self.finish is None and bool(self.text))


class EngineFault(Exception):
    """An error that nobody foresaw, of ours or of a library, in the making of an answer. Its cause is that error."""


OnStep = Callable[[Token | Exception], object]
"""Is given each step of an answer, or the exception that ends it."""


@dataclass(frozen=True)
class Usage:
    """What an answer cost. TTFT: time to first token; decode speed leaves the first token out.

    cached_tokens: of the prompt, those that were known from before and not computed again.
    queue_s: waiting for a place, part of ttft_s.
    drafted_tokens, accepted_tokens: guesses taken from the text so far, and those that held.
    forced_tokens: tokens that a constraint left no choice about, made without a step of the model.
    reasoning_tokens: of completion_tokens, what the model thought before it answered, with the marks around it.
    """

    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    e2e_s: float
    cached_tokens: int = 0
    queue_s: float = 0.0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    forced_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Tokens a second after the first; None for answers of one token."""
        if self.completion_tokens < 2 or self.e2e_s <= self.ttft_s:
            return None
        return (self.completion_tokens - 1) / (self.e2e_s - self.ttft_s)

    def to_dict(self) -> dict[str, Any]:
        """The usage as `--json` prints it."""
        return asdict(self) | {"decode_tokens_per_s": self.decode_tokens_per_s}


@dataclass(frozen=True)
class Limits:
    """How much an engine may take; what is None is chosen for the machine.

    slots: answers made side by side. context_tokens: prompt and answer together, in each slot.
    kv_bytes: keys and values of all slots and of the prefix cache. waiting: requests in line at most.
    """

    slots: int | None = None
    context_tokens: int | None = None
    kv_bytes: int | None = None
    waiting: int = 256


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Stats:
    """What goes on at this moment: answers in the making and in line, and what the prefix cache holds.

    slots: answers that are made side by side; None where it is not known.
    """

    running: int
    waiting: int
    slots: int | None
    cached_bytes: int = 0


class AnswerSteps(Iterator[Token], Protocol):
    """The steps of one answer as they are made."""

    def close(self) -> None:
        """Ends the answer, unless it has ended, and frees what it holds."""
        ...


class Chat(Protocol):
    """Answers conversations. Any number of threads may ask it at the same time.

    context_tokens: prompt and answer together; None where it is not known.
    note: what the user should know about how this chat was chosen.
    codec: tells its tokens; None where they are not known here.
    """

    name: str
    defaults: Sampling
    note: str | None

    @property
    def context_tokens(self) -> int | None: ...

    @property
    def codec(self) -> Codec | None: ...

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        """The answer, step by step, begun at once; closing the iterator, or dropping it, frees what it holds.

        cancel: once set, the answer ends within a step. deadline_s: seconds from now after which it is cut.
        on_step: is called with each step, or the exception that ends the answer, from a thread of the engine's, so it
        must not wait; a last one always comes. The iterator then gives nothing, and only closing it, not dropping it,
        ends the answer. So does what `on_step` raises.
        Raises PromptInvalid, ConstraintInvalid, NotSupported, EngineBusy, TemplateMissing and TemplateInvalid at once
        (a server's with the first step), and EngineFailed at any step, ConstraintInvalid too where a constraint
        turns out too complex; EngineFault is a fault of our own.
        """
        ...

    def stats(self) -> Stats:
        """What goes on at this moment."""
        ...

    def close(self) -> None:
        """Frees the model; answers that are not finished, and any later use, raise EngineFailed."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Engine(Chat, Protocol):
    """A chat whose tokens are known.

    slots: answers that are made side by side; more wait in line.
    context_cut: why context_tokens is below the model's own, and after a semicolon what would raise it; None where it
    is not.
    """

    codec: Codec
    context_tokens: int
    context_cut: str | None
    vocab_size: int
    slots: int

    def render(self, conversation: Conversation) -> Prompt:
        """See Codec.render."""
        ...

    def encode(self, text: str) -> Prompt:
        """See Codec.encode."""
        ...

    def stream(
        self,
        prompt: Prompt,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        """The same as converse, for a prompt."""
        ...

    def score(self, tokens: Sequence[int], first: int = 0) -> npt.NDArray[np.float32]:
        """Logits after each token of a text from number `first` on: float32 [len(tokens) - first, vocab_size].

        Row i predicts token first + i + 1. Raises PromptInvalid, NotSupported, EngineFailed.
        """
        ...


def check_tokens(tokens: Sequence[int], *, limit: int, vocab_size: int, cut: str | None = None) -> None:
    """Raises ContextFull for more tokens than `limit`, PromptInvalid for none or ids that the model does not have.

    cut: why the limit is below the model's own, and after a semicolon what would raise it.
    """
    if not tokens:
        raise PromptInvalid("the prompt is empty", hint="Give at least one token of text.")
    if len(tokens) > limit:
        why, _, what_helps = (cut or "").partition("; ")
        raise ContextFull(
            f"the prompt has {len(tokens)} tokens and the model takes at most {limit}"
            + (f", since {why}" if why else ""),
            hint="Shorten the prompt or the conversation; tools are part of it."
            + (f" {what_helps}." if what_helps else ""),
        )
    strangers = [token for token in tokens if not 0 <= token < vocab_size]
    if strangers:
        raise PromptInvalid(f"token id {strangers[0]} is outside the vocabulary of {vocab_size}")


def check_first(first: int, tokens: Sequence[int]) -> None:
    """Raises PromptInvalid where `first` is no place in the text."""
    if not 0 <= first < len(tokens):
        raise PromptInvalid(f"token {first} is not among {len(tokens)}")


def check_line(waiting: int, most: int) -> None:
    """Raises EngineBusy where as many requests wait as may."""
    if waiting >= most:
        raise EngineBusy(
            f"{waiting} requests wait already, and no more may",
            hint="Try again later, or let the engine keep more waiting.",
        )


def check_sampling(sampling: Sampling) -> None:
    """Raises PromptInvalid for a setting of another type or out of its range, with the value and what is allowed."""
    _check_types(sampling)
    faults = {
        "temperature": (_is_outside(sampling.temperature, 0, _LARGE), f"a number from 0 to {_LARGE}"),
        "top_p": (sampling.top_p == 0 or _is_outside(sampling.top_p, 0, 1), "greater than 0 and at most 1"),
        "top_k": (_is_outside(sampling.top_k, 0, _LARGEST), f"from 0 to {_LARGEST_TOLD}"),
        "min_p": (_is_outside(sampling.min_p, 0, 1), "from 0 to 1"),
        "repetition_penalty": (
            _is_outside(sampling.repetition_penalty, 1 / _LARGE, _LARGE),
            f"a number from {1 / _LARGE:g} to {_LARGE}",
        ),
        "presence_penalty": (_is_outside(sampling.presence_penalty, -_LARGE, _LARGE), _EITHER_SIGN),
        "frequency_penalty": (_is_outside(sampling.frequency_penalty, -_LARGE, _LARGE), _EITHER_SIGN),
        "logit_bias": (
            any(_is_outside(bias, -_LARGEST_BIAS, _LARGEST_BIAS) for bias in (sampling.logit_bias or {}).values()),
            "made of numbers from -1e9 to 1e9",
        ),
        "logprobs": (_is_outside(sampling.logprobs, 0, MOST_LOGPROBS), f"from 0 to {MOST_LOGPROBS}"),
        "prompt_logprobs": (_is_outside(sampling.prompt_logprobs, 0, MOST_LOGPROBS), f"from 0 to {MOST_LOGPROBS}"),
        "max_tokens": (_is_outside(sampling.max_tokens, 1, _LARGEST), f"from 1 to {_LARGEST_TOLD}"),
        "thinking_tokens": (_is_outside(sampling.thinking_tokens, 0, _LARGEST), f"from 0 to {_LARGEST_TOLD}"),
        "seed": (_is_outside(sampling.seed, 0, _LARGEST), f"from 0 to {_LARGEST_TOLD}"),
        "stop": ("" in sampling.stop, "without empty texts"),
    }
    for name, (wrong, rule) in faults.items():
        if wrong:
            raise _setting_invalid(name, getattr(sampling, name), f"; it must be {rule}")


def check_cut(cancel: threading.Event | None, deadline_s: float | None) -> None:
    """Raises PromptInvalid for what could cut no answer."""
    if cancel is not None and not isinstance(cancel, threading.Event):
        raise _setting_invalid("cancel", cancel, "; it must be a threading.Event")
    if deadline_s is not None and not (_is_number(deadline_s) and 0 <= deadline_s <= _LARGEST):
        raise _setting_invalid("deadline_s", deadline_s, f"; it must be a number of seconds from 0 to {_LARGEST_TOLD}")


def check_settings(*, limits: Limits, **others: object) -> None:
    """Raises UsageError for a setting of an engine that it cannot have, with the value and what is allowed.

    others: any of threads, memory_bytes and speculation.
    """
    if not isinstance(limits, Limits):
        raise UsageError(f"limits is {limits!r}; it must be Limits", hint="Write edgeship.Limits(slots=4).")
    for name, value in {**vars(limits), **others}.items():
        if value is None and name != "waiting":
            continue
        if name == "speculation":
            fits, rule = isinstance(value, bool), "True or False"
        else:
            least, most = _COUNTS[name]
            fits, rule = type(value) is int and least <= value <= most, f"a whole number from {least} to {most}"
        if not fits:
            raise UsageError(
                f"{name} is {reprlib.repr(value)}; it must be {rule}",
                hint=f"Leave {name} out for what suits this machine.",
            )


def _setting_invalid(name: str, value: object, rule: str) -> PromptInvalid:
    return PromptInvalid(
        f"{name} is {reprlib.repr(value)}{rule}", hint=f"Leave {name} out, or give it such a value.", param=name
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_types(sampling: Sampling) -> None:
    from pydantic import ValidationError

    given = {known.name: getattr(sampling, known.name) for known in fields(sampling)}
    try:
        _typed_settings().model_validate(given)
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0])
        rule = fault["msg"][0].lower() + fault["msg"][1:]
        raise _setting_invalid(name, given[name], f": {rule}") from error


@functools.cache
def _typed_settings() -> type[BaseModel]:
    """Sampling's fields as pydantic checks them: a text is no number, and a number with a fraction no count."""
    from pydantic import ConfigDict, create_model

    hints = get_type_hints(Sampling)
    settings: dict[str, Any] = {known.name: (hints[known.name], ...) for known in fields(Sampling)}
    return create_model("Sampling", __config__=ConfigDict(strict=True, revalidate_instances="always"), **settings)


def utf8(text: str) -> bytes:
    """A text's bytes. Raises PromptInvalid for halves of surrogate pairs, which are no text."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptInvalid(f"the text is not Unicode: {error}") from error


def _is_outside(value: float | None, least: float, most: float) -> bool:
    """Whether a number lies elsewhere; what is not a number lies nowhere, nor do a decimal, a fraction, an array's."""
    return value is not None and not (_is_number(value) and least <= value <= most)
