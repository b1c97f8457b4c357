"""How closely a package's next-token distributions follow the reference's. docs/fidelity.md has the definitions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeship.errors import EngineFailed
from edgeship.measure.agreement.by_text import TextDraws
from edgeship.measure.agreement.predictions import Predictions, kld, log_sum_exp, require_finite
from edgeship.measure.statistics.intervals import Interval, wilson

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.integer[Any]]

LIKELIEST = 5
"""Tokens that the agreement of several is about."""
HISTOGRAM_EDGES_NATS = tuple(10 ** (quarter / 4) for quarter in range(-32, 9))
"""From 1e-8 to 100, four to a factor of ten; what lies outside is counted in the first bin and the last."""
_QUANTILES = {
    "median_kld_nats": 0.5,
    "p90_kld_nats": 0.9,
    "p95_kld_nats": 0.95,
    "p99_kld_nats": 0.99,
    "p999_kld_nats": 0.999,
}
_CHUNK_VALUES = 2**21


@dataclass(frozen=True)
class NextTokens:
    """Of each position of a text, the NLL of the token that really follows in both, and whether the likeliest agree."""

    agrees: npt.NDArray[np.bool_]
    reference_nll_nats: Doubles
    candidate_nll_nats: Doubles


@dataclass(frozen=True)
class Scores(NextTokens):
    """The same with what needs whole distributions.

    kld_nats: of the candidate from the reference. shared: of the LIKELIEST tokens of both, the part that they share.
    """

    kld_nats: Doubles
    shared: Doubles


@dataclass(frozen=True)
class Likelihood:
    """How likely the candidate finds the texts: what can be told of a model that tells its likeliest tokens only.

    top1_agreement_95: widened by as much as positions of one text are alike.
    perplexity, reference_perplexity: on the true next tokens; the ratio is the first to the second.
    mean_probability_change, rms_probability_change: of the true next token, candidate minus reference.
    errors: the standard error of each figure by its name, over texts; none of a single text.
    """

    positions: int
    texts: int
    top1_agreement: float
    top1_agreement_95: Interval
    perplexity: float
    reference_perplexity: float
    perplexity_ratio: float
    mean_probability_change: float
    rms_probability_change: float
    errors: Mapping[str, float]


@dataclass(frozen=True)
class Fidelity:
    """A summary over all positions; what is None was not measured by the version that wrote it.

    mean_kld_error_nats: its standard error, as `errors` has it; None for a single text.
    p90_kld_nats and others: quantiles over positions. kld_counts: positions between HISTOGRAM_EDGES_NATS.
    top5_agreement: the part that the five likeliest tokens of both share, on average. All else: see Likelihood.
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
    texts: int | None = None
    p90_kld_nats: float | None = None
    p95_kld_nats: float | None = None
    p999_kld_nats: float | None = None
    top5_agreement: float | None = None
    mean_probability_change: float | None = None
    rms_probability_change: float | None = None
    errors: Mapping[str, float] | None = None
    kld_counts: tuple[int, ...] | None = None


