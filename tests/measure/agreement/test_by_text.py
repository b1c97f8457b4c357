from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.agreement import by_text
from edgeship.measure.agreement.by_text import TextDraws

lengths = st.lists(st.integers(1, 5), min_size=1, max_size=6)


@given(lengths, st.integers(0, 2**32 - 1))
def test_draws_are_those_of_whole_texts(found: list[int], seed: int) -> None:
    """Each draw, made by hand: its texts' values after each other, and numpy's figures of them."""
    values = np.random.default_rng(seed).random(sum(found))
    texts = np.split(values, np.cumsum(found)[:-1])
    draws = TextDraws(found)
    times = np.random.default_rng(0).multinomial(len(found), np.full(len(found), 1 / len(found)), by_text._DRAWS)
    means, quantiles = draws.means(values), draws.quantiles(values, [0.0, 0.5, 0.9, 1.0])
    for draw in (0, 1, by_text._DRAWS - 1):
        drawn = np.concatenate([text for text, count in zip(texts, times[draw], strict=True) for _ in range(count)])
        assert means[draw] == pytest.approx(drawn.mean())
        assert quantiles[draw] == pytest.approx(np.quantile(drawn, [0.0, 0.5, 0.9, 1.0]))


def test_the_error_covers_the_truth() -> None:
    """Texts that differ by more than their positions: the interval of two errors holds the truth 19 times of 20."""
    random = np.random.default_rng(3)
    held = naive = 0
    for _ in range(200):
        values = random.normal(0, 1, (30, 1)) + random.normal(0, 0.5, (30, 10))
        draws, mean = TextDraws([10] * 30), values.mean()
        error = draws.error(draws.means(values.ravel()))
        assert error is not None
        held += abs(mean) < 1.96 * error
        naive += abs(mean) < 1.96 * values.std() / np.sqrt(values.size)
    assert 180 <= held <= 198
    assert naive < 140


def test_the_same_texts_have_the_same_errors() -> None:
    values = np.random.default_rng(0).random(12)
    one, other = (TextDraws([4, 4, 4]) for _ in range(2))
    assert one.error(one.means(values)) == other.error(other.means(values))


def test_a_single_text_has_no_error() -> None:
    draws = TextDraws([7])
    assert draws.error(draws.means(np.arange(7.0))) is None
