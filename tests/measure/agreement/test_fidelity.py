"""Fidelity by hand, and held against llama-perplexity's definitions, computed here by themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special, stats

from edgeship.errors import EngineFailed
from edgeship.measure.agreement import fidelity
from edgeship.measure.agreement.fidelity import (
    HISTOGRAM_EDGES_NATS,
    Likelihood,
    NextTokens,
    Scores,
    score,
    summarise,
    summarise_likelihood,
)
from edgeship.measure.agreement.predictions import keep
from edgeship.measure.measurement import Measurement
from edgeship.measure.statistics.intervals import wilson
from tests.measure.samples import measurement

rows = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(5)), elements=st.floats(-30, 30, width=32))


def logits(*probabilities: list[float]) -> np.ndarray:
    return np.asarray(np.log(probabilities))


def scores(reference: np.ndarray, candidate: np.ndarray, next_tokens: Sequence[int] | np.ndarray) -> Scores:
    following = np.asarray(next_tokens, np.int64)
    return score(keep(reference, following), candidate, following)


def klds(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    return scores(reference, candidate, np.zeros(len(reference), int)).kld_nats


def test_kld_by_hand() -> None:
    reference, candidate = logits([0.5, 0.25, 0.25], [0.9, 0.05, 0.05]), logits([0.25, 0.5, 0.25], [0.9, 0.05, 0.05])
    # 0.5 ln 2 + 0.25 ln 0.5 = 0.25 ln 2
    assert klds(reference, candidate) == pytest.approx([0.25 * math.log(2), 0.0], rel=1e-6)


@given(rows, st.floats(-50, 50))
def test_kld_is_zero_for_logits_that_only_shift(reference: np.ndarray, shift: float) -> None:
    assert klds(reference, reference.astype(np.float64) + shift) == pytest.approx(0, abs=1e-9)


@given(rows, st.integers(0, 4), st.floats(0.5, 10))
def test_kld_is_above_zero_where_one_likely_logit_differs(reference: np.ndarray, at: int, by: float) -> None:
    candidate = reference.astype(np.float64)
    candidate[:, at] += by
    found = klds(reference, candidate)
    assert (found >= 0).all()
    probabilities = special.softmax(reference.astype(np.float64), axis=1)
    assert (found[(probabilities.max(axis=1) < 0.999) & (probabilities[:, at] > 1e-3)] > 0).all()


@given(rows, st.integers(0, 2**32 - 1))
def test_summary_stays_in_its_ranges(reference: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    candidate = reference + random.normal(0, 2, reference.shape).astype(np.float32)
    found = summarise([scores(reference, candidate, random.integers(0, 5, len(reference)))])
    assert found.positions == len(reference)
    assert 0 <= found.top1_agreement_95.low <= found.top1_agreement <= found.top1_agreement_95.high <= 1
    assert 0 <= found.median_kld_nats <= found.max_kld_nats
    assert found.top5_agreement == 1  # of five tokens
    assert found.p99_kld_nats <= found.max_kld_nats
    assert found.perplexity >= 1
    assert found.perplexity_ratio == pytest.approx(found.perplexity / found.reference_perplexity)
    assert found.kld_counts is not None
    assert sum(found.kld_counts) == found.positions


def test_summary_by_hand() -> None:
    reference = logits([0.5, 0.25, 0.25], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6])
    candidate = logits([0.25, 0.5, 0.25], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6])
    first = scores(reference[:2], candidate[:2], [0, 0])
    second = scores(reference[2:], candidate[2:], [2])
    found = summarise([first, second])
    first_kld = 0.25 * math.log(2)
    assert (found.positions, found.texts) == (3, 2)
    assert found.mean_kld_nats == pytest.approx(first_kld / 3, rel=1e-6)
    assert found.median_kld_nats == pytest.approx(0, abs=1e-12)
    assert found.max_kld_nats == pytest.approx(first_kld, rel=1e-6)
    assert found.top1_agreement == pytest.approx(2 / 3)
    assert found.reference_perplexity == pytest.approx((0.5 * 0.9 * 0.6) ** (-1 / 3))
    assert found.perplexity == pytest.approx((0.25 * 0.9 * 0.6) ** (-1 / 3))
    assert found.perplexity_ratio == pytest.approx(2 ** (1 / 3))
    assert found.mean_probability_change == pytest.approx(-0.25 / 3)
    assert found.rms_probability_change == pytest.approx(0.25 / math.sqrt(3))


def test_the_likeliest_five_are_compared_as_sets() -> None:
    reference = np.arange(12.0)[None]
    candidate = reference.copy()
    candidate[0, [7, 8, 0, 1]] = candidate[0, [0, 1, 7, 8]]  # two of the five go
    found = summarise([scores(reference, candidate, [0])])
    assert found.top1_agreement == 1
    assert found.top5_agreement == pytest.approx(3 / 5)


def llama_perplexity(reference: np.ndarray, candidate: np.ndarray, next_tokens: np.ndarray) -> dict[str, float]:
    """What llama.cpp's perplexity tool prints of these logits by its definitions, without its 16-bit rounding."""
    log_p, log_q = (
        special.log_softmax(np.float64(reference), axis=1),
        special.log_softmax(np.float64(candidate), axis=1),
    )
    each = np.arange(len(next_tokens)), next_tokens
    values = special.rel_entr(np.exp(log_p), np.exp(log_q)).sum(axis=1)
    ordered = np.sort(values)

    def percentile(fraction: float) -> float:
        place = fraction * (len(ordered) - 1)
        low = int(place)
        return float((1 - place + low) * ordered[low] + (place - low) * ordered[min(low + 1, len(ordered) - 1)])

    change = np.exp(log_q[each]) - np.exp(log_p[each])
    return {
        "mean_kld_nats": float(values.mean()),
        "median_kld_nats": float(np.median(values)),
        "max_kld_nats": float(values.max()),
        "p90_kld_nats": percentile(0.9),
        "p95_kld_nats": percentile(0.95),
        "p99_kld_nats": percentile(0.99),
        "p999_kld_nats": percentile(0.999),
        "top1_agreement": float((log_p.argmax(axis=1) == log_q.argmax(axis=1)).mean()),
        "perplexity": math.exp(-log_q[each].mean()),
        "reference_perplexity": math.exp(-log_p[each].mean()),
        "perplexity_ratio": math.exp(log_p[each].mean() - log_q[each].mean()),
        "mean_probability_change": float(change.mean()),
        "rms_probability_change": math.sqrt(float((change**2).mean())),
    }


