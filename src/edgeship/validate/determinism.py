"""Same seed, same output: alone and beside others, with a known beginning and without, over restarts and streamed.

A model that is sure of its answers gives them whatever the seed, and a server that ignores seeds would not be seen by
it. So answers are sampled as hot as it takes for seeds to make a difference, and where none do, that is said.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgeship.engine.answer import Answer
from edgeship.engine.api import Chat, Conversation, Engine, Sampling
from edgeship.engine.completions import request
from edgeship.engine.remote import RemoteChat
from edgeship.errors import EdgeshipError, EngineBusy
from edgeship.measure.evaluation.asking import Question, side_by_side
from edgeship.progress import Progress
from edgeship.validate import requests
from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.check import Check
from edgeship.validate.subject import DEADLINE_S, Effort, Subject
from edgeship.validate.verdict import Evidence, Finding


@dataclass(frozen=True)
class DeterminismBounds(Bounds):
    """What differences are held to."""

    max_greedy_differing_share: float = bound(
        0.0,
        "The part of greedy answers with a seed that may read otherwise than the first time. Edgeship's engine "
        "promises none; servers whose kernels depend on the batch turn near ties, and may be given a part here.",
        most=1.0,
    )
    max_sampled_differing_share: float = bound(
        0.0,
        "The same for answers that are sampled, each with a seed of its own.",
        most=1.0,
    )
    max_logprob_change_nats: float = bound(
        0.001,
        "Nats by which a token's log-probability may change from the first time, where the tokens are the same. "
        "Rounding of float32 is far below, and a batch that reaches into an answer far above.",
    )


Way = Literal["greedy", "sampled"]
WAYS: tuple[Way, ...] = ("greedy", "sampled")
_GREEDY = Sampling(temperature=0.0, seed=0)
_HOTTER = (
    Sampling(temperature=1.0, top_p=0.95),
    Sampling(temperature=1.5, top_p=1.0),
    Sampling(temperature=2.0, top_p=1.0),
)
"""Answers are sampled in the first of these ways in which seeds make a difference. OpenAI's API takes no higher
temperature than the last."""
_PROBED, _PROBED_SEEDS = 3, (1, 2)
"""So many questions are asked with both seeds to find it, and each of them must be answered in two ways."""
_TEXTS = (
    "Name three colours.",
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "My order A-1042 has not arrived. What can I do?",
    "Explain in one sentence how a bicycle works.",
    "List the days of the week.",
    "Translate 'good morning' into German.",
    "Tell me a story about a cat that learned to swim and then could not stop talking about it.",
)
"""Asked where there is no evaluation."""
_FILLERS = ("Hello.", "Count from one to a hundred.", "Write a long letter to an old friend. " * 4, "Why? " * 24)
_FILLER_TOKENS = (1, 5, 24, 12)
_UNKNOWN_SLOTS = 4


@dataclass(frozen=True)
class Amount:
    """How much is asked. spend_s: where the first answers take longer than their part of it, fewer are asked."""

    questions: int
    new_tokens: int
    spend_s: float
    loads: int


AMOUNTS: dict[Effort, Amount] = {
    "quick": Amount(3, 24, 2.5, 1),
    "default": Amount(8, 48, 18.0, 2),
    "long": Amount(32, 128, 600.0, 8),
}
_TIMES = 8
"""How often each question is asked in all, about: what the first answers may take is a part of that."""
_LEAST_QUESTIONS = 2


@dataclass(frozen=True)
class Asked:
    """A question with what it was answered the first time. name: tells it from the others."""

    name: str
    way: Way
    question: Question
    first: Answer


def _run(subject: Subject, bounds: DeterminismBounds, progress: Progress) -> Iterator[Finding]:
    amount, chat = AMOUNTS[subject.effort], subject.chat
    said = _conversations(subject, amount.questions)
    progress("with other seeds", 0.0)
    sampled, finding = _sampled(chat, [each for _, each in said], amount.new_tokens)
    yield finding
    progress("alone", 0.1)
    asked = list(_first(chat, _questions(chat, said, sampled, amount.new_tokens), amount.spend_s))
    yield from _held("again", "Asked again", asked, _alone(chat, asked), bounds)
    for number in range(amount.loads):
        progress("beside others", 0.2 + 0.4 * number / amount.loads)
        outcomes = _beside(chat, asked, number)
        name = "beside-others" if number == 0 else f"beside-others-{number + 1}"
        yield from _held(name, "Beside others that come and go", asked, outcomes, bounds)
    if isinstance(chat, RemoteChat):
        progress("not streamed", 0.6)
        yield from _whole(chat, asked, bounds)
        yield Finding("restarted", "skipped", "A server is not started again from here.")
        return
    progress("started again", 0.7)
    with subject.anew() as other:
        yield from _held("restarted", "After a restart, the last one first", asked, _reversed(other, asked), bounds)


# --- asking ----------------------------------------------------------------------------------------------------------


def _conversations(subject: Subject, most: int) -> list[tuple[str, Conversation]]:
    """What is asked, by name."""
    cases = subject.against.cases
    chosen = [(case.id, replace(case.asked, variables={})) for case in cases[:: max(1, len(cases) // most)][:most]]
    return chosen or [(str(number), Conversation(_user(text))) for number, text in enumerate(_TEXTS[:most], 1)]


def _sampled(chat: Chat, said: Sequence[Conversation], new_tokens: int) -> tuple[Sampling, Finding]:
    """How answers are sampled, so that they are others with another seed, and what was found of that.

    Raises what an answer ends with.
    """
    probed = said[:_PROBED]
    how, differing = _HOTTER[0], 0
    for hotter in _HOTTER:
        each_seed = [replace(hotter, seed=seed, max_tokens=new_tokens) for seed in _PROBED_SEEDS]
        asked = [Question(conversation, sampling) for conversation in probed for sampling in each_seed]
        outcomes = _outcomes(chat, asked, _slots(chat))
        if fault := next((each for each in outcomes if isinstance(each, EdgeshipError)), None):
            if hotter is _HOTTER[0]:
                raise fault
            break  # it takes no temperature as high as this one
        answers = [each for each in outcomes if isinstance(each, Answer)]
        found = sum(map(differs, answers[::2], answers[1::2]))
        if found >= differing:
            how, differing = hotter, found
        if differing == len(probed):
            break
    at = f"at a temperature of {how.temperature:g} another one gives"
    if differing:
        told = f"Seeds make a difference: {at} another answer to {differing} of {len(probed)} questions."
        return how, Finding("seeds", "pass", told)
    told = f"Seeds make no difference, so whether they are heeded cannot be seen: {at} the same answers."
    return how, Finding("seeds", "skipped", told, noted=True)


def _questions(
    chat: Chat, said: Sequence[tuple[str, Conversation]], sampled: Sampling, new_tokens: int
) -> Iterator[tuple[str, Way, Question]]:
    """Each conversation in both ways."""
    tell = 1 if isinstance(chat, Engine) else None
    for number, (name, conversation) in enumerate(said, 1):
        ways: Mapping[Way, Sampling] = {"greedy": _GREEDY, "sampled": replace(sampled, seed=number)}
        for way, how in ways.items():
            yield name, way, Question(conversation, replace(how, max_tokens=new_tokens, logprobs=tell))


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _first(chat: Chat, questions: Iterable[tuple[str, Way, Question]], spend_s: float) -> Iterator[Asked]:
    """What each is answered alone, as many as there is time to ask again. Raises what an answer ends with."""
    begun_s = time.monotonic()
    for count, (name, way, question) in enumerate(questions):
        if count >= _LEAST_QUESTIONS * len(WAYS) and time.monotonic() - begun_s > spend_s / _TIMES:
            return
        ((_, outcome),) = side_by_side(chat, [question], 1, timeout_s=DEADLINE_S)
        if isinstance(outcome, EdgeshipError):
            raise outcome
        yield Asked(name, way, question, outcome)


Outcomes = Sequence[Answer | EdgeshipError]


def _alone(chat: Chat, asked: Sequence[Asked]) -> Outcomes:
    return _outcomes(chat, [each.question for each in asked], 1)


def _reversed(chat: Chat, asked: Sequence[Asked]) -> Outcomes:
    """In another order, so that what is known from before is another part of each."""
    return _outcomes(chat, [each.question for each in reversed(asked)], 1)[::-1]


def _beside(chat: Chat, asked: Sequence[Asked], number: int) -> Outcomes:
    """All slots at work: others of several lengths stand between, so that neighbours change while an answer is made."""
    line: list[Question] = []
    places: list[int] = []
    for index, each in enumerate(asked):
        kind = (index + number) % len(_FILLERS)
        text = f"{index + 10 * number}. {_FILLERS[kind]}"
        how = Sampling(temperature=1.0, seed=index, max_tokens=_FILLER_TOKENS[kind], ignore_eos=False)
        line.append(Question(Conversation(_user(text)), how))
        places.append(len(line))
        line.append(each.question)
    # The first time as many as there are slots; later fewer, so that rows are odd and even.
    outcomes = _outcomes(chat, line, max(2, _slots(chat) - number))
    return [outcomes[place] for place in places]


def _slots(chat: Chat) -> int:
    return chat.stats().slots or _UNKNOWN_SLOTS


def _outcomes(chat: Chat, questions: Sequence[Question], concurrency: int) -> Outcomes:
    found = dict(side_by_side(chat, questions, concurrency, timeout_s=DEADLINE_S))
    return [found.get(index) or EngineBusy("it was not answered") for index in range(len(questions))]


def _whole(chat: RemoteChat, asked: Sequence[Asked], bounds: DeterminismBounds) -> Iterator[Finding]:
    """The texts of answers that are not streamed."""
    texts: list[Answer | EdgeshipError] = []
    for each in asked:
        streamed = request(chat.model, each.question.conversation, each.question.sampling, extras=False)
        body = {name: value for name, value in streamed.items() if name not in ("stream", "stream_options")}
        try:
            said = chat.tell("/v1/chat/completions", body)["choices"][0]["message"].get("content") or ""
            texts.append(replace(each.first, text=said, tokens=(), logprobs=()))
        except EdgeshipError as error:
            texts.append(error)
        except (LookupError, TypeError, AttributeError):
            texts.append(EngineBusy("the answer cannot be read"))
    yield from _held("not-streamed", "As a whole instead of streamed", asked, texts, bounds)


# --- comparing -------------------------------------------------------------------------------------------------------


def _held(
    name: str, told: str, asked: Sequence[Asked], outcomes: Outcomes, bounds: DeterminismBounds
) -> Iterator[Finding]:
    """How many differ from the first time, by the way they are answered, and how far log-probabilities moved."""
    most: Mapping[Way, float] = {
        "greedy": bounds.max_greedy_differing_share,
        "sampled": bounds.max_sampled_differing_share,
    }
    pairs = list(zip(asked, outcomes, strict=True))
    for way in WAYS:
        of_way = [(each, outcome) for each, outcome in pairs if each.way == way]
        if not of_way:
            continue
        differing = [(each, outcome) for each, outcome in of_way if differs(each.first, outcome)]
        share = len(differing) / len(of_way)
        sentence = (
            f"{told}, {len(differing)} of {len(of_way)} {way} answers with a seed differ from the first ones; "
            f"{100 * most[way]:.0f} % may."
        )
        evidence = tuple(_evidence(name, each, outcome) for each, outcome in differing[: requests.MOST_KEPT])
        within = share <= most[way]
        yield Finding(f"{name}-{way}", "pass" if within else "fail", sentence, share, most[way], evidence=evidence)
    moved = [change for each, outcome in pairs if (change := _moved(each.first, outcome)) is not None]
    if moved:
        largest, limit = max(moved), bounds.max_logprob_change_nats
        sentence = f"{told}, log-probabilities of the same tokens change by {largest:.2g} nats; {limit:g} may be."
        yield Finding(f"{name}-logprobs", "pass" if largest <= limit else "fail", sentence, largest, limit, "nats")


def differs(first: Answer, other: Answer | EdgeshipError) -> bool:
    """Whether something else was answered: another text or call, or other tokens, where both tell theirs."""
    if isinstance(other, EdgeshipError):
        return True
    told = first.tokens and other.tokens
    return _said(first) != _said(other) or bool(told and first.tokens != other.tokens)


def _said(answer: Answer) -> tuple[object, ...]:
    # Calls have an id of their own each time.
    return answer.text, answer.thinking, answer.finish, [(call.name, call.arguments) for call in answer.tool_calls]


def _moved(first: Answer, other: Answer | EdgeshipError) -> float | None:
    """By how much the log-probability of a token changed at most, as far as both have the same tokens."""
    if isinstance(other, EdgeshipError) or not first.logprobs or not other.logprobs:
        return None
    changes = []
    same = zip(first.tokens, other.tokens, first.logprobs, other.logprobs, strict=False)
    for mine, others, before, after in same:
        if mine != others:
            break
        changes.append(abs(before.logprob - after.logprob))
    return max(changes, default=None)


def _evidence(name: str, asked: Asked, outcome: Answer | EdgeshipError) -> Evidence:
    return Evidence(
        f"determinism/{name}-{asked.way}-{asked.name}",
        requests.asked(asked.question.conversation, asked.question.sampling),
        requests.shortened(outcome.what if isinstance(outcome, EdgeshipError) else outcome.text),
        requests.shortened(asked.first.text),
    )


CHECK = Check("determinism", "Gives the same answer for the same seed", DeterminismBounds, _run)
