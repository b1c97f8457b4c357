"""Predictions in compact form: what they take, what they keep exactly, and how near their KLD is to the true one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from edgeship.errors import EngineFailed
from edgeship.measure.agreement.predictions import EVEN, HEAD, LIKELY, Floats, keep, kld, log_sum_exp, row_bytes

LARGE = 151_936


def exact(reference: Floats, candidate: Floats) -> Floats:
    log_p, log_q = (special.log_softmax(np.float64(values), axis=1) for values in (reference, candidate))
    return np.asarray((np.exp(log_p) * (log_p - log_q)).sum(axis=1))


def estimated(reference: Floats, candidate: Floats, seed: int = 0) -> Floats:
    kept = keep(reference, np.zeros(len(reference), int), seed)
    return kld(kept, candidate, log_sum_exp(candidate))


def made_up(rows: int, spread: float, vocab_size: int = LARGE) -> Floats:
    """Logits. The larger their spread, the less is left for the tail: 97 % at 0.3, 0.1 % at 6."""
    return np.random.default_rng(5).normal(0, spread, (rows, vocab_size)).astype(np.float32)


def test_a_position_of_a_large_vocabulary_takes_33_kilobytes() -> None:
    kept = keep(made_up(3, 3), np.zeros(3, int))
    assert kept.nbytes == 3 * row_bytes(LARGE)
    assert row_bytes(LARGE) < 33_000
    assert 20 * 512 * row_bytes(LARGE) < 0.5e9


def test_a_small_vocabulary_is_kept_whole() -> None:
    reference = made_up(4, 3, HEAD + LIKELY + EVEN)
    candidate = reference + made_up(4, 0.1, reference.shape[1])[::-1]
    assert keep(reference, np.zeros(4, int)).tokens.shape == reference.shape
    np.testing.assert_allclose(estimated(reference, candidate), exact(reference, candidate), rtol=1e-5)


def test_the_head_is_exact_and_in_order() -> None:
    reference = made_up(2, 3)
    reference[0, [7, 3]] = 30.0  # of equals the first of the vocabulary, as argmax has them
    following = np.array([100, 200])
    kept = keep(reference, following)
    log_p = special.log_softmax(np.float64(reference), axis=1)
    for row in range(2):
        head = kept.tokens[row, :HEAD]
        assert (np.diff(kept.log_probs[row, :HEAD]) <= 0).all()
        assert set(head) == set(np.argsort(-reference[row])[:HEAD])
        assert not set(head) & set(kept.tokens[row, HEAD:])
        assert kept.tail[row] == pytest.approx(1 - np.exp(log_p[row, head]).sum(), rel=1e-4)
        assert kept.log_probs[row] == pytest.approx(log_p[row, kept.tokens[row]], rel=1e-6, abs=1e-6)
    assert kept.tokens[0, :2].tolist() == [3, 7]
    assert kept.next_log_probs == pytest.approx(log_p[[0, 1], following], rel=1e-6)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0, 6.0])
def test_a_candidate_that_says_the_same_has_no_divergence(spread: float) -> None:
    reference = made_up(2, spread)
    assert estimated(reference, reference + np.float32(3)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("spread", "at_most"), [(0.3, 0.12), (1.0, 0.12), (3.0, 0.04), (6.0, 0.001)])
@pytest.mark.parametrize("noise", [0.014, 0.14, 1.4])  # KLDs of about 1e-4, 1e-2 and 1
@pytest.mark.parametrize("kind", ["noise", "sharper"])
def test_the_estimate_is_near_at_every_position(spread: float, at_most: float, noise: float, kind: str) -> None:
    """Also where nearly all lies in the tail, as no trained model has it."""
    reference = made_up(4, spread)
    changed = np.float32(noise) * np.random.default_rng(6).normal(size=reference.shape).astype(np.float32)
    candidate = reference + changed if kind == "noise" else reference * np.float32(1 + noise)
    true = exact(reference, candidate)
    np.testing.assert_allclose(estimated(reference, candidate), true, rtol=at_most)
    assert estimated(reference, candidate).mean() == pytest.approx(true.mean(), rel=at_most / 2)


def test_the_estimate_is_neither_too_large_nor_too_small_on_average() -> None:
    """Where it is worst: a few tokens of the tail that the candidate finds likely, and the sample may miss."""
    reference = made_up(1, 1.0, 20_000)
    candidate = reference + np.float32(2) * (np.random.default_rng(1).random(reference.shape) < 0.01)
    found = np.array([estimated(reference, candidate, seed)[0] for seed in range(400)])
    error = found.std() / np.sqrt(len(found))
    assert found.mean() == pytest.approx(exact(reference, candidate)[0], abs=4 * error)
    assert error < 0.02 * found.mean()


@pytest.mark.parametrize("given", [0.001, 0.3, 0.999])
def test_what_a_candidate_gives_to_one_token_of_the_tail_is_not_missed(given: float) -> None:
    reference = made_up(8, 6)
    candidate = reference.copy()
    token = np.argsort(-reference, axis=1)[:, LARGE // 2]  # far down
    candidate[np.arange(8), token] = log_sum_exp(reference) + np.log(given / (1 - given))
    np.testing.assert_allclose(estimated(reference, candidate), exact(reference, candidate), rtol=1e-3)


def test_tokens_of_no_probability_do_no_harm() -> None:
    reference = np.full((1, LARGE), -2000.0, np.float32)
    reference[0, :2] = [1.0, 0.0]
    candidate = -reference
    assert estimated(reference, reference)[0] == pytest.approx(0, abs=1e-12)
    assert estimated(reference, candidate)[0] == pytest.approx(exact(reference, candidate)[0], rel=1e-3)


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    reference, following = made_up(2, 1), np.zeros(2, int)
    one, same, other = (keep(reference, following, seed).tokens for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_logits_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(EngineFailed, match="the reference's logits hold NaN or infinity, first at position 1"):
        keep(np.array([[0.0, 1.0], [np.nan, 0.0]]), np.zeros(2, int))
