"""The end of the context: the last token that fits, an answer that runs into it, and one token more.

Prompts are conversations where that is possible, so that whoever reads a verdict can ask the same again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from edgeship.engine.api import Conversation, Engine
from edgeship.errors import ContextFull, EdgeshipError, PromptInvalid
from edgeship.measure.load.records import Failure, Reply
from edgeship.measure.load.workload import Question
from edgeship.validate import requests
from edgeship.validate.lengths.prompts import Prompts
from edgeship.validate.verdict import Evidence, Finding

_BEFORE_END = 8
_SHORT_TOKENS, _FEW_TOKENS = 16, 4


def in_words(prompts: Prompts) -> Prompts:
    """Prompts of counted words instead of token ids; the same where the chat template takes none so short."""
    chat = prompts.chat
    if isinstance(chat, Engine):
        with suppress(EdgeshipError):
            words = Prompts(chat, in_words=True)
            if words.exact and words.least_tokens <= chat.context_tokens - _BEFORE_END:
                return words
    return prompts


def look(prompts: Prompts, context_tokens: int | None) -> Iterator[Finding]:
    """What happens there."""
    if context_tokens is None:
        yield Finding("context-end", "skipped", "The server does not tell how long prompt and answer may be.")
        return
    if not prompts.exact:
        yield Finding("context-end", "skipped", "The server does not tell how many tokens a prompt has.")
        return
    if context_tokens - _BEFORE_END < prompts.least_tokens:
        why = f"A context of {context_tokens:,} tokens has room for the chat template and for no prompt."
        yield Finding("context-end", "skipped", why)
        return
    for name, room in (("last-token", 1), ("runs-to-the-end", _BEFORE_END)):
        yield _fills(prompts, name, context_tokens, room)
    yield from _beyond(prompts, context_tokens)


def _fills(prompts: Prompts, name: str, context: int, room: int) -> Finding:
    """A prompt that leaves so many tokens for its answer, which nothing else ends."""
    question = prompts.make(context - room, None)
    tokens = question.prompt_tokens or context - room
    room = context - tokens
    reply = prompts.ask(question)
    said = f"A prompt of {tokens:,} tokens leaves {room} of {context:,} for its answer"
    faults = _faults(reply, tokens, room, goes_on=prompts.goes_on)
    if faults:
        evidence = _evidence(prompts, name, question, "; ".join(faults), f"{room} tokens, finish length")
        return Finding(name, "fail", f"{said}, and {'; '.join(faults)}.", evidence=evidence)
    return Finding(name, "pass", f"{said}, which ends there: {reply.finish}, {reply.output_tokens} tokens.")


def _faults(reply: Reply, tokens: int, room: int, *, goes_on: bool) -> list[str]:
    if reply.failure is not None:
        return [f"it was refused: {_why(reply.failure)}"]
    # Where a model's own end cannot be left aside, it may come first.
    ended = reply.finish == "stop" and not goes_on
    found = []
    if reply.prompt_tokens is not None and reply.prompt_tokens != tokens:
        found.append(f"usage tells {reply.prompt_tokens:,} tokens of prompt")
    if reply.finish != "length" and not ended:
        found.append(f"the answer ended with {reply.finish} instead of length")
    made = reply.output_tokens
    if made is not None and made != room and not (ended and made <= room):
        found.append(f"usage tells {made:,} tokens of answer")
    counted = reply.counted_output_tokens
    if counted is not None and made is not None and counted != made:
        found.append(f"{counted:,} tokens came and usage tells {made:,}")
    return found


def _beyond(prompts: Prompts, context: int) -> Iterator[Finding]:
    """A prompt that leaves no room, and another one after it."""
    question = prompts.make(context, _FEW_TOKENS)
    if (question.prompt_tokens or context) < context:
        question = prompts.make(context + _BEFORE_END, _FEW_TOKENS)
    tokens = question.prompt_tokens or context
    reply = prompts.ask(question)
    said = f"A prompt of {tokens:,} tokens, which the context of {context:,} has no room for,"
    expected = "a refusal that says so"
    if reply.failure is None:
        got = f"was answered with {reply.output_tokens} tokens; usage tells {reply.prompt_tokens} of prompt"
        evidence = _evidence(prompts, "one-token-too-many", question, got, expected)
        yield Finding("one-token-too-many", "fail", f"{said} {got}: something of it was left out.", evidence=evidence)
    elif reply.failure.kind not in (ContextFull.code, PromptInvalid.code):
        evidence = _evidence(prompts, "one-token-too-many", question, reply.failure.what, expected)
        yield Finding(
            "one-token-too-many", "fail", f"{said} was not refused for that: {_why(reply.failure)}.", evidence=evidence
        )
    else:
        yield Finding("one-token-too-many", "pass", f"{said} is refused: {_why(reply.failure)}.")
    yield _after(prompts)


def _after(prompts: Prompts) -> Finding:
    name, question = "answers-after", prompts.make(max(_SHORT_TOKENS, prompts.least_tokens), _FEW_TOKENS)
    reply = prompts.ask(question)
    if reply.failure is None and reply.arrivals:
        return Finding(name, "pass", "After that, a short prompt is answered.")
    why = _why(reply.failure) if reply.failure else "no token came"
    told = f"After that, a short prompt is not answered: {why}."
    return Finding(name, "fail", told, evidence=_evidence(prompts, name, question, why, "an answer"))


def _why(failure: Failure) -> str:
    return failure.what.rstrip(".")


def _evidence(prompts: Prompts, name: str, question: Question, got: str, expected: str) -> tuple[Evidence, ...]:
    """A prompt of token ids is no conversation, and cannot be asked again by itself: it is not kept."""
    if not question.messages:
        return ()
    asked = requests.asked(Conversation(list(question.messages)), prompts.sampling_of(question))
    return (Evidence(f"lengths/{name}", asked, requests.shortened(got), expected),)
