"""Asks an engine or a chat of ours, step by step as they give an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from edgeship.engine.api import Chat, Conversation, Engine, Prompt, Sampling, Token
from edgeship.engine.steps import Relay
from edgeship.errors import EdgeshipError, NotSupported
from edgeship.measure.load.driver import Closable
from edgeship.measure.load.records import TIMEOUT, Arrival, Failure, Kind, Reply
from edgeship.measure.load.workload import Question


class ChatAsker:
    """See Asker.

    takes_ignore_eos: whether answers can be asked not to end early; known once a question was asked.
    """

    answers = True

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.takes_ignore_eos = True

    def ask(self, question: Question, timeout_s: float, done: Callable[[Callable[[], Reply]], object]) -> Closable:
        """See Asker.ask."""
        steps: list[tuple[float, Token | Exception]] = []

        def take(step: Token | Exception) -> None:
            steps.append((time.perf_counter(), step))
            if isinstance(step, Exception) or step.finish is not None:
                done(partial(read, steps, timeout_s))

        begin = partial(self._begin, question, timeout_s, Relay(take))
        try:
            return begin(ignore_eos=question.ignore_eos and self.takes_ignore_eos)
        except NotSupported:
            if not (question.ignore_eos and self.takes_ignore_eos):
                raise
            self.takes_ignore_eos = False
            return begin(ignore_eos=False)

    def _begin(self, question: Question, timeout_s: float, take: Relay, *, ignore_eos: bool) -> Closable:
        # The penalty is the sampler's work, and what is measured here is the model's.
        sampling = Sampling(
            temperature=question.temperature,
            repetition_penalty=1.0 if ignore_eos else None,
            max_tokens=question.new_tokens,
            ignore_eos=ignore_eos,
        )
        if question.tokens:
            assert isinstance(self.chat, Engine), "only an engine takes tokens"
            return self.chat.stream(Prompt(question.tokens), sampling, deadline_s=timeout_s, on_step=take)
        conversation = Conversation(question.messages)
        return self.chat.converse(conversation, sampling, deadline_s=timeout_s, on_step=take)

    def count(self, text: str) -> int | None:
        """The tokens of a prompt with this text as its only message; None where they are not known here."""
        if self.chat.codec is None:
            return None
        return len(self.chat.codec.render(Conversation([{"role": "user", "content": text}])).tokens)


def read(steps: Sequence[tuple[float, Token | Exception]], timeout_s: float) -> Reply:
    """What came, of the steps of an answer and when each came. timeout_s: how long it was given."""
    last_s, last = steps[-1]
    tokens = [(at_s, step) for at_s, step in steps if isinstance(step, Token)]
    # Chats that tell no ids (Foundry Local) have none on any step.
    has_ids = any(step.id is not None for _, step in tokens)
    arrivals = tuple(
        Arrival(at_s, kinds, _count(step, has_ids=has_ids))
        for at_s, step in tokens
        if (kinds := _kinds(step)) or step.id is not None
    )
    if isinstance(last, Exception):
        return Reply(arrivals, last_s, failure=failure_of(last))
    usage = last.usage
    return Reply(
        arrivals,
        last_s,
        finish=last.finish,
        prompt_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        reasoning_tokens=usage.reasoning_tokens if usage else None,
        counted_output_tokens=sum(one.tokens or 0 for one in arrivals) if has_ids else None,
        failure=cut_short(last, timeout_s, began=bool(arrivals)),
        text="".join(step.text for _, step in tokens),
    )


def cut_short(last: Token, timeout_s: float, *, began: bool) -> Failure | None:
    """Why an answer with this last step is none: it was cut before its end. began: whether anything of it came."""
    if last.finish == "deadline":
        what = "the answer was not complete" if began else "nothing of the answer came"
        return Failure(TIMEOUT, f"{what} in {timeout_s:g} s")
    return Failure("cancelled", "the answer was cancelled") if last.finish == "cancelled" else None


def failure_of(error: Exception) -> Failure:
    """Why a request counts as an error."""
    if isinstance(error, EdgeshipError):
        return Failure(error.code, error.what)
    return Failure("internal", f"{type(error).__name__}: {error}")


def _kinds(step: Token) -> tuple[Kind, ...]:
    found: list[Kind] = []
    if step.text:
        found.append("text")
    if step.thinking:
        found.append("thinking")
    if step.calling or step.tool_calls:
        found.append("call")
    return tuple(found)


def _count(step: Token, *, has_ids: bool) -> int | None:
    return int(step.id is not None) if has_ids else None
