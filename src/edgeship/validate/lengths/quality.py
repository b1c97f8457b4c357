"""Whether answers stay right in longer prompts, and facts are found wherever they stand, as by the original."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from edgeship.engine.api import Chat, Sampling
from edgeship.errors import EdgeshipError
from edgeship.measure.cases.evalset import EvalCase, EvalMessage
from edgeship.measure.evaluation.evaluate import Attempt, EvalRecord, answer_tokens, answers, concurrency_of, greedy
from edgeship.measure.statistics import noninferiority
from edgeship.measure.statistics.intervals import paired_change
from edgeship.progress import Progress
from edgeship.targets import Target
from edgeship.validate import requests
from edgeship.validate.lengths.bounds import LengthBounds
from edgeship.validate.subject import Effort, Subject
from edgeship.validate.verdict import Evidence, Finding

OWN = "at their own length"
_FILLERS = (
    "The weather is fine today.",
    "A train leaves the station every hour.",
    "The garden has roses and old trees.",
)
_PLACES = {"early": 0.1, "in the middle": 0.5, "late": 0.9}
_FACTS = (("red box", "4729"), ("blue door", "8316"), ("green car", "5082"))
_ROOM_TOKENS = 192
_TOKENS_A_FILLER = 8
"""Where nobody counts them: no tokenizer makes fewer words of these than one a word, few make more."""
_UNKNOWN_CONTEXT_TOKENS = 2048
_SHOWN = 5
_ORIGINAL_SLOWER = 4
"""An original in FP32 may take so many times as long."""


@dataclass(frozen=True)
class Amount:
    """How much is asked. parts: of the context that prompts fill. spend_s: what is not answered then is left out."""

    cases: int
    parts: tuple[float, ...]
    fillers: int
    spend_s: float


AMOUNTS: dict[Effort, Amount] = {
    "quick": Amount(3, (0.1,), 1, 0.5),
    "default": Amount(8, (0.05, 0.2, 0.8), 3, 3.0),
    "long": Amount(48, (0.05, 0.1, 0.2, 0.4, 0.8), 3, 900.0),
}


@dataclass(frozen=True)
class Asked:
    """A case at a length, or with a fact at a place. group: which of the rates it counts for."""

    group: str
    case: EvalCase


def look(subject: Subject, bounds: LengthBounds, progress: Progress) -> Iterator[Finding]:
    """The eval's cases in longer prompts, and facts in fillers."""
    amount, chat = AMOUNTS[subject.effort], subject.chat
    context = chat.context_tokens or _UNKNOWN_CONTEXT_TOKENS
    needles = _needles(chat, context, amount)
    padded = _padded(chat, context, subject.against.cases, amount)
    if subject.against.cases and not padded:
        yield Finding("quality", "skipped", "No case of the evaluation is short enough to be made longer.")
    elif not padded:
        yield Finding("quality", "skipped", "There is no evaluation whose cases could be made longer.")
    # Each has time of its own, so that facts are asked for however long the cases take.
    parts = [part for part in (padded, needles) if part]
    found = {name: record for part in parts for name, record in _passes(chat, part, amount, progress).items()}
    original = subject.against.original
    if not isinstance(original, Target):
        if padded:
            yield _quality_alone(padded, found, bounds)
        yield _needles_alone(needles, found)
        return
    progress("the original is asked the same", None)
    with original.open() as other:
        reference: dict[str, EvalRecord] = {}
        for part in parts:
            answered = [each for each in part if each.case.id in found]
            reference |= _passes(other, answered, amount, progress, slower=_ORIGINAL_SLOWER)
    if padded:
        yield _beside("quality", "answered right", padded, found, reference, bounds)
    yield _beside("facts", "found", needles, found, reference, bounds)


# --- what is asked ---------------------------------------------------------------------------------------------------