def score(reference: Predictions, logits: Floats, next_tokens: Tokens) -> Scores:
    """Both models on one text.

    logits: the candidate's [n, vocabulary]; next_tokens: [n], what really follows each position.
    Raises EngineFailed where the shapes differ or a logit is not finite.
    """
    if logits.shape != (len(reference), reference.vocab_size):
        raise EngineFailed(
            f"the package's logits have the shape {' x '.join(map(str, logits.shape))}, "
            f"the reference's {len(reference)} x {reference.vocab_size}",
            hint="The package was made of another checkpoint, or with another vocabulary: build it again.",
        )
    if next_tokens.shape != (len(reference),):
        raise ValueError(f"{next_tokens.shape} next tokens for {len(reference)} positions")
    rows = max(1, _CHUNK_VALUES // max(1, reference.vocab_size))
    parts = [slice(start, start + rows) for start in range(0, len(reference), rows)]
    return joined([_score(reference[part], logits[part], next_tokens[part], part.start) for part in parts])


def joined(parts: Sequence[Scores]) -> Scores:
    """The scores of a text that was scored in parts, at least one."""
    return Scores(
        np.concatenate([part.agrees for part in parts]),
        np.concatenate([part.reference_nll_nats for part in parts]),
        np.concatenate([part.candidate_nll_nats for part in parts]),
        np.concatenate([part.kld_nats for part in parts]),
        np.concatenate([part.shared for part in parts]),
    )


def summarise(texts: Iterable[Scores]) -> Fidelity:
    """The fidelity over the positions of all texts. Raises ValueError where there are none."""
    each = list(texts)
    likelihood, draws = _likelihood(each)
    all_texts = joined(each)
    klds = all_texts.kld_nats
    quantiles = dict(zip(_QUANTILES, np.quantile(klds, list(_QUANTILES.values())).tolist(), strict=True))
    drawn = dict(zip(_QUANTILES, draws.quantiles(klds, list(_QUANTILES.values())).T, strict=True))
    drawn |= {"mean_kld_nats": draws.means(klds), "top5_agreement": draws.means(all_texts.shared)}
    errors = _errors(draws, drawn)
    return Fidelity(
        positions=likelihood.positions,
        mean_kld_nats=float(klds.mean()),
        mean_kld_error_nats=errors.get("mean_kld_nats"),
        max_kld_nats=float(klds.max()),
        top1_agreement=likelihood.top1_agreement,
        top1_agreement_95=likelihood.top1_agreement_95,
        perplexity=likelihood.perplexity,
        reference_perplexity=likelihood.reference_perplexity,
        perplexity_ratio=likelihood.perplexity_ratio,
        texts=likelihood.texts,
        top5_agreement=float(all_texts.shared.mean()),
        mean_probability_change=likelihood.mean_probability_change,
        rms_probability_change=likelihood.rms_probability_change,
        errors={**errors, **likelihood.errors},
        kld_counts=_histogram(klds),
        **quantiles,
    )


def summarise_likelihood(texts: Iterable[NextTokens]) -> Likelihood:
    """The likelihood over the positions of all texts. Raises ValueError where there are none."""
    return _likelihood(list(texts))[0]


def _likelihood(texts: Sequence[NextTokens]) -> tuple[Likelihood, TextDraws]:
    if not texts:
        raise ValueError("no positions were scored")
    draws = TextDraws([len(text.agrees) for text in texts])
    agrees = np.concatenate([text.agrees for text in texts])
    nll = np.concatenate([text.candidate_nll_nats for text in texts])
    reference_nll = np.concatenate([text.reference_nll_nats for text in texts])
    change = np.exp(-nll) - np.exp(-reference_nll)
    mean_nll, mean_reference_nll = draws.means(nll), draws.means(reference_nll)
    errors = _errors(
        draws,
        {
            "top1_agreement": draws.means(agrees.astype(np.float64)),
            "perplexity": _exp(mean_nll),
            "reference_perplexity": _exp(mean_reference_nll),
            "perplexity_ratio": _exp(mean_nll - mean_reference_nll),
            "mean_probability_change": draws.means(change),
            "rms_probability_change": np.sqrt(draws.means(change**2)),
        },
    )
    agreed = int(agrees.sum())
    likelihood = Likelihood(
        positions=len(agrees),
        texts=len(texts),
        top1_agreement=agreed / len(agrees),
        top1_agreement_95=_interval(agreed, len(agrees), errors.get("top1_agreement")),
        perplexity=float(_exp(nll.mean())),
        reference_perplexity=float(_exp(reference_nll.mean())),
        perplexity_ratio=float(_exp(nll.mean() - reference_nll.mean())),
        mean_probability_change=float(change.mean()),
        rms_probability_change=math.sqrt(float((change**2).mean())),
        errors=errors,
    )
    return likelihood, draws


def _score(reference: Predictions, logits: Floats, next_tokens: Tokens, first: int) -> Scores:
    require_finite("the package's", logits, first)
    totals, rows = log_sum_exp(logits), np.arange(len(logits))
    count = min(LIKELIEST, logits.shape[1])
    least = np.partition(logits, -count, axis=1)[:, -count]
    shared = np.take_along_axis(logits, reference.tokens[:, :count], axis=1) >= least[:, None]
    return Scores(
        agrees=reference.tokens[:, 0] == logits.argmax(axis=1),
        reference_nll_nats=-reference.next_log_probs,
        candidate_nll_nats=totals - logits[rows, next_tokens],
        kld_nats=kld(reference, logits, totals),
        shared=shared.mean(axis=1),
    )


def _errors(draws: TextDraws, figures: Mapping[str, Doubles]) -> dict[str, float]:
    found = {name: draws.error(values) for name, values in figures.items()}
    return {name: error for name, error in found.items() if error is not None}


def _interval(agreed: int, positions: int, error: float | None) -> Interval:
    """Wilson's, of as many positions as would vary so little if they were independent."""
    rate = agreed / positions
    alone = rate * (1 - rate) / positions
    alike = max(1.0, error**2 / alone) if error and alone else 1.0
    return wilson(agreed / alike, positions / alike)


def _histogram(klds: Doubles) -> tuple[int, ...]:
    edges = np.asarray(HISTOGRAM_EDGES_NATS)
    counts, _ = np.histogram(np.clip(klds, edges[0], edges[-1]), edges)
    return tuple(counts.tolist())


def _exp(value: Any) -> Any:
    # A hopeless model must still give a number that JSON can hold.
    return np.exp(np.minimum(value, 700.0))
