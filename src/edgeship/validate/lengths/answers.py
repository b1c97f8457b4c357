"""What targets answer to long prompts: records, and the errors that stand in their place."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from edgeship.engine.api import Chat, Sampling
from edgeship.errors import EdgeshipError, PromptInvalid, ResourceError, UsageError
from edgeship.measure.evaluation.evaluate import Attempt, EvalRecord, answer_tokens, answers, concurrency_of, greedy
from edgeship.progress import Progress
from edgeship.validate import requests
from edgeship.validate.lengths.longer import Asked
from edgeship.validate.verdict import Evidence, Finding


@dataclass
class Answers:
    """What came of each question, by its case's id; of what there was no time for, neither a record nor an error.

    sampling: how each was asked. faults: the errors that are the target's.
    """

    sampling: dict[str, Sampling] = field(default_factory=dict)
    records: dict[str, EvalRecord] = field(default_factory=dict)
    errors: dict[str, EdgeshipError] = field(default_factory=dict)
    faults: dict[str, EdgeshipError] = field(default_factory=dict)

    def took(self, name: str) -> bool:
        """Whether there was time for it."""
        return name in self.records or name in self.errors

    def in_words(self, name: str) -> str:
        """What came of it, as evidence quotes it."""
        if (error := self.errors.get(name)) is not None:
            return f"{error.code}: {error.what}"
        return requests.shortened(self.records[name].answer)


def ask(chat: Chat, parts: Sequence[Sequence[Asked]], spend_s: float, progress: Progress) -> Answers:
    """The answers. Each of the parts has its own time, so that the second is asked however long the first takes."""
    found = Answers()
    for part in parts:
        if part:
            _ask(chat, part, spend_s, progress, found)
    return found


def _ask(chat: Chat, asked: Sequence[Asked], spend_s: float, progress: Progress, found: Answers) -> None:
    cases = [each.case for each in asked]
    most = answer_tokens(chat, cases)
    attempts = [Attempt(case, greedy(most, case.constraint)) for case in cases]
    until_s = time.monotonic() + spend_s
    outcomes = answers(chat, attempts, concurrency_of(chat, cases), variables={}, until=until_s)
    with closing(outcomes):
        for done, (index, outcome) in enumerate(outcomes, 1):
            progress("longer prompts", done / len(cases))
            name = cases[index].id
            found.sampling[name] = attempts[index].sampling
            if isinstance(outcome, EvalRecord):
                found.records[name] = outcome
                continue
            found.errors[name] = outcome
            if _is_fault(chat, outcome):
                found.faults[name] = outcome


def _is_fault(chat: Chat, error: EdgeshipError) -> bool:
    """Whether an answer was due: the prompt fits, as far as its tokens could be counted, and the target had room."""
    if isinstance(error, UsageError):
        return isinstance(error, PromptInvalid) and chat.codec is not None
    return not isinstance(error, ResourceError)


def unanswered(asked: Sequence[Asked], found: Answers) -> Iterator[Finding]:
    """The prompts that ended with an error; nothing where none did."""
    lost = [each for each in asked if each.case.id in found.faults]
    if lost:
        took = sum(found.took(each.case.id) for each in asked)
        first = found.faults[lost[0].case.id]
        told = (
            f"{len(lost)} of {took} prompts that fit into the context got no answer, the first of them "
            f"{lost[0].group}: {first.code}: {first.what.rstrip('.')}."
        )
        evidence = tuple(evidence_of("unanswered", each, found, "an answer") for each in lost[: requests.MOST_KEPT])
        yield Finding("longer-prompts-answered", "fail", told, evidence=evidence)


def evidence_of(name: str, asked: Asked, got: Answers, expected: str) -> Evidence:
    """One question as it was asked."""
    case = asked.case
    request = requests.asked(case.asked, got.sampling[case.id])
    return Evidence(f"lengths/{name}-{case.id}", request, got.in_words(case.id), expected)


def rates(asked: Sequence[Asked], found: Answers) -> Mapping[str, tuple[int, int]]:
    """How many of each group pass, of how many answers."""
    counted: dict[str, tuple[int, int]] = {}
    for each in asked:
        if (record := found.records.get(each.case.id)) is not None:
            passed, total = counted.get(each.group, (0, 0))
            counted[each.group] = passed + record.passed, total + 1
    return counted
