"""Answers the cases of an evaluation side by side, and counts what passes."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from edgeship.engine.answer import Answer
from edgeship.engine.api import Chat, Constraint, Engine, FinishReason, Sampling, ToolCall
from edgeship.engine.opening import ENOUGH_CONTEXT_TOKENS
from edgeship.errors import ConstraintInvalid, EdgeshipError, EvalInvalid, PromptInvalid, TemplateInvalid
from edgeship.measure.cases.assertions import AssertionResult, Embed, Reply
from edgeship.measure.cases.evalset import EvalCase, judge
from edgeship.measure.evaluation.asking import Question, side_by_side
from edgeship.measure.evaluation.repeats import Repeats, rate_interval, repeats
from edgeship.measure.statistics.intervals import Interval
from edgeship.progress import Progress, silent

SLOTS = 16
"""So many cases are answered side by side where an engine has the room: more gain little on a few cores."""
LISTED_FAILURES = 20
_ROOM_TOKENS = 16
_ROOM_AROUND_TOKENS = 256
# What a chat template writes around a conversation, and a special token for each word of it at worst.
_TEMPLATE_TOKENS = 512


@dataclass(frozen=True)
class EvalRecord:
    """What became of one case, or of one attempt at it.

    ttft_s, e2e_s: from when its turn came, without waiting in line. queue_s: that waiting.
    score: the mean of its assertions', by their weights. reason: why it fails.
    attempt: from 1. seed: of its sampling; None where none was given.
    """

    id: str
    slice: str
    passed: bool
    answer: str
    finish: FinishReason
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    e2e_s: float
    queue_s: float = 0.0
    score: float = 0.0
    reason: str = ""
    attempt: int = 1
    seed: int | None = None
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    assertions: tuple[AssertionResult, ...] = ()


@dataclass(frozen=True)
class EvalError:
    """A case whose answer did not come, and that is judged neither right nor wrong. code: see docs/errors.md."""

    id: str
    attempt: int
    code: str
    what: str


@dataclass(frozen=True)
class SliceResult:
    """How many of some cases pass: of a slice, a tag, or those that an assertion is about. Attempts count each."""

    passed: int
    cases: int


@dataclass(frozen=True)
class EvalFailure:
    """A case that fails, beside what was expected. reason: of each assertion that does not hold, what was found."""

    id: str
    question: str
    expected: str
    answer: str
    reason: str = ""


@dataclass(frozen=True)
class Latency:
    """Half and 95 % of the answers take no longer."""

    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class EvalResult:
    """An evaluation set's outcome.

    cases: answers that were judged, each attempt at a case by itself; passed: those that are right.
    failures: the first LISTED_FAILURES; records: every case in the file's order, from which all else follows.
    score: the mean of the cases' scores, by their weights. repeats: of several attempts, how many are right.
    concurrency: so many answers were made side by side, which the latencies are of. errors: answers that did not come.
    """

    cases: int
    passed: int
    pass_rate: float
    pass_rate_95: Interval
    by_slice: dict[str, SliceResult]
    failures: tuple[EvalFailure, ...]
    max_tokens: int
    completion_tokens: int
    wall_s: float
    ttft: Latency
    e2e: Latency
    records: tuple[EvalRecord, ...]
    concurrency: int = 1
    score: float | None = None
    by_tag: dict[str, SliceResult] | None = None
    by_assertion: dict[str, SliceResult] | None = None
    repeats: tuple[Repeats, ...] = ()
    errors: tuple[EvalError, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """One time that a case is asked. number: from 1."""

    case: EvalCase
    sampling: Sampling
    number: int = 1


def evaluate(
    chat: Chat, cases: Sequence[EvalCase], progress: Progress = silent, constraint: Constraint | None = None
) -> EvalResult:
    """Answers all cases greedily, with the package's own repetition penalty, held to a constraint where there is one.

    Side by side in the chat's slots; answers are the same as one after another. Raises EvalInvalid for a case that
    this model cannot be asked, EngineFailed.
    """
    max_tokens, concurrency = answer_tokens(chat, cases), concurrency_of(chat, cases)
    attempts = [Attempt(case, greedy(max_tokens, case.constraint or constraint)) for case in cases]
    kept: dict[int, EvalRecord] = {}
    start = time.perf_counter()
    progress(told(0, attempts), 0.0)
    for index, found in answers(chat, attempts, concurrency):
        if isinstance(found, EdgeshipError):
            raise _of_case(attempts[index].case, found) from found
        kept[index] = found
        progress(told(len(kept), attempts), len(kept) / len(attempts))
    records = [kept[index] for index in range(len(attempts))]
    return summarise(cases, records, max_tokens, time.perf_counter() - start, concurrency=concurrency)


def _of_case(case: EvalCase, error: EdgeshipError) -> EdgeshipError:
    if isinstance(error, PromptInvalid | TemplateInvalid):
        return EvalInvalid(f"case {case.id!r} cannot be asked: {error.what}", where=error.where, hint=error.hint)
    if isinstance(error, ConstraintInvalid) and case.answer_schema is not None:
        return EvalInvalid(f"the schema of case {case.id!r}: {error.what}", where=error.where, hint=error.hint)
    return error


def told(done: int, attempts: Sequence[Attempt]) -> str:
    """How far it is, as progress tells it."""
    return f"evaluation, {done} of {len(attempts)} cases"


def greedy(max_tokens: int, constraint: Constraint | None) -> Sampling:
    """How a case is answered. By its seed the answer does not depend, to the bit, on what is answered beside it."""
    return Sampling(temperature=0.0, max_tokens=max_tokens, thoughts_count=False, constraint=constraint, seed=0)


def answer_tokens(chat: Chat, cases: Sequence[EvalCase]) -> int:
    """Tokens an answer may have: twice the longest expected one and room, more where text stands around."""
    longest = max(_count_tokens(chat, case.right_answer or "") for case in cases)
    room = _ROOM_AROUND_TOKENS if any(case.is_open for case in cases) else _ROOM_TOKENS
    return 2 * longest + room


def _count_tokens(chat: Chat, text: str) -> int:
    """Tokens of a text, or its bytes where the model shows no tokens: there are never more tokens than bytes."""
    return len(chat.encode(text).tokens) if isinstance(chat, Engine) else len(text.encode())


def slots_for(cases: Sequence[EvalCase]) -> int:
    """How many slots an engine is to have for these cases, where memory allows.

    One, which has all the memory, for cases that may be longer than what each of many is sure to hold; and for those
    that assert a latency, which is meant of an answer by itself.
    """
    long = any(_most_tokens(case) > ENOUGH_CONTEXT_TOKENS for case in cases)
    return 1 if long or any(each.base == "latency" for case in cases for each in case.assertions) else SLOTS


def _most_tokens(case: EvalCase) -> int:
    return _TEMPLATE_TOKENS + len(str(case.conversation).encode()) + 2 * len((case.right_answer or "").encode())


def concurrency_of(chat: Chat, cases: Sequence[EvalCase]) -> int:
    """How many cases are asked at a time, where nobody says: what the chat answers side by side."""
    return min(chat.stats().slots or 1, slots_for(cases))


def answers(
    chat: Chat,
    attempts: Sequence[Attempt],
    concurrency: int,
    *,
    variables: Mapping[str, Any] = MappingProxyType({}),
    timeout_s: float | None = None,
    until: float = math.inf,
    embed: Embed | None = None,
) -> Generator[tuple[int, EvalRecord | EdgeshipError]]:
    """(index, how it was answered or the error that it ends with), for each attempt as it ends.

    variables: of the chat template. timeout_s, until: see `asking.side_by_side`. embed: see `evalset.judge`.
    """
    questions = [Question(replace(each.case.asked, variables=variables), each.sampling) for each in attempts]
    outcomes = side_by_side(chat, questions, concurrency, timeout_s=timeout_s, until=until)
    with closing(outcomes):
        for index, outcome in outcomes:
            yield index, outcome if isinstance(outcome, EdgeshipError) else _judged(attempts[index], outcome, embed)


def _judged(attempt: Attempt, answer: Answer, embed: Embed | None) -> EvalRecord | EdgeshipError:
    """The answer with what was found in it, or why it could not be judged."""
    case, usage = attempt.case, answer.usage
    e2e_s = usage.e2e_s - usage.queue_s
    try:
        outcome = judge(case, replace(Reply.of(answer), e2e_s=e2e_s), embed=embed)
    except EdgeshipError as error:
        return error
    return EvalRecord(
        case.id,
        case.slice,
        outcome.passed,
        answer.text,
        answer.finish,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.ttft_s - usage.queue_s,
        e2e_s,
        queue_s=usage.queue_s,
        score=outcome.score,
        reason=outcome.reason,
        attempt=attempt.number,
        seed=attempt.sampling.seed,
        thinking=answer.thinking,
        tool_calls=answer.tool_calls,
        assertions=outcome.results,
    )


def summarise(
    cases: Sequence[EvalCase],
    records: Sequence[EvalRecord],
    max_tokens: int,
    wall_s: float,
    *,
    concurrency: int = 1,
    errors: Sequence[EvalError] = (),
) -> EvalResult:
    """What becomes of cases by their records, of which there is one at least."""
    by_id = {case.id: case for case in cases}
    passed = sum(record.passed for record in records)
    found = repeats([(record.id, record.passed) for record in records])
    return EvalResult(
        cases=len(records),
        passed=passed,
        pass_rate=passed / len(records),
        pass_rate_95=rate_interval([(record.id, record.passed) for record in records]),
        by_slice=_counted((record.slice, record.passed) for record in records),
        failures=_failures(by_id, records),
        max_tokens=max_tokens,
        completion_tokens=sum(record.completion_tokens for record in records),
        wall_s=wall_s,
        ttft=_latency([record.ttft_s for record in records]),
        e2e=_latency([record.e2e_s for record in records]),
        records=tuple(records),
        concurrency=concurrency,
        score=_score(by_id, records),
        by_tag=_counted((tag, record.passed) for record in records for tag in by_id[record.id].tags),
        by_assertion=_counted((each.name, each.passed) for record in records for each in record.assertions),
        repeats=found if len(found) > 1 else (),
        errors=tuple(errors),
    )


def _counted(outcomes: Iterable[tuple[str, bool]]) -> dict[str, SliceResult]:
    by_name: dict[str, list[bool]] = {}
    for name, passed in outcomes:
        by_name.setdefault(name, []).append(passed)
    return {name: SliceResult(sum(each), len(each)) for name, each in by_name.items()}


def _failures(by_id: Mapping[str, EvalCase], records: Sequence[EvalRecord]) -> tuple[EvalFailure, ...]:
    """The first cases that fail, each with its first answer that does."""
    first: dict[str, EvalRecord] = {}
    for record in records:
        if not record.passed and len(first) < LISTED_FAILURES:
            first.setdefault(record.id, record)
    return tuple(
        EvalFailure(case.id, case.question, case.expected_text, record.answer, record.reason)
        for record in first.values()
        for case in (by_id[record.id],)
    )


def _score(by_id: Mapping[str, EvalCase], records: Sequence[EvalRecord]) -> float:
    weights = [by_id[record.id].weight for record in records]
    return math.fsum(w * record.score for w, record in zip(weights, records, strict=True)) / math.fsum(weights)


def _latency(seconds: list[float]) -> Latency:
    import numpy as np

    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return Latency(float(p50), float(p95))
