"""How closely a package's next-token distributions follow the reference's: pure functions on logits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeship.errors import EngineFailed
from edgeship.measure.statistics import Interval, wilson

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]

_CHUNK_VALUES = 2**21


@dataclass(frozen=True)
class Scores:
    """Values of each position: KLD, whether the likeliest tokens agree, the true next token's NLL in both."""

    kld_nats: Doubles
    agrees: npt.NDArray[np.bool_]
    reference_nll_nats: Doubles
    candidate_nll_nats: Doubles


@dataclass(frozen=True)
class Fidelity:
    """A summary over all positions.

    mean_kld_error_nats: the standard error of the mean; None for a single position.
    perplexity, reference_perplexity: on the true next tokens; the ratio is the first to the second.
    """

    positions: int
    mean_kld_nats: float
    mean_kld_error_nats: float | None
    median_kld_nats: float
    p99_kld_nats: float
    max_kld_nats: float
    top1_agreement: float
    top1_agreement_95: Interval
    perplexity: float
    reference_perplexity: float
    perplexity_ratio: float


def log_softmax(logits: Floats) -> Doubles:
    """Log-probabilities along the last axis, nats, computed in float64."""
    values = np.asarray(logits, dtype=np.float64)
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def kld(reference_logits: Floats, logits: Floats) -> Doubles:
    """KL divergence of a candidate from the reference at each position, nats: [n, vocabulary] x 2 -> [n]."""
    return _kld(log_softmax(reference_logits), log_softmax(logits))


def score_logits(reference: Floats, candidate: Floats, next_tokens: npt.NDArray[np.integer[Any]]) -> Scores:
    """Both models on one text.

    reference, candidate: logits [n, vocabulary]; next_tokens: [n], what really follows each position.
    Raises EngineFailed where the shapes differ or a logit is not finite.
    """
    _check(reference, candidate, next_tokens)
    rows = max(1, _CHUNK_VALUES // max(1, reference.shape[1]))
    chunks = [
        _score_rows(
            reference[start : start + rows],
            candidate[start : start + rows],
            next_tokens[start : start + rows],
        )
        for start in range(0, len(reference), rows)
    ]
    return _join(chunks)


def summarise(texts: Iterable[Scores]) -> Fidelity:
    """The fidelity over the positions of all texts. Raises ValueError where there are none."""
    scores = _join(list(texts))
    klds, positions = scores.kld_nats, len(scores.kld_nats)
    if not positions:
        raise ValueError("no positions were scored")
    agreed = int(scores.agrees.sum())
    nll, reference_nll = float(scores.candidate_nll_nats.mean()), float(scores.reference_nll_nats.mean())
    return Fidelity(
        positions=positions,
        mean_kld_nats=float(klds.mean()),
        mean_kld_error_nats=float(klds.std(ddof=1) / math.sqrt(positions)) if positions > 1 else None,
        median_kld_nats=float(np.median(klds)),
        p99_kld_nats=float(np.percentile(klds, 99)),
        max_kld_nats=float(klds.max()),
        top1_agreement=agreed / positions,
        top1_agreement_95=wilson(agreed, positions),
        perplexity=_exp(nll),
        reference_perplexity=_exp(reference_nll),
        perplexity_ratio=_exp(nll - reference_nll),
    )


def _score_rows(reference: Floats, candidate: Floats, next_tokens: npt.NDArray[np.integer[Any]]) -> Scores:
    reference_log, candidate_log = log_softmax(reference), log_softmax(candidate)
    rows = np.arange(len(next_tokens))
    return Scores(
        kld_nats=_kld(reference_log, candidate_log),
        agrees=reference.argmax(axis=-1) == candidate.argmax(axis=-1),
        reference_nll_nats=-reference_log[rows, next_tokens],
        candidate_nll_nats=-candidate_log[rows, next_tokens],
    )


def _kld(reference_log: Doubles, candidate_log: Doubles) -> Doubles:
    # Rounding can leave a hair below zero where the two are equal.
    klds = (np.exp(reference_log) * (reference_log - candidate_log)).sum(axis=-1)
    return np.asarray(np.maximum(klds, 0.0))


def _check(reference: Floats, candidate: Floats, next_tokens: npt.NDArray[np.integer[Any]]) -> None:
    if reference.ndim != 2 or reference.shape != candidate.shape:
        raise EngineFailed(
            f"the package's logits have the shape {_shape(candidate)}, the reference's {_shape(reference)}",
            hint="The package was made of another checkpoint, or with another vocabulary: build it again.",
        )
    if next_tokens.shape != reference.shape[:1]:
        raise ValueError(f"{next_tokens.shape} next tokens for {len(reference)} positions")
    for whose, logits in (("the reference's", reference), ("the package's", candidate)):
        finite = np.isfinite(logits).all(axis=-1)
        if not finite.all():
            raise EngineFailed(
                f"{whose} logits hold NaN or infinity, first at position {int(finite.argmin())}",
                hint="A weight is damaged or overflows at this precision: try one with more bits.",
            )


def _shape(logits: Floats) -> str:
    return " x ".join(map(str, logits.shape))


def _join(chunks: list[Scores]) -> Scores:
    empty = Scores(np.empty(0), np.empty(0, np.bool_), np.empty(0), np.empty(0))
    parts = [empty, *chunks]
    return Scores(
        np.concatenate([part.kld_nats for part in parts]),
        np.concatenate([part.agrees for part in parts]),
        np.concatenate([part.reference_nll_nats for part in parts]),
        np.concatenate([part.candidate_nll_nats for part in parts]),
    )


def _exp(value: float) -> float:
    # A hopeless model must still give a number that JSON can hold.
    return math.exp(min(value, 700.0))
