from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship.engine.api import Sampling
from edgeship.engine.sampling import Sampler, defaults_of, logprob, logprobs
from edgeship.errors import EngineFailed, PromptInvalid
from edgeship.package.genai_config import Search

NEUTRAL = Sampling(
    temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0
)
LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=30).map(
    lambda values: np.array(values, np.float32)
)
Floats = npt.NDArray[np.float32]


def sampler(prompt: tuple[int, ...] = (), vocab_size: int = 30, **changes: Any) -> Sampler:
    return Sampler(replace(NEUTRAL, **changes), prompt, vocab_size)


def by_definition(logits: Floats, sampling: Sampling) -> npt.NDArray[np.float64]:
    """Each token's probability, step by step as the documentation has it."""
    assert sampling.temperature
    wide = logits.astype(np.float64) / sampling.temperature
    chances = np.exp(wide - wide.max())
    order = np.lexsort((np.arange(len(logits)), -logits))
    if sampling.top_k:
        chances[order[sampling.top_k :]] = 0
    chances /= chances.sum()
    if sampling.top_p is not None and sampling.top_p < 1:
        before = np.cumsum(chances[order]) - chances[order]
        chances[order[before >= sampling.top_p * (1 - 1e-12)]] = 0
    if sampling.min_p:
        chances[chances < sampling.min_p * chances.max() * (1 - 1e-12)] = 0
    found: npt.NDArray[np.float64] = chances / chances.sum()
    return found


@settings(max_examples=60)
@given(
    LOGITS,
    st.sampled_from([0.3, 1.0, 2.5]),
    st.sampled_from([0, 1, 4]),
    st.sampled_from([0.4, 0.9, 1.0]),
    st.sampled_from([0.0, 0.1, 1.0]),
)
def test_only_what_may_be_drawn_is_drawn(logits: Floats, heat: float, top_k: int, top_p: float, min_p: float) -> None:
    choice = replace(NEUTRAL, temperature=heat, top_k=top_k, top_p=top_p, min_p=min_p, seed=3)
    chances = by_definition(logits, choice)
    made = Sampler(choice, (), len(logits))
    drawn = {made.choose(logits) for _ in range(50)}
    assert all(chances[token] > 0 for token in drawn)


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.2}, {"top_k": 5, "top_p": 0.9}]
)
def test_tokens_come_as_often_as_they_should(changes: dict[str, Any]) -> None:
    logits = np.array([2.0, 1.0, 0.5, 0.5, -1.0, -3.0], np.float32)
    choice, count = replace(NEUTRAL, seed=5, **changes), 6000
    made = Sampler(choice, (), len(logits))
    found = np.bincount([made.choose(logits) for _ in range(count)], minlength=len(logits)) / count
    expected = by_definition(logits, choice)
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / count)
    assert found[expected == 0].sum() == 0


def test_the_same_seed_draws_the_same_tokens() -> None:
    logits = np.linspace(0, 3, 30, dtype=np.float32)
    one, other = ([made.choose(logits) for _ in range(40)] for made in (sampler(seed=9), sampler(seed=9)))
    assert one == other
    assert one != [made.choose(logits) for made in [sampler(seed=10)] for _ in range(40)]
    # Pinned: another way from seed to token would change everybody's answers.
    assert one[:6] == [12, 26, 21, 16, 18, 9]


@given(LOGITS)
def test_at_temperature_0_the_likeliest_wins_and_logits_stay_as_they_are(logits: Floats) -> None:
    before = logits.copy()
    assert sampler(temperature=0.0, vocab_size=len(logits)).choose(logits) == int(logits.argmax())
    made = sampler(temperature=0.0, repetition_penalty=2.0, logit_bias={0: 1.0}, vocab_size=len(logits), prompt=(1, 2))
    made.choose(logits)
    assert np.array_equal(logits, before)


def test_penalties() -> None:
    logits = np.array([2.0, 1.9, -1.0], np.float32)

    def best(made: Sampler, *said: int) -> int:
        for token in said:
            made.accept(token)
        return made.choose(logits)

    assert best(sampler(temperature=0.0, repetition_penalty=1.5, prompt=(0,))) == 1
    assert best(sampler(temperature=0.0, repetition_penalty=1.5), 0) == 1
    assert best(sampler(temperature=0.0, presence_penalty=0.2), 0) == 1
    # Presence and frequency count the answer alone, frequency each time.
    assert best(sampler(temperature=0.0, presence_penalty=0.2, prompt=(0,))) == 0
    assert best(sampler(temperature=0.0, frequency_penalty=0.06), 0) == 0
    assert best(sampler(temperature=0.0, frequency_penalty=0.06), 0, 0) == 1


