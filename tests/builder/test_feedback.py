"""Error feedback: what it gains on inputs that go together, and where it must do no harm."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as any_of

from edgeship.builder import feedback
from edgeship.builder.feedback import error_factors, quantize_with_feedback
from edgeship.builder.quantize import Blocks, Scheme, dequantize, quantize

Floats = npt.NDArray[np.float32]
SCHEMES = [Scheme(bits, 32, symmetric) for bits in (4, 8) for symmetric in (True, False)]


def correlated(count: int, width: int, seed: int = 0) -> Floats:
    """Inputs [count, width] of few causes with noise, in columns of unequal size; the same causes for every seed."""
    causes = np.random.default_rng(99)
    mix = causes.standard_normal((width // 8, width))
    sizes = np.exp(causes.standard_normal(width))
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((count, width // 8)) @ mix + random.standard_normal((count, width))
    return (inputs * sizes).astype(np.float32)


def weights(count: int, width: int) -> Floats:
    return (np.random.default_rng(1).standard_normal((count, width)) * 0.02).astype(np.float32)


def output_error(rows: Floats, blocks: Blocks, scheme: Scheme, inputs: npt.NDArray[np.floating]) -> float:
    lost = rows.astype(np.float64) - dequantize(blocks, scheme, rows.shape[1])
    return float(np.square(inputs @ lost.T).sum())


@pytest.mark.parametrize("scheme", [*SCHEMES, Scheme(4, 16, True), Scheme(4, 128, False), Scheme(4, 256, True)])
@pytest.mark.parametrize("width", [256, 200])
def test_outputs_are_nearer_than_with_search_alone(scheme: Scheme, width: int) -> None:
    rows, inputs, others = weights(48, width), correlated(1000, width), correlated(500, width, seed=7)
    made = quantize_with_feedback(rows, error_factors(inputs.T @ inputs), scheme)
    plain = quantize(rows, scheme, np.square(inputs).mean(axis=0))
    assert (made.packed.shape, made.scales.shape, made.scales.dtype) == (
        plain.packed.shape, plain.scales.shape, plain.scales.dtype
    )  # fmt: skip
    assert (made.zero_points is None) == scheme.symmetric
    for seen in (inputs, others):
        assert output_error(rows, made, scheme, seen) < 0.75 * output_error(rows, plain, scheme, seen)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_inputs_that_have_nothing_in_common_change_next_to_nothing(scheme: Scheme) -> None:
    rows, inputs = weights(16, 200), np.eye(200, dtype=np.float32)
    made = quantize_with_feedback(rows, error_factors(inputs), scheme)
    plain = quantize(rows, scheme, np.ones(200, np.float32))
    ratio = output_error(rows, made, scheme, inputs) / output_error(rows, plain, scheme, inputs)
    assert 0.9 < ratio < 1, "scales are better by a little, for they are fitted once more"


@pytest.mark.parametrize("alive", [0, 100, 159])
def test_inputs_that_are_always_zero_are_rounded_by_themselves(alive: int) -> None:
    rows, scheme, inputs = weights(16, 160), SCHEMES[0], correlated(500, 160)
    inputs[:, alive:] = 0
    restored = dequantize(quantize_with_feedback(rows, error_factors(inputs.T @ inputs), scheme), scheme, 160)
    assert np.isfinite(restored).all()
    lost = np.square(restored - rows)[:, alive:].sum() / np.square(rows[:, alive:]).sum()
    assert lost < 0.03, "weights of dead inputs are still those weights"


def test_scales_and_integers_are_chosen_again_when_all_others_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, scheme, inputs = weights(48, 200), SCHEMES[1], correlated(1000, 200)
    factors = error_factors(inputs.T @ inputs, 0.01)
    made = output_error(rows, quantize_with_feedback(rows, factors, scheme), scheme, inputs)
    monkeypatch.setattr(feedback, "_refine", lambda *_: None)
    once = output_error(rows, quantize_with_feedback(rows, factors, scheme), scheme, inputs)
    assert made < 0.95 * once


@pytest.mark.parametrize("size", [1e-37, 1e30])
def test_only_the_shape_of_the_inputs_matters(size: float) -> None:
    rows, scheme, inputs = weights(16, 128), SCHEMES[1], correlated(1000, 128)
    gram = inputs.T @ inputs / np.float32(1e5)
    made = quantize_with_feedback(rows, error_factors(gram), scheme)
    scaled = quantize_with_feedback(rows, error_factors(gram * np.float32(size)), scheme)
    assert (dequantize(made, scheme, 128) == dequantize(scaled, scheme, 128)).mean() > 0.9


def test_fewer_inputs_than_columns_are_enough() -> None:
    rows, scheme, inputs = weights(16, 256), SCHEMES[0], correlated(40, 256)
    made = quantize_with_feedback(rows, error_factors(inputs.T @ inputs), scheme)
    assert output_error(rows, made, scheme, inputs) < 0.5 * output_error(rows, quantize(rows, scheme), scheme, inputs)


@pytest.mark.parametrize("scheme", [*SCHEMES, Scheme(4, 256, True)])
def test_errors_reach_columns_of_later_groups_exactly(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups are for speed: with one group, hence no product between groups, the integers are nearly all the same."""
    rows, inputs = weights(16, 512), correlated(1000, 512)
    factors = error_factors(inputs.T @ inputs)
    grouped = dequantize(quantize_with_feedback(rows, factors, scheme), scheme, 512)
    monkeypatch.setattr(feedback, "_GROUP", 512)
    whole = dequantize(quantize_with_feedback(rows, factors, scheme), scheme, 512)
    assert (grouped == whole).mean() > 0.9


