from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeship.errors import EngineFailed
from edgeship.measure import fidelity
from edgeship.measure.fidelity import kld, log_softmax, score_logits, summarise

rows = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(5)), elements=st.floats(-30, 30, width=32))


def logits(*probabilities: list[float]) -> np.ndarray:
    return np.asarray(np.log(probabilities))


def test_log_softmax_stays_finite_where_exp_overflows() -> None:
    assert log_softmax(np.array([1000.0, 1000.0, -1000.0], np.float32)) == pytest.approx(
        [-math.log(2), -math.log(2), -2000 - math.log(2)]
    )


def test_kld_by_hand() -> None:
    reference, candidate = logits([0.5, 0.25, 0.25], [0.9, 0.05, 0.05]), logits([0.25, 0.5, 0.25], [0.9, 0.05, 0.05])
    # 0.5 ln 2 + 0.25 ln 0.5 = 0.25 ln 2
    assert kld(reference, candidate) == pytest.approx([0.25 * math.log(2), 0.0])


@given(rows, st.floats(-50, 50))
def test_kld_is_zero_for_logits_that_only_shift(reference: np.ndarray, shift: float) -> None:
    assert kld(reference, reference.astype(np.float64) + shift) == pytest.approx(0, abs=1e-9)


@given(rows, st.integers(0, 4), st.floats(0.5, 10))
def test_kld_is_above_zero_where_one_likely_logit_differs(reference: np.ndarray, at: int, by: float) -> None:
    candidate = reference.astype(np.float64)
    candidate[:, at] += by
    found = kld(reference, candidate)
    assert (found >= 0).all()
    uncertain = np.exp(log_softmax(reference)).max(axis=-1) < 0.999
    moved = np.exp(log_softmax(reference))[:, at] > 1e-3
    assert (found[uncertain & moved] > 0).all()


@given(rows, st.integers(0, 2**32 - 1))
def test_summary_stays_in_its_ranges(reference: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    candidate = reference + random.normal(0, 2, reference.shape).astype(np.float32)
    found = summarise([score_logits(reference, candidate, random.integers(0, 5, len(reference)))])
    assert found.positions == len(reference)
    assert 0 <= found.top1_agreement_95.low <= found.top1_agreement <= found.top1_agreement_95.high <= 1
    assert 0 <= found.median_kld_nats <= found.max_kld_nats
    assert found.p99_kld_nats <= found.max_kld_nats
    assert found.perplexity >= 1
    assert found.perplexity_ratio == pytest.approx(found.perplexity / found.reference_perplexity)


def test_summary_by_hand() -> None:
    reference = logits([0.5, 0.25, 0.25], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6])
    candidate = logits([0.25, 0.5, 0.25], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6])
    first = score_logits(reference[:2], candidate[:2], np.array([0, 0]))
    second = score_logits(reference[2:], candidate[2:], np.array([2]))
    found = summarise([first, second])
    first_kld = 0.25 * math.log(2)
    assert found.positions == 3
    assert found.mean_kld_nats == pytest.approx(first_kld / 3)
    # one value x and two zeros: sample deviation x / sqrt(3), so the mean's error is x / 3
    assert found.mean_kld_error_nats == pytest.approx(first_kld / 3)
    assert found.median_kld_nats == 0
    assert found.max_kld_nats == pytest.approx(first_kld)
    assert found.top1_agreement == pytest.approx(2 / 3)
    assert found.reference_perplexity == pytest.approx((0.5 * 0.9 * 0.6) ** (-1 / 3))
    assert found.perplexity == pytest.approx((0.25 * 0.9 * 0.6) ** (-1 / 3))
    assert found.perplexity_ratio == pytest.approx(2 ** (1 / 3))


def test_one_position_has_no_error_of_the_mean() -> None:
    row = logits([0.5, 0.5])
    assert summarise([score_logits(row, row, np.array([1]))]).mean_kld_error_nats is None


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    reference, candidate = random.normal(size=(2, 11, 7)).astype(np.float32)
    tokens = random.integers(0, 7, 11)
    whole = score_logits(reference, candidate, tokens)
    monkeypatch.setattr(fidelity, "_CHUNK_VALUES", 21)
    pieces = score_logits(reference, candidate, tokens)
    for name in ("kld_nats", "agrees", "reference_nll_nats", "candidate_nll_nats"):
        assert (getattr(whole, name) == getattr(pieces, name)).all()


def test_another_vocabulary_is_named() -> None:
    with pytest.raises(EngineFailed, match=r"the package's logits have the shape 2 x 4, the reference's 2 x 3"):
        score_logits(np.zeros((2, 3)), np.zeros((2, 4)), np.zeros(2, int))


@pytest.mark.parametrize(("whose", "damaged"), [("the reference's", 0), ("the package's", 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_named(whose: str, damaged: int, value: float) -> None:
    pair = [np.zeros((3, 4)), np.zeros((3, 4))]
    pair[damaged][2, 1] = value
    with pytest.raises(EngineFailed, match=f"{whose} logits hold NaN or infinity, first at position 2"):
        score_logits(pair[0], pair[1], np.zeros(3, int))


def test_a_hopeless_model_still_has_a_finite_perplexity() -> None:
    reference = np.array([[0.0, -2000.0]])
    found = summarise([score_logits(reference, -reference, np.array([0]))])
    assert math.isfinite(found.perplexity)


def test_nothing_to_summarise() -> None:
    with pytest.raises(ValueError, match="no positions"):
        summarise([])