def _padded(chat: Chat, context: int, cases: Sequence[EvalCase], amount: Amount) -> list[Asked]:
    """Cases that are spread over the evaluation, each at its own length and at longer ones."""
    fit = [case for case in cases if case.messages[-1].role == "user" and _tokens(chat, case) + _ROOM_TOKENS < context]
    chosen = fit[:: max(1, len(fit) // amount.cases)][: amount.cases]
    found = []
    for case in chosen:
        found.append(Asked(OWN, case))
        own = _tokens(chat, case)
        for part in amount.parts:
            if (room := min(round(part * context), context - _ROOM_TOKENS) - own) > 0:
                found.append(Asked(f"at {part * context:,.0f} tokens", _longer(chat, case, room, part)))
    # All of one length after the other: what there is no time for are the longest ones.
    order = {OWN: 0.0} | {f"at {part * context:,.0f} tokens": part for part in amount.parts}
    return sorted(found, key=lambda each: order[each.group])


def _longer(chat: Chat, case: EvalCase, tokens: int, part: float) -> EvalCase:
    """The case with text before its question that says nothing."""
    filler = f"{_fill(chat, _FILLERS[0], tokens)} "
    last = case.messages[-1]
    messages = (*case.messages[:-1], last.model_copy(update={"content": filler + last.content}))
    return case.model_copy(update={"messages": messages, "id": f"{case.id}-{part:g}"})


def _needles(chat: Chat, context: int, amount: Amount) -> list[Asked]:
    """Questions for a fact that stands early, in the middle or late in a text."""
    found = []
    for part in amount.parts:
        for filler, (thing, code) in zip(_FILLERS[: amount.fillers], _FACTS, strict=False):
            for place, share in _PLACES.items():
                tokens = max(0, min(round(part * context), context - _ROOM_TOKENS) - _ROOM_TOKENS // 2)
                before = _fill(chat, filler, round(tokens * share))
                after = _fill(chat, filler, round(tokens * (1 - share)))
                text = f"{before} The number of the {thing} is {code}. {after} What is the number of the {thing}?"
                message = EvalMessage(role="user", content=text.strip())
                name = f"fact-{place.split()[-1]}-{part:g}-{thing.split()[0]}"
                found.append(Asked(place, EvalCase(id=name, messages=(message,), expected=code, match="contains")))
    return found


def _fill(chat: Chat, filler: str, tokens: int) -> str:
    """A text of at most so many tokens that says the same again and again."""
    each = len(chat.codec.encode(f" {filler}", special=False).tokens) if chat.codec else _TOKENS_A_FILLER
    return " ".join([filler] * (tokens // max(1, each)))


def _tokens(chat: Chat, case: EvalCase) -> int:
    """Of its prompt; never less than it has where nobody counts."""
    try:
        return len(chat.codec.render(case.asked).tokens) if chat.codec else len(str(case.conversation).encode())
    except EdgeshipError:
        return chat.context_tokens or _UNKNOWN_CONTEXT_TOKENS


# --- what comes of it ------------------------------------------------------------------------------------------------


def _passes(
    chat: Chat, asked: Sequence[Asked], amount: Amount, progress: Progress, *, slower: float = 1
) -> dict[str, EvalRecord]:
    """The answers, by the case's id; none for what there was no time for, or what was refused."""
    cases = [each.case for each in asked]
    if not cases:
        return {}
    most = answer_tokens(chat, cases)
    attempts = [Attempt(case, greedy(most, case.constraint)) for case in cases]
    until = time.monotonic() + slower * amount.spend_s
    found: dict[str, EvalRecord] = {}
    outcomes = answers(chat, attempts, concurrency_of(chat, cases), variables={}, until=until)
    with closing(outcomes):
        for index, outcome in outcomes:
            progress("longer prompts", len(found) / len(cases))
            if isinstance(outcome, EvalRecord):
                found[cases[index].id] = outcome
    return found


def _rates(asked: Sequence[Asked], found: Mapping[str, EvalRecord]) -> dict[str, tuple[int, int]]:
    """How many of each group pass, of how many."""
    rates: dict[str, tuple[int, int]] = {}
    for each in asked:
        if (record := found.get(each.case.id)) is not None:
            passed, total = rates.get(each.group, (0, 0))
            rates[each.group] = passed + record.passed, total + 1
    return rates


def _in_words(rates: Mapping[str, tuple[int, int]]) -> str:
    return ", ".join(f"{passed} of {total} {group}" for group, (passed, total) in rates.items())


def _quality_alone(padded: Sequence[Asked], found: Mapping[str, EvalRecord], bounds: LengthBounds) -> Finding:
    rates = _rates(padded, found)
    if not rates:
        return Finding("quality", "skipped", "No case was answered in the time that there was.")
    told = f"Right with text before the question: {_in_words(rates)}."
    own, total = rates.get(OWN, (0, 0))
    last, asked = list(rates.values())[-1]
    if not bounds.least_kept_alone or not own or len(rates) < 2:
        return Finding(
            "quality", "skipped", f"{told} Without an original to ask, nothing says how many could be right."
        )
    kept = (last / asked) / (own / total)
    within = kept >= bounds.least_kept_alone
    told += f" That is {kept:.0%} of what is right at their own length, and {bounds.least_kept_alone:.0%} must be."
    return Finding("quality", "pass" if within else "fail", told, kept, bounds.least_kept_alone)


def _needles_alone(needles: Sequence[Asked], found: Mapping[str, EvalRecord]) -> Finding:
    rates = ", ".join(f"{passed} of {total} {place}" for place, (passed, total) in _rates(needles, found).items())
    said = rates or "none was asked for, for lack of time"
    told = f"Facts that were found: {said}. Without an original to ask, nothing says how many could be."
    return Finding("facts", "skipped", told)


def _beside(
    name: str,
    verb: str,
    asked: Sequence[Asked],
    found: Mapping[str, EvalRecord],
    reference: Mapping[str, EvalRecord],
    bounds: LengthBounds,
) -> Finding:
    """Whether as many pass as of the original's answers, at each length or place."""
    groups: dict[str, list[Asked]] = {}
    for each in asked:
        if each.case.id in found and each.case.id in reference:
            groups.setdefault(each.group, []).append(each)
    if not groups:
        return Finding(name, "skipped", "There was no time to ask both the target and the original.")

    def passed(records: Mapping[str, EvalRecord], cases: Sequence[Asked]) -> list[bool]:
        return [records[each.case.id].passed for each in cases]

    changes = {group: paired_change(passed(reference, cases), passed(found, cases)) for group, cases in groups.items()}
    worse = noninferiority.worse_slices(changes, bounds.most_drop)
    told = "; ".join(
        f"{sum(passed(found, cases))} of {len(cases)} are {verb} {group}, "
        f"{sum(passed(reference, cases))} by the original"
        for group, cases in groups.items()
    )
    drop = max(0.0, *(-change.change for change in changes.values()))
    if not worse:
        return Finding(name, "pass", f"{told}.", drop, bounds.most_drop)
    lost = [
        each for group in worse for each in groups[group]
        if reference[each.case.id].passed and not found[each.case.id].passed
    ]  # fmt: skip
    evidence = tuple(_evidence(name, each, found[each.case.id], reference[each.case.id]) for each in lost[:_SHOWN])
    told = f"{told}: surely more than {bounds.most_drop:.0%} fewer {', '.join(worse)}."
    return Finding(name, "fail", told, drop, bounds.most_drop, evidence=evidence)


def _evidence(name: str, asked: Asked, got: EvalRecord, expected: EvalRecord) -> Evidence:
    sampling = Sampling(temperature=0.0, seed=0, max_tokens=max(got.completion_tokens, expected.completion_tokens) + 1)
    return Evidence(
        f"lengths/{name}-{asked.case.id}",
        requests.asked(asked.case.asked, sampling),
        requests.shortened(got.answer),
        requests.shortened(expected.answer),
    )
