from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pytest

from edgeship.engine.api import Engine, Prompt, Sampling, Token
from edgeship.errors import EngineFailed
from edgeship.measure import speed
from tests.scripted import ScriptedEngine


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("edgeship.measure.speed.time.perf_counter", lambda: self.now)


class TimedEngine(ScriptedEngine):
    """Takes a millisecond for each prompt token and the next of `steps_s` for each new one; stops after `lengths`."""

    def __init__(
        self, clock: Clock, step_s: float = 0.02, lengths: Sequence[int] = (), context_tokens: int = 4096
    ) -> None:
        super().__init__({}, context_tokens=context_tokens)
        self.clock, self.step_s, self.lengths = clock, step_s, list(lengths)
        self.seen: list[tuple[Prompt, Sampling]] = []

    def stream(self, prompt: Prompt, sampling: Sampling, **_: Any) -> Generator[Token, None, None]:
        self.seen.append((prompt, sampling))
        count = sampling.max_tokens or 0
        if len(self.seen) > 1 and self.lengths:
            count = min(count, self.lengths.pop(0))
        self.clock.now += len(prompt.tokens) / 1000
        for index in range(count):
            self.clock.now += self.step_s if index else 0
            yield Token(65, "A", "length" if index == count - 1 else None)
        yield Token(None, "", "stop")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_figures_by_hand(clock: Clock) -> None:
    found = speed.measure(TimedEngine(clock), prompt_tokens=200, new_tokens=11, repeats=2)
    assert found.ttft_s.median == pytest.approx(0.2)
    assert found.prefill_tokens_per_s.median == pytest.approx(1000)
    # ten tokens after the first, 20 ms each
    assert found.decode_tokens_per_s.median == pytest.approx(50)
    assert (found.prompt_tokens, found.new_tokens, len(found.runs)) == (200, 11, 2)


def test_spread_is_over_the_runs(clock: Clock) -> None:
    engine = TimedEngine(clock)
    paces = iter([0.01, 0.01, 0.02, 0.05])  # the warm-up's first

    def tell(message: str, fraction: float | None = None) -> None:
        del message, fraction
        engine.step_s = next(paces)

    engine.step_s = next(paces)
    found = speed.measure(engine, 16, 16, 3, tell)
    assert found.decode_tokens_per_s.median == pytest.approx(50)
    assert found.decode_tokens_per_s.min == pytest.approx(20)
    assert found.decode_tokens_per_s.max == pytest.approx(100)


def test_prompts_differ_within_a_measurement_and_not_between_two(clock: Clock) -> None:
    engines = [TimedEngine(clock), TimedEngine(clock)]
    for engine in engines:
        speed.measure(engine, 32, 16, 2)
    first, second = ([prompt.tokens for prompt, _ in engine.seen] for engine in engines)
    assert first == second
    assert len(set(first)) == 3
    assert all(258 // 4 <= token < 258 * 3 // 4 for prompt in first for token in prompt)


def test_the_model_may_not_stop_and_the_sampler_rests(clock: Clock) -> None:
    engine = TimedEngine(clock)
    speed.measure(engine, 32, 16, 1)
    sampling = engine.seen[-1][1]
    assert sampling == Sampling(temperature=0.0, repetition_penalty=1.0, max_tokens=16, ignore_eos=True)


def test_answers_that_end_early_are_tried_again(clock: Clock) -> None:
    found = speed.measure(TimedEngine(clock, lengths=[3, 40, 0, 30]), 32, 64, 2)
    assert [run.new_tokens for run in found.runs] == [40, 30]
    assert (found.new_tokens, found.asked_new_tokens) == (30, 64)


def test_answers_that_always_end_at_once_are_an_error(clock: Clock) -> None:
    with pytest.raises(EngineFailed, match="no answer reached 8 tokens"):
        speed.measure(TimedEngine(clock, lengths=[2] * 20), 32, 64, 2)


def test_a_clock_that_stands_still_is_no_division_by_zero(clock: Clock) -> None:
    assert speed.measure(TimedEngine(clock, step_s=0.0), 32, 16, 1).decode_tokens_per_s.median > 0


@pytest.mark.parametrize(
    ("context", "prompt", "new", "expected"),
    [
        (4096, 512, 64, (512, 64)),
        (576, 512, 64, (512, 64)),
        (540, 512, 64, (512, 28)),
        (512, 512, 64, (504, 8)),
        (16, 512, 64, (8, 8)),
        (9, 1, 64, (1, 8)),
    ],
)
def test_short_contexts_shrink_the_answer_first(context: int, prompt: int, new: int, expected: tuple[int, int]) -> None:
    assert speed.fit(context, prompt, new) == expected


def test_what_was_shrunk_is_said(clock: Clock) -> None:
    found = speed.measure(TimedEngine(clock, context_tokens=40), 512, 64, 1)
    assert (found.prompt_tokens, found.new_tokens) == (32, 8)
    assert (found.asked_prompt_tokens, found.asked_new_tokens) == (512, 64)


def test_a_context_too_short_for_anything() -> None:
    with pytest.raises(EngineFailed, match="a context of 15 tokens is too short"):
        speed.fit(15, 512, 64)


def test_the_scripted_engine_can_be_measured() -> None:
    engine: Engine = ScriptedEngine({}, context_tokens=64)
    assert speed.measure(engine, 16, 12, 2).new_tokens == 12