@pytest.mark.parametrize("vocab_size", [300, 8000])
@pytest.mark.parametrize("noise", [0.014, 0.14, 1.4])  # mean KLDs of about 1e-4, 1e-2 and 1
def test_figures_agree_with_llama_perplexitys_definitions(vocab_size: int, noise: float) -> None:
    random = np.random.default_rng(7)
    reference = random.normal(0, 4, (240, vocab_size)).astype(np.float32)
    candidate = reference + random.normal(0, noise, reference.shape).astype(np.float32)
    # What follows is mostly what the reference finds likely, as in texts.
    next_tokens = np.argsort(-reference, axis=1)[np.arange(240), random.geometric(0.3, 240)]
    found = summarise(
        [
            scores(reference[at : at + 30], candidate[at : at + 30], next_tokens[at : at + 30])
            for at in range(0, 240, 30)
        ]
    )
    expected = llama_perplexity(reference, candidate, next_tokens)
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, rel=1e-3)


def test_errors_of_independent_positions_are_the_usual_ones() -> None:
    random = np.random.default_rng(0)
    texts = [
        Scores(random.random(20) < 0.9, random.random(20), random.random(20), random.random(20), random.random(20))
        for _ in range(200)
    ]
    errors = summarise(texts).errors
    assert errors is not None
    every = np.concatenate([text.kld_nats for text in texts])
    assert errors["mean_kld_nats"] == pytest.approx(stats.sem(every), rel=0.1)
    assert errors["top1_agreement"] == pytest.approx(math.sqrt(0.9 * 0.1 / 4000), rel=0.1)
    # The median of an even spread over 0 to 1.
    assert errors["median_kld_nats"] == pytest.approx(0.5 / math.sqrt(4000), rel=0.25)
    quantities = {"perplexity_ratio", "mean_probability_change", "rms_probability_change", "top5_agreement"}
    assert quantities <= errors.keys()


