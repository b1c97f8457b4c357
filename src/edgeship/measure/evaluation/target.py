"""An evaluation of whatever answers: in which ways its cases are answered, and what comes of each."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edgeship.engine.api import Chat, Constraint, Engine, Sampling
from edgeship.errors import DeadlinePassed, EdgeshipError, EngineFailed
from edgeship.measure.cases.askable import require_askable_by
from edgeship.measure.cases.assertions import Embed
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.evaluation.evaluate import (
    Attempt,
    EvalError,
    EvalRecord,
    EvalResult,
    answer_tokens,
    answers,
    concurrency_of,
    greedy,
    slots_for,
    summarise,
)
from edgeship.progress import Progress, silent

Way = Literal["shipped", "greedy"]
WAYS: tuple[Way, ...] = ("shipped", "greedy")
"""As the target answers by itself, which is what its users get, and by the likeliest token."""
SERVER_CONCURRENCY = 4
"""So many requests are sent to a server at a time, where nobody says."""
GIVE_UP_AFTER = 10
"""So many errors in a row, and at least as many as are asked at a time, and no more is asked."""
INTERRUPTED, TIME_RAN_OUT = "interrupted", "the time ran out"
TOLD: Mapping[Way, str] = {"shipped": "as it ships", "greedy": "greedily"}
# Some servers take no seed of more bits.
_SEEDS, LARGEST_SEED = 2**31, 2**64


@dataclass(frozen=True)
class EvalOptions:
    """How cases are to be asked.

    repeat: attempts at each case; one where the next would be the same. seed: the same one gives the same answers; None
    tells a server none. concurrency: None is as many as the target answers side by side. max_tokens: of an answer;
    None as `answer_tokens` says. constraint: for cases without one of their own. variables: of the chat template.
    timeout_s: of one answer. duration_s: of the whole.
    """

    ways: tuple[Way, ...] = WAYS
    repeat: int = 1
    seed: int | None = None
    concurrency: int | None = None
    max_tokens: int | None = None
    constraint: Constraint | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 600.0
    duration_s: float | None = None
    embed: Embed | None = None


@dataclass(frozen=True)
class WayResult:
    """What came of the cases, answered in one way.

    sampling: the settings by name, but for seeds. attempts: that were to be made. stopped: why not all were.
    result: None where nothing was answered.
    same: the other way, where it gives the same answers.
    """

    way: Way
    sampling: Mapping[str, Any]
    attempts: int
    repeat: int
    concurrency: int
    result: EvalResult | None
    errors: tuple[EvalError, ...]
    stopped: str | None = None
    same: Way | None = None

    @property
    def complete(self) -> bool:
        """Whether each attempt has an answer or an error."""
        return self.stopped is None


def evaluate_target(
    chat: Chat, cases: Sequence[EvalCase], options: EvalOptions, progress: Progress = silent
) -> tuple[WayResult, ...]:
    """What comes of the cases in each way, those first that were asked first.

    What was answered until Ctrl-C, or until the time runs out, is kept. Where nothing was, the first error is raised,
    DeadlinePassed or KeyboardInterrupt; EngineFailed where no answer came in time. Raises EvalInvalid for cases that
    the target cannot be asked.
    """
    require_askable_by(chat, cases)
    until = math.inf if options.duration_s is None else time.monotonic() + options.duration_s
    found: list[WayResult] = []
    for way, same in _different(chat, options.ways):
        tally, result = _in_one_way(chat, cases, options, way, same, until, progress)
        if result.result is None and not found:
            raise tally.why_nothing(result.stopped)
        found.append(result)
        if not result.complete:
            break
    return tuple(found)


def _different(chat: Chat, ways: Sequence[Way]) -> list[tuple[Way, Way | None]]:
    """The ways whose answers differ, each with the one that it stands for too."""
    if len(ways) > 1 and _is_greedy(Sampling().over(chat.defaults)):
        return [(ways[0], ways[1])]
    return [(way, None) for way in ways]


def _is_greedy(sampling: Sampling) -> bool:
    return sampling.temperature == 0 or sampling.top_k == 1


def _in_one_way(
    chat: Chat,
    cases: Sequence[EvalCase],
    options: EvalOptions,
    way: Way,
    same: Way | None,
    until: float,
    progress: Progress,
) -> tuple[_Tally, WayResult]:
    max_tokens = options.max_tokens or answer_tokens(chat, cases)
    concurrency = options.concurrency or _concurrency(chat, cases)
    settings = _way_sampling(way, max_tokens)
    repeat = 1 if _always_same(chat, settings) else options.repeat
    attempts = [
        Attempt(case, sampling_of(way, max_tokens, case, chat, options, number), number)
        for number in range(1, repeat + 1)
        for case in cases
    ]
    tally = _Tally(attempts, concurrency, way, progress)
    start = time.perf_counter()
    found = answers(
        chat,
        attempts,
        concurrency,
        variables=options.variables,
        timeout_s=options.timeout_s,
        until=until,
        embed=options.embed,
    )
    stopped = tally.take(found)
    wall_s = time.perf_counter() - start
    result = None
    if records := tally.records:
        result = summarise(cases, records, max_tokens, wall_s, concurrency=concurrency, errors=tally.errors)
    told = _told_settings(settings.over(chat.defaults))
    return tally, WayResult(way, told, len(attempts), repeat, concurrency, result, tally.errors, stopped, same)


class _Tally:
    """What became of attempts so far, and whether more of them make sense."""

    def __init__(self, attempts: Sequence[Attempt], concurrency: int, way: Way, progress: Progress) -> None:
        self._attempts, self._way, self._progress = attempts, way, progress
        self._most_failed = max(GIVE_UP_AFTER, concurrency)
        self._failed = 0
        self.kept: dict[int, EvalRecord | EvalError] = {}
        self.first_error: EdgeshipError | None = None
        self._tell()

    @property
    def records(self) -> list[EvalRecord]:
        """The answers, in the order of the attempts."""
        return [each for _, each in sorted(self.kept.items()) if isinstance(each, EvalRecord)]

    @property
    def errors(self) -> tuple[EvalError, ...]:
        """The errors that came instead of answers, in the same order."""
        return tuple(each for _, each in sorted(self.kept.items()) if isinstance(each, EvalError))

    def take(self, found: Generator[tuple[int, EvalRecord | EdgeshipError]]) -> str | None:
        """Keeps what comes; why not all did, or None."""
        with closing(found):
            try:
                for index, each in found:
                    self._keep(index, each)
                    if self._failed >= self._most_failed and len(self.kept) < len(self._attempts):
                        return f"{self._failed} answers in a row did not come"
            except KeyboardInterrupt:
                return INTERRUPTED
            except EngineFailed as silence:
                return silence.what
        return None if len(self.kept) == len(self._attempts) else TIME_RAN_OUT

    def why_nothing(self, stopped: str | None) -> BaseException:
        """What is to be raised where no answer came."""
        if stopped == INTERRUPTED:
            return KeyboardInterrupt()
        if isinstance(self.first_error, DeadlinePassed):
            # A verdict may be undecided by that; a target that does not answer has failed.
            return EngineFailed(self.first_error.what, hint="Give each answer more time.")
        if self.first_error:
            return self.first_error
        what = "the time ran out before any case was answered"
        return DeadlinePassed(what, hint="Give it more time.")

    def _keep(self, index: int, found: EvalRecord | EdgeshipError) -> None:
        attempt = self._attempts[index]
        if isinstance(found, EdgeshipError):
            self._failed += 1
            self.first_error = self.first_error or found
            self.kept[index] = EvalError(attempt.case.id, attempt.number, found.code, found.what)
        else:
            self._failed = 0
            self.kept[index] = found
        self._tell()

    def _tell(self) -> None:
        done, of = len(self.kept), len(self._attempts)
        self._progress(f"{TOLD[self._way]}: {done} of {of} answers", done / of)


def _concurrency(chat: Chat, cases: Sequence[EvalCase]) -> int:
    return concurrency_of(chat, cases) if chat.stats().slots else min(SERVER_CONCURRENCY, slots_for(cases))


def _way_sampling(way: Way, max_tokens: int) -> Sampling:
    """Without a constraint and a seed, which are each case's."""
    if way == "greedy":
        return replace(greedy(max_tokens, None), seed=None)
    return Sampling(max_tokens=max_tokens, thoughts_count=False)