def test_a_bias_and_a_mask() -> None:
    logits = np.array([2.0, 1.0, 0.0], np.float32)
    assert sampler(temperature=0.0, logit_bias={2: 5.0}).choose(logits) == 2
    assert sampler(temperature=0.0, logit_bias={0: -100.0}).choose(logits) == 1
    allowed = np.array([False, False, True])
    assert sampler(logit_bias={0: 100.0}).choose(logits, allowed) == 2
    with pytest.raises(EngineFailed, match="no token is allowed"):
        sampler().choose(logits, np.zeros(3, np.bool_))
    with pytest.raises(PromptInvalid, match="logit_bias names token 30, outside the vocabulary of 30"):
        sampler(logit_bias={30: 1.0})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(bad: float) -> None:
    logits = np.array([0.0, bad, 1.0], np.float32)
    with pytest.raises(EngineFailed, match="no numbers"):
        sampler().choose(logits)
    with pytest.raises(EngineFailed, match="no numbers"):
        logprob(logits, 0, 1)


@given(LOGITS, st.integers(0, 3))
def test_log_probabilities(logits: Floats, top: int) -> None:
    wide = logits.astype(np.float64)
    expected = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
    found = logprob(logits, 1, top)
    assert found.logprob == pytest.approx(expected[1], abs=1e-5)
    order = np.lexsort((np.arange(len(logits)), -logits))[:top]
    assert [token for token, _ in found.top] == order.tolist()
    assert [value for _, value in found.top] == pytest.approx(expected[order].tolist(), abs=1e-5)
    assert logprobs(np.stack([logits, logits]), [1, 1], top) == (found, found)


def test_a_packages_max_length_limits_no_answer() -> None:
    assert defaults_of(Search(max_length=100)).max_tokens is None


# --- the same token for the same seed ---------------------------------------------------------------------------------


def by_sorting(logits: Floats, settings: Sampling, drawn: float) -> int:
    """What is to be chosen, in the plainest way: all tokens are put in order, equally likely ones by id."""
    best = logits.max()
    near = np.flatnonzero(logits >= best - np.float32(30.0 * (settings.temperature or 1.0)))
    near = near[np.lexsort((near, -logits[near]))][: settings.top_k or None]
    shares = np.exp((logits[near].astype(np.float64) - float(best)) / (settings.temperature or 1.0))
    sums = np.cumsum(shares)
    kept = (
        int(np.searchsorted(sums, (settings.top_p or 1.0) * sums[-1])) + 1 if (settings.top_p or 1) < 1 else len(near)
    )
    kept = min(kept, int((shares >= (settings.min_p or 0.0) * shares[0]).sum()))
    return int(near[min(int(np.searchsorted(sums, drawn * sums[kept - 1], side="right")), kept - 1)])


SHAPES: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "usual": lambda chance, size: chance.normal(0, 2.5, size) + 12 * (chance.random(size) < 20 / size),
    "flat": lambda chance, size: chance.normal(0, 0.01, size),
    "equal": lambda _, size: np.zeros(size),
    "ties": lambda chance, size: chance.integers(0, 5, size),
    "peaked": lambda chance, size: chance.normal(0, 1, size) + 60 * (np.arange(size) == size // 2),
    "masked": lambda chance, size: np.where(chance.random(size) < 0.01, chance.normal(0, 3, size), -np.inf),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [3, 700, 5_000])
def test_a_token_is_chosen_as_if_all_were_sorted(shape: str, size: int) -> None:
    logits = SHAPES[shape](np.random.default_rng(size), size).astype(np.float32)
    logits[0] = max(logits[0], 0)
    for temperature, top_k, top_p, min_p in itertools.product((0.7, 2.0), (0, 1, 50, 3_000), (1.0, 0.9), (0.0, 0.05)):
        wanted = replace(NEUTRAL, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=7)
        chosen, draws = Sampler(wanted, (), size), np.random.Generator(np.random.PCG64(7))
        for _ in range(6):
            assert chosen.choose(logits) == by_sorting(logits, wanted, draws.random())
