"""Whether a target opens and answers one question."""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.engine.api import Conversation, Sampling
from edgeship.errors import DependencyMissing, EdgeshipError, ResourceError, UsageError, came_from
from edgeship.validate.requests import asked, shortened
from edgeship.validate.subject import DEADLINE_S, Subject
from edgeship.validate.verdict import Evidence, Finding

_QUESTION = Conversation([{"role": "user", "content": "Hello! Who are you?"}])
_HOW = Sampling(temperature=0, max_tokens=16)


def findings(subject: Subject) -> Iterator[Finding]:
    """The one finding. What cannot be opened is not looked at by other checks.

    Raises what says nothing about the target.
    """
    try:
        chat = subject.chat
    except EdgeshipError as error:
        if not _is_about_the_target(error):
            raise
        yield Finding("opens", "fail", f"It cannot be opened: {error.what}.")
        return
    text, count, finish = [], 0, None
    try:
        for step in chat.converse(_QUESTION, _HOW, deadline_s=DEADLINE_S):
            text.append(step.text or step.thinking)
            count, finish = count + 1, step.finish or finish
    except EdgeshipError as error:
        if not _is_about_the_target(error):
            raise
        yield _failed(f"It opens, and does not answer a question: {error.what}", error.what)
        return
    answer = shortened("".join(text))
    if finish not in ("stop", "length"):
        said = f"It opens, and its answer to a question ends with {finish!r}"
        yield _failed(said, f"{finish}, after {answer!r}")
        return
    yield Finding("opens", "pass", f"It opens and answers a question, in {count} steps: {answer!r}.")


def _is_about_the_target(error: EdgeshipError) -> bool:
    """Not so what was asked wrongly, what this machine lacks, what was interrupted, and a fault of our own."""
    if isinstance(error, ResourceError | DependencyMissing) or came_from(error, KeyboardInterrupt):
        return False
    return type(error) not in (UsageError, EdgeshipError)


def _failed(said: str, got: str) -> Finding:
    evidence = Evidence("integrity/opens", asked(_QUESTION, _HOW), got, "an answer of up to 16 tokens")
    return Finding("opens", "fail", f"{said}.", evidence=(evidence,))