def test_rows_may_come_in_parts() -> None:
    rows, scheme, inputs = weights(16, 256), SCHEMES[1], correlated(500, 256)
    shared = error_factors(inputs.T @ inputs)
    whole = dequantize(quantize_with_feedback(rows, shared, scheme), scheme, 256)
    parts = [
        dequantize(quantize_with_feedback(rows[part], shared, scheme), scheme, 256)
        for part in np.split(np.arange(16), 4)
    ]
    assert (np.concatenate(parts) == whole).mean() > 0.9


def test_blocks_with_the_largest_inputs_come_first() -> None:
    diagonal = np.ones(200, np.float32)
    diagonal[[70, 195]] = 5, 9
    diagonal[130:140] = 3
    order = error_factors(np.diag(diagonal)).for_blocks(32).order
    assert [*order[::32]] == [64, 128, 0, 32, 96, 160, 192], "what is not a whole block is the last"
    assert np.array_equal(order[:32], np.arange(64, 96))


def test_one_large_input_leaves_the_others_their_feedback() -> None:
    rows, scheme, inputs = weights(48, 256), SCHEMES[0], correlated(1000, 256)
    inputs[:, 7] = 0
    gram = inputs.T @ inputs
    gram[7, 7] = 1e5 * np.trace(gram)
    made = quantize_with_feedback(rows, error_factors(gram), scheme)
    plain = quantize(rows, scheme, np.diagonal(gram))
    assert output_error(rows, made, scheme, inputs) < 0.75 * output_error(rows, plain, scheme, inputs)


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("width", [1, 100, 300])
def test_the_factor_is_that_of_the_inverse(width: int, size: int) -> None:
    inputs = correlated(2 * width + 8, max(width, 8))[:, :width].astype(np.float64)
    gram = inputs.T @ inputs
    factors = error_factors(gram.astype(np.float32), 0.05)
    made, damped = factors.for_blocks(size), factors.gram.astype(np.float64)
    assert np.allclose(damped, gram / np.median(np.diagonal(gram)) + 0.05 * np.eye(width), rtol=2e-4, atol=1e-4)
    assert not np.tril(made.factor, -1).any()
    assert sorted(made.order) == list(range(width))
    factor = made.factor.astype(np.float64)
    product = factor.T @ factor @ damped[np.ix_(made.order, made.order)]
    assert np.abs(product - np.eye(width)).max() < 1e-3
    assert made.importance == pytest.approx(1 / np.square(np.diagonal(factor)), rel=1e-5)


@any_of.composite
def hostile_inputs(draw: any_of.DrawFn) -> Floats:
    """Few texts or many, few causes or many, columns of any size: some dead, some the same, some enormous."""
    count, width = draw(any_of.sampled_from([1, 2, 8, 300])), draw(any_of.sampled_from([33, 96, 200]))
    random = np.random.default_rng(draw(any_of.integers(0, 1000)))
    causes = draw(any_of.sampled_from([1, 4, width]))
    inputs = random.standard_normal((count, causes)) @ random.standard_normal((causes, width))
    inputs *= np.exp(draw(any_of.sampled_from([0, 1, 2])) * random.standard_normal(width))
    same = random.random(width) < draw(any_of.sampled_from([0, 0.03, 0.5]))
    inputs[:, same] = draw(any_of.sampled_from([1e-18, 1, 1e3, 1e6])) * random.standard_normal((count, 1))
    inputs[:, random.random(width) < draw(any_of.sampled_from([0, 0.3, 1]))] = 0
    return (inputs * draw(any_of.sampled_from([1e-12, 1, 1e6]))).astype(np.float32)


@given(inputs=hostile_inputs(), scheme=any_of.sampled_from([*SCHEMES, Scheme(4, 128, True)]))
def test_feedback_is_no_worse_than_rounding_alone_whatever_the_inputs(inputs: Floats, scheme: Scheme) -> None:
    rows = weights(32, inputs.shape[1])
    rows[0] = 0
    made = quantize_with_feedback(rows, error_factors(inputs.T @ inputs), scheme)
    plain, wide = quantize(rows, scheme), inputs.astype(np.float64)
    assert not dequantize(made, scheme, rows.shape[1])[0].any()
    assert output_error(rows, made, scheme, wide) <= output_error(rows, plain, scheme, wide) + 1e-12


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_huge_row_changes_no_other(scheme: Scheme) -> None:
    rows, inputs = weights(4, 200), correlated(500, 200)
    factors = error_factors(inputs.T @ inputs)
    calm = dequantize(quantize_with_feedback(rows, factors, scheme), scheme, 200)
    rows[0] *= 1e6
    made = dequantize(quantize_with_feedback(rows, factors, scheme), scheme, 200)
    assert np.isfinite(made).all()
    assert (made[1:] == calm[1:]).mean() > 0.9  # products of another shape may be rounded otherwise


def test_a_matrix_of_zeros_stays_one() -> None:
    inputs = correlated(500, 200)
    made = quantize_with_feedback(np.zeros((4, 200), np.float32), error_factors(inputs.T @ inputs), SCHEMES[0])
    assert not dequantize(made, SCHEMES[0], 200).any()
