"""Answers every case of an evaluation set and counts what passes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgeship.engine.answer import ask
from edgeship.engine.api import Chat, Constraint, Engine, FinishReason, Sampling
from edgeship.errors import EvalInvalid, PromptInvalid, TemplateInvalid
from edgeship.measure.assertions import Reply
from edgeship.measure.evalset import EvalCase, judge
from edgeship.measure.statistics import Interval, wilson
from edgeship.progress import Progress, silent

LISTED_FAILURES = 20
_ROOM_TOKENS = 16
_ROOM_AROUND_TOKENS = 256


@dataclass(frozen=True)
class EvalRecord:
    """What became of one case."""

    id: str
    slice: str
    passed: bool
    answer: str
    finish: FinishReason
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    e2e_s: float


@dataclass(frozen=True)
class SliceResult:
    """How many of a slice's cases pass."""

    passed: int
    cases: int


@dataclass(frozen=True)
class EvalFailure:
    """A case that fails, beside what was expected."""

    id: str
    question: str
    expected: str
    answer: str


@dataclass(frozen=True)
class Latency:
    """Half and 95 % of the answers take no longer."""

    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class EvalResult:
    """An evaluation set's outcome.

    failures: the first LISTED_FAILURES; records: every case in the file's order, from which all else follows.
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


def evaluate(
    chat: Chat, cases: Sequence[EvalCase], progress: Progress = silent, constraint: Constraint | None = None
) -> EvalResult:
    """Answers all cases greedily, with the package's own repetition penalty, held to a constraint where there is one.

    Raises EvalInvalid for a case that this model cannot be asked, EngineFailed.
    """
    max_tokens = answer_tokens(chat, cases)
    records, start = [], time.perf_counter()
    for index, case in enumerate(cases):
        progress(f"evaluation, {index} of {len(cases)} cases", index / len(cases))
        records.append(_answer(chat, case, greedy(max_tokens, case.constraint or constraint)))
    return summarise(cases, records, max_tokens, time.perf_counter() - start)


def greedy(max_tokens: int, constraint: Constraint | None) -> Sampling:
    """How a case is answered."""
    return Sampling(temperature=0.0, max_tokens=max_tokens, thoughts_count=False, constraint=constraint)


def answer_tokens(chat: Chat, cases: Sequence[EvalCase]) -> int:
    """Tokens an answer may have: twice the longest expected one and room, more where text stands around."""
    longest = max(_count_tokens(chat, case.right_answer or "") for case in cases)
    room = _ROOM_AROUND_TOKENS if any(case.is_open for case in cases) else _ROOM_TOKENS
    return 2 * longest + room


def _count_tokens(chat: Chat, text: str) -> int:
    """Tokens of a text, or its bytes where the model shows no tokens: there are never more tokens than bytes."""
    return len(chat.encode(text).tokens) if isinstance(chat, Engine) else len(text.encode())


def _answer(chat: Chat, case: EvalCase, sampling: Sampling) -> EvalRecord:
    try:
        answer = ask(chat, case.asked, sampling)
    except (PromptInvalid, TemplateInvalid) as error:
        raise EvalInvalid(
            f"case {case.id!r} cannot be asked: {error.what}", where=error.where, hint=error.hint
        ) from error
    usage = answer.usage
    return EvalRecord(
        case.id,
        case.slice,
        judge(case, Reply.of(answer)).passed,
        answer.text,
        answer.finish,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.ttft_s,
        usage.e2e_s,
    )


def summarise(cases: Sequence[EvalCase], records: list[EvalRecord], max_tokens: int, wall_s: float) -> EvalResult:
    passed = sum(record.passed for record in records)
    failed = [(case, record) for case, record in zip(cases, records, strict=True) if not record.passed]
    return EvalResult(
        cases=len(records),
        passed=passed,
        pass_rate=passed / len(records),
        pass_rate_95=wilson(passed, len(records)),
        by_slice={name: _slice_result(records, name) for name in dict.fromkeys(record.slice for record in records)},
        failures=tuple(
            EvalFailure(case.id, case.question, case.expected_text, record.answer)
            for case, record in failed[:LISTED_FAILURES]
        ),
        max_tokens=max_tokens,
        completion_tokens=sum(record.completion_tokens for record in records),
        wall_s=wall_s,
        ttft=_latency([record.ttft_s for record in records]),
        e2e=_latency([record.e2e_s for record in records]),
        records=tuple(records),
    )


def _slice_result(records: Sequence[EvalRecord], name: str) -> SliceResult:
    outcomes = [record.passed for record in records if record.slice == name]
    return SliceResult(sum(outcomes), len(outcomes))


def _latency(seconds: list[float]) -> Latency:
    import numpy as np

    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return Latency(float(p50), float(p95))
