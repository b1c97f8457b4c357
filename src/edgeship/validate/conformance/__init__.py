"""Speaks its APIs as their schemas say, and says the same by all of them.

Which APIs a target speaks is found by asking: what is not there (404, 405, 501) is not spoken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgeship.engine.api import Conversation, Engine
from edgeship.progress import Progress
from edgeship.validate.apis import APIS, CHAT
from edgeship.validate.apis.api import Api
from edgeship.validate.check import Check
from edgeship.validate.conformance import beside
from edgeship.validate.conformance.bounds import ConformanceBounds
from edgeship.validate.conformance.looking import NOT_SPOKEN, Answered, Looking
from edgeship.validate.conformance.wanted import Wanted
from edgeship.validate.server import why_none
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Finding

_QUESTION = "Write a short story about a lighthouse keeper and her dog."
_LEAST_TOKENS = 2


def _run(subject: Subject, bounds: ConformanceBounds, progress: Progress) -> Iterator[Finding]:
    server, text = subject.server, _question(subject)
    spoken: list[Api] = []
    hasty = False
    for number, api in enumerate(APIS):
        progress(api.title, number / len(APIS))
        looking = Looking(api, server, bounds, hasty=hasty)
        whole = looking.answer(Wanted(text, bounds.max_answer_tokens))
        if whole.said.status in NOT_SPOKEN:
            yield looking.not_looked_at("spoken", "it is not spoken")
            continue
        if api is not CHAT and whole.refused:
            yield looking.not_looked_at("spoken", f"a plain question is refused with {whole.said.status}")
            continue
        spoken.append(api)
        if whole.said.status is None or whole.said.end == "late":
            # Who does not answer this would be waited for again and again.
            yield from looking.forms(whole)
            return
        yield from _findings(looking, api, whole, briefly=subject.effort == "quick" and api is not CHAT)
        if api is CHAT:
            yield from _counted(subject, looking, whole)
        hasty = looking.hasty
    yield from beside.findings(server, bounds, spoken)
    if not spoken:
        yield Finding(
            "spoken",
            "fail",
            "None of the APIs that are known here is spoken.",
            figure=0,
            bound=1,
            unit="APIs",
            is_least=True,
        )


def _question(subject: Subject) -> str:
    """What is asked: a question of its domain, which it has something to say to."""
    users = (turn.content for case in subject.against.cases[:1] for turn in case.messages if turn.role == "user")
    return next(users, "") or _QUESTION


def _findings(looking: Looking, api: Api, whole: Answered, *, briefly: bool) -> Iterator[Finding]:
    stream = looking.answer(replace(whole.wanted, stream=True))
    yield from looking.forms(whole, stream)
    yield looking.same_text(whole, stream)
    yield looking.errors()
    if briefly or stream.said.fault:
        yield looking.usage(whole, stream)
        return
    made = whole.told.completion_tokens or 0
    if made >= _LEAST_TOKENS and whole.told.text:
        cut = looking.answer(replace(whole.wanted, most_tokens=made // 2))
        yield looking.max_tokens(whole, cut)
        yield looking.usage(whole, stream, cut)
    else:
        yield looking.not_looked_at("max-tokens", "its answers are too short to be cut")
        yield looking.usage(whole, stream)
    if "stop" in api.takes:
        yield looking.stop(whole, stream=False)
        yield looking.stop(whole, stream=True)
    if "forced" in api.takes:
        yield looking.utf8(whole.wanted.text)
    if api is CHAT:
        yield from beside.chat_findings(looking, whole)


def _counted(subject: Subject, looking: Looking, whole: Answered) -> Iterator[Finding]:
    """Whether a prompt has as many tokens as its tokenizer says, where that is known here."""
    if subject.target.kind == "url" or not isinstance(subject.chat, Engine):
        return
    due = len(subject.chat.render(Conversation([{"role": "user", "content": whole.wanted.text}])).tokens)
    told = whole.told.prompt_tokens
    found = [] if told in (None, due) else [(whole, f"its prompt has {due} tokens and it says {told}")]
    yield looking.of("prompt-tokens", "a prompt has as many tokens as its tokenizer says", found)


CHECK = Check(
    "conformance",
    "Speaks its APIs as their schemas say",
    ConformanceBounds,
    _run,
    not_for=lambda subject: why_none(subject.target),
)
