"""How growth is judged, by targets whose times are made up: nothing here waits, and noise is drawn from seeds."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.api import Chat, Stats, Token
from edgeship.measure.load.records import Arrival, Failure, Reply
from edgeship.measure.load.workload import Question
from edgeship.progress import silent
from edgeship.validate.lengths import growth
from edgeship.validate.lengths.bounds import LengthBounds
from edgeship.validate.lengths.growth import Amount, Judged, Point, Refused, Ruler, climb, ladder, memory, quadratic
from edgeship.validate.lengths.prompts import Prompts
from edgeship.validate.subject import Effort
from edgeship.validate.verdict import Finding
from tests.scripted import ScriptedEngine
from tests.validate.chat_faults import Fault, FaultyChat
from tests.validate.subjects import Opened

QUICK = Amount(lengths=8, spend_s=1e9, rounds=3, most_rounds=9)
CONTEXT = 2048
SHARE = 1 / (6 * 192)


@dataclass
class MadeUp:
    """Prompts that are answered at times to come, as `reading` and `writing` tell them in seconds."""

    reading: Callable[[int], float]
    writing: Callable[[int], float]
    noise: Callable[[], float] = lambda: 1.0
    least_tokens: int = 1
    fails_from: int = 1 << 30

    def make(self, tokens: int, new_tokens: int | None) -> Question:
        return Question(prompt_tokens=tokens, new_tokens=new_tokens)

    def ask(self, question: Question) -> Reply:
        tokens, new = question.prompt_tokens or 0, question.new_tokens or 0
        if tokens >= self.fails_from:
            return Reply((), 0.0, failure=Failure("engine-failed", "it broke"))
        at_s = time.perf_counter() + self.reading(tokens) * self.noise()
        arrivals = [Arrival(at_s, ("text",), 1)]
        step_s = self.writing(tokens) * self.noise()
        arrivals += [Arrival(at_s + step_s * step, ("text",), 1) for step in range(1, new)]
        return Reply(tuple(arrivals), arrivals[-1].at_s, finish="length", output_tokens=new)


def judged(prompts: MadeUp, amount: Amount = QUICK) -> dict[str, Finding]:
    ruler = Ruler(cast(Prompts, prompts))
    reached = climb(ruler, ladder(16, CONTEXT - 16, amount.lengths), amount.spend_s, silent)
    each = Judged(ruler, reached, LengthBounds(), SHARE)
    return {found.name: found for found in each.times(amount, full=True, progress=silent)}


def reading(tokens: int) -> float:
    """As the example was measured: a quarter of a millisecond a token, and attention."""
    return 0.002 + 0.00022 * tokens + 0.9e-7 * tokens**2


def writing(tokens: int) -> float:
    return 0.0025 + 1e-6 * tokens


@pytest.mark.parametrize("seed", range(20))
def test_a_good_model_passes_on_a_machine_that_is_busy(seed: int) -> None:
    chance = random.Random(seed)

    findings = judged(MadeUp(reading, writing, lambda: 1 + chance.expovariate(1.0)))

    assert {name: each.outcome for name, each in findings.items()} == {"reading": "pass", "writing": "pass"}


@pytest.mark.parametrize("effort", growth.AMOUNTS)
def test_a_good_model_passes_where_only_one_long_prompt_in_many_is_left_alone(effort: Effort) -> None:
    begun: Counter[int] = Counter()

    def disturbed(tokens: int) -> float:
        begun[tokens] += 1
        return reading(tokens) * (3.0 if tokens == CONTEXT - 16 and begun[tokens] < 12 else 1.0)

    findings = judged(MadeUp(disturbed, writing), replace(growth.AMOUNTS[effort], spend_s=1e9))

    assert findings["reading"].outcome == "pass"


@pytest.mark.parametrize("seed", range(5))
def test_steps_that_each_cost_the_whole_text_fail_in_writing(seed: int) -> None:
    chance = random.Random(seed)

    findings = judged(MadeUp(reading, reading, lambda: 1 + chance.expovariate(2.0)))

    assert findings["writing"].outcome == "fail"
    assert findings["reading"].outcome == "pass"


@pytest.mark.parametrize("seed", range(5))
def test_a_wait_for_each_token_before_fails_in_reading(seed: int) -> None:
    chance = random.Random(seed)

    findings = judged(MadeUp(lambda n: reading(n) + 2.5e-6 * n * n, writing, lambda: 1 + chance.expovariate(2.0)))

    assert findings["reading"].outcome == "fail"
    assert (findings["reading"].figure or 0) > (findings["reading"].bound or 0)


def test_answers_of_one_token_tell_nothing_of_writing() -> None:
    class Short(MadeUp):
        def ask(self, question: Question) -> Reply:
            reply = super().ask(question)
            return Reply(reply.arrivals[:1], reply.end_s, finish="stop", output_tokens=1)

    assert judged(Short(reading, writing))["writing"].outcome == "skipped"


def test_a_prompt_without_an_answer_is_named() -> None:
    with pytest.raises(Refused, match="tokens got no answer: it broke"):
        judged(MadeUp(reading, writing, fails_from=500))


def test_no_longer_prompt_is_begun_than_there_is_time_for() -> None:
    ruler = Ruler(cast(Prompts, MadeUp(lambda n: 0.001 * n, writing)))

    assert climb(ruler, ladder(16, 100_000, 8), 1.0, silent) < 5_000
    assert max(ruler.points) >= 256


@given(
    shortest=st.integers(1, 64),
    most=st.integers(64, 200_000),
    steps=st.integers(2, 12),
)
def test_a_ladder_begins_and_ends_where_it_should(shortest: int, most: int, steps: int) -> None:
    lengths = ladder(shortest, most, steps)

    assert lengths[0] == shortest
    assert lengths[-1] == most
    assert list(lengths) == sorted(set(lengths))


@given(a=st.floats(0, 0.1), b=st.floats(1e-5, 1e-2), c=st.floats(0, 1e-6))
def test_the_fit_finds_what_times_were_made_of_and_nothing_below_nothing(a: float, b: float, c: float) -> None:
    def time_of(tokens: int) -> float:
        return a + b * tokens + c * tokens**2

    lengths = ladder(16, 4096, 8)
    fit = quadratic([(tokens, time_of(tokens)) for tokens in lengths])

    assert all(part >= 0 for part in fit)
    at_end = fit[0] + fit[1] * 4096 + fit[2] * 4096**2
    assert at_end == pytest.approx(time_of(4096), rel=0.02)


def memory_of(held: int, kept: int) -> Finding:
    ruler: Any = Ruler(cast(Prompts, MadeUp(reading, writing)))
    ruler.points = {16: Point(16, held_bytes=100), 2032: Point(2032, held_bytes=held)}
    return memory(100, held, kept, ruler, LengthBounds())


def test_memory_that_could_not_be_seen_with_any_prompt_is_a_reason() -> None:
    ruler: Any = Ruler(cast(Prompts, MadeUp(reading, writing)))
    ruler.points = {16: Point(16), 2032: Point(2032)}

    assert memory(100, 100, 0, ruler, LengthBounds()).outcome == "skipped"


@dataclass
class Held:
    """Processes that hold so much; a part of it is the prompts that an engine was asked."""

    tokens: Callable[[], int]
    token_bytes: int = 0
    ended_after: int = 1 << 30
    looked: int = 0

    def look(self) -> int | None:
        self.looked += 1
        return None if self.looked > self.ended_after else 1_000_000 + self.token_bytes * self.tokens()

    def risen_peak_bytes(self) -> None:
        return None


class Counts(Fault):
    """Counts the tokens of its prompts, and may say that it keeps them all."""

    asked_tokens, told_bytes = 0, 0

    def step(self, step: Token, number: int) -> Token:
        self.asked_tokens += (step.prompt_tokens or 0) if number == 0 else 0
        return step

    def stats(self, stats: Stats) -> Stats:
        return replace(stats, cached_bytes=self.told_bytes * self.asked_tokens)


TOKEN_BYTES = 1_000
"""Of keys and values: of all prompts several times what is held before, of the longest less."""


def looked_at(monkeypatch: pytest.MonkeyPatch, told_bytes: int = 0, **held: int) -> Finding:
    chat = FaultyChat(ScriptedEngine({}, context_tokens=900), Counts)
    counts = cast(Counts, chat._fault)
    counts.told_bytes = told_bytes
    monkeypatch.setattr(growth, "Family", lambda _: Held(lambda: counts.asked_tokens, **held))
    monkeypatch.setattr(growth, "_token_bytes", lambda _: TOKEN_BYTES)
    monkeypatch.setitem(growth.AMOUNTS, "default", Amount(lengths=4, spend_s=1e9, rounds=1, most_rounds=1))
    with Opened(lambda: cast(Chat, chat)) as subject:
        found = growth.look(subject, Ruler(Prompts(subject.chat)), LengthBounds(), silent)
        return next(each for each in found if each.name == "memory")


def test_an_engine_that_frees_no_prompts_keys_and_values_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked_at(monkeypatch, token_bytes=TOKEN_BYTES).outcome == "fail"


def test_an_engine_that_says_what_it_keeps_of_prompts_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked_at(monkeypatch, TOKEN_BYTES, token_bytes=TOKEN_BYTES).outcome == "pass"


def test_processes_that_end_meanwhile_are_not_taken_for_none_that_hold_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert looked_at(monkeypatch, ended_after=5).outcome == "skipped"


def test_memory_may_grow_by_keys_and_values_and_not_by_as_much_again_as_was_held() -> None:
    assert memory_of(450, 300).outcome == "pass"
    assert memory_of(450, 100).outcome == "fail"
    assert memory_of(450, 100).figure == 2.5