def sampling_of(
    way: Way, max_tokens: int, case: EvalCase, chat: Chat, options: EvalOptions, number: int = 1
) -> Sampling:
    """How an attempt at a case is answered: the way's settings with what is the case's own."""
    return replace(
        _way_sampling(way, max_tokens),
        constraint=case.constraint or options.constraint,
        seed=seed_of(case, number, 0 if options.seed is None and isinstance(chat, Engine) else options.seed),
    )


def seed_of(case: EvalCase, number: int, seed: int | None) -> int | None:
    """What an attempt's sampling begins with, whichever other cases are asked; None where no seed is given."""
    first = case.seed
    if first is None:
        if seed is None:
            return None
        first = int.from_bytes(hashlib.sha256(f"{seed} {case.id}".encode()).digest()[:8]) % _SEEDS
    return (first + number - 1) % LARGEST_SEED


def _told_settings(settings: Sampling) -> dict[str, Any]:
    """What is said of how tokens are chosen: settings that are set, without those that every case has of its own."""
    left_out = ("constraint", "seed", "logprobs", "prompt_logprobs", "stop", "ignore_eos", "thoughts_count")
    return {name: value for name, value in vars(settings).items() if name not in left_out and value is not None}


def _always_same(chat: Chat, settings: Sampling) -> bool:
    """Whether another attempt would give the same answer: an engine of ours repeats a greedy one, a server may not."""
    return isinstance(chat, Engine) and _is_greedy(settings.over(chat.defaults))