def test_positions_that_are_alike_count_once() -> None:
    random = np.random.default_rng(0)
    values = random.random(50)
    agrees = random.random(50) < 0.8
    alike = [
        Scores(np.full(20, agreed), np.full(20, value), np.full(20, value), np.full(20, value), np.full(20, value))
        for agreed, value in zip(agrees, values, strict=True)
    ]
    found = summarise(alike)
    assert found.mean_kld_error_nats == pytest.approx(stats.sem(values), rel=0.1)
    interval, alone = found.top1_agreement_95, wilson(int(agrees.sum()), 50)
    assert interval.high - interval.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_a_single_text_has_no_errors() -> None:
    row = logits([0.5, 0.5])
    found = summarise([scores(row, row, [1])])
    assert (found.mean_kld_error_nats, found.errors, found.texts) == (None, {}, 1)


def test_the_histogram_counts_what_lies_outside_at_its_ends() -> None:
    nats = np.array([0.0, 1e-12, 1.1e-8, 0.011, 5000.0])
    text = Scores(np.ones(5, np.bool_), np.ones(5), np.ones(5), nats, np.ones(5))
    counts = summarise([text]).kld_counts
    assert counts is not None
    assert len(counts) == len(HISTOGRAM_EDGES_NATS) - 1
    assert {at: count for at, count in enumerate(counts) if count} == {0: 3, 24: 1, 39: 1}
    assert HISTOGRAM_EDGES_NATS[24] == pytest.approx(0.01)


def test_what_a_model_that_tells_no_distributions_can_be_told_of() -> None:
    agrees, reference_nll = np.array([True, False]), np.array([1.0, 2.0])
    found = summarise_likelihood([NextTokens(agrees, reference_nll, reference_nll + math.log(2))])
    assert isinstance(found, Likelihood)
    assert (found.positions, found.top1_agreement) == (2, 0.5)
    assert found.perplexity_ratio == pytest.approx(2)
    assert found.mean_probability_change == pytest.approx(-np.exp(-reference_nll).mean() / 2)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    reference, candidate = random.normal(size=(2, 11, 7)).astype(np.float32)
    tokens = random.integers(0, 7, 11)
    whole = scores(reference, candidate, tokens)
    monkeypatch.setattr(fidelity, "_CHUNK_VALUES", 21)
    pieces = scores(reference, candidate, tokens)
    for name, values in vars(whole).items():
        assert (values == getattr(pieces, name)).all()


def test_another_vocabulary_is_named() -> None:
    with pytest.raises(EngineFailed, match=r"the package's logits have the shape 2 x 4, the reference's 2 x 3"):
        score(keep(np.zeros((2, 3)), np.zeros(2, int)), np.zeros((2, 4)), np.zeros(2, int))


@pytest.mark.parametrize(("whose", "damaged"), [("the reference's", 0), ("the package's", 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_named(
    whose: str, damaged: int, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fidelity, "_CHUNK_VALUES", 4)
    pair = [np.zeros((3, 4)), np.zeros((3, 4))]
    pair[damaged][2, 1] = value
    with pytest.raises(EngineFailed, match=f"{whose} logits hold NaN or infinity, first at position 2"):
        scores(pair[0], pair[1], np.zeros(3, int))


def test_a_hopeless_model_still_has_a_finite_perplexity() -> None:
    reference = np.array([[0.0, -2000.0]])
    found = summarise([scores(reference, -reference, [0])])
    assert math.isfinite(found.perplexity)
    assert found.max_kld_nats == pytest.approx(2000)


def test_nothing_to_summarise() -> None:
    with pytest.raises(ValueError, match="no positions"):
        summarise([])


def test_a_record_of_an_older_version_is_read() -> None:
    """It knows nothing of the figures that came later."""
    older: dict[str, Any] = {
        "positions": 3,
        "mean_kld_nats": 0.1,
        "mean_kld_error_nats": 0.01,
        "median_kld_nats": 0.1,
        "p99_kld_nats": 0.2,
        "max_kld_nats": 0.3,
        "top1_agreement": 1.0,
        "perplexity": 2.0,
        "top1_agreement_95": {"low": 0.4, "high": 1.0},
        "reference_perplexity": 2.0,
        "perplexity_ratio": 1.0,
    }
    record = measurement().to_dict() | {"fidelity": older}
    record.pop("worst_tokens")
    found = Measurement.from_dict(record)
    assert found.fidelity is not None
    assert (found.fidelity.positions, found.fidelity.p95_kld_nats, found.fidelity.errors) == (3, None, None)
