"""Logits to a token. Pure, but for each answer's own random numbers.

Order: logit_bias, repetition, presence and frequency penalty, constraint, temperature, top_k, top_p, min_p.
Where temperature is not 0 one number is drawn for each token, and the token is found by the inverse of the cumulative
sum over candidates, the likeliest first and equally likely ones by id: the same seed gives the same tokens everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeship.engine.api import Logprob, Sampling
from edgeship.errors import EngineFailed, PromptInvalid
from edgeship.package.genai_config import Search

Floats = npt.NDArray[np.float32]
Allowed = npt.NDArray[np.bool_]

# Tokens that lie further below the likeliest, in units of temperature, have less than 1e-8 of the probability in all
# vocabularies that we know, and need not be sorted.
_FAR = 30.0


def defaults_of(search: Search) -> Sampling:
    """A package's own settings.

    Its max_length is for readers that reserve memory by it: only the context ends our answers.
    """
    return Sampling(
        temperature=_or(search.temperature, 1.0) if search.do_sample else 0.0,
        top_p=search.top_p or 1.0,
        top_k=search.top_k or 0,
        min_p=0.0,
        repetition_penalty=_or(search.repetition_penalty, 1.0),
        presence_penalty=0.0,
        frequency_penalty=0.0,
    )


def _or(stated: float | None, neutral: float) -> float:
    return neutral if stated is None else stated


class Sampler:
    """Chooses the tokens of one answer.

    sampling: complete, so no number in it is None but the seed's. A seed of None takes the system's entropy.
    Raises PromptInvalid for a bias on a token that the model does not have.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int], vocab_size: int) -> None:
        self._sampling = sampling
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))
        bias = sampling.logit_bias or {}
        strangers = [token for token in bias if not 0 <= token < vocab_size]
        if strangers:
            raise PromptInvalid(f"logit_bias names token {strangers[0]}, outside the vocabulary of {vocab_size}")
        self._biased = np.fromiter(bias, np.int64, len(bias))
        self._bias = np.fromiter(bias.values(), np.float32, len(bias))
        self._repeated: dict[int, None] = dict.fromkeys(prompt) if sampling.repetition_penalty != 1.0 else {}
        self._said: dict[int, int] = {}

    def accept(self, token: int) -> None:
        """Counts a token of the answer."""
        if self._sampling.repetition_penalty != 1.0:
            self._repeated[token] = None
        if self._sampling.presence_penalty or self._sampling.frequency_penalty:
            self._said[token] = self._said.get(token, 0) + 1

    def choose(self, logits: Floats, allowed: Allowed | None = None) -> int:
        """The next token. logits: float32 [vocabulary], left as they are.

        Raises EngineFailed where none can be chosen.
        """
        found = self._adjusted(logits)
        if allowed is not None:
            found = np.where(allowed, found, np.float32(-np.inf))
        best = int(found.argmax())
        _check(float(found[best]))
        temperature = self._sampling.temperature or 0.0
        if temperature == 0.0:
            return best
        candidates, shares = _candidates(found, temperature, self._sampling)
        sums = np.cumsum(shares)
        drawn = self._random.random() * sums[-1]
        return int(candidates[min(int(np.searchsorted(sums, drawn, side="right")), len(candidates) - 1)])

    def _adjusted(self, logits: Floats) -> Floats:
        settings = self._sampling
        if not (len(self._biased) or self._repeated or self._said):
            return logits
        found = logits.copy()
        if len(self._biased):
            found[self._biased] += self._bias
        if self._repeated:
            tokens = np.fromiter(self._repeated, np.int64, len(self._repeated))
            values, penalty = found[tokens], np.float32(settings.repetition_penalty)
            found[tokens] = np.where(values > 0, values / penalty, values * penalty)
        if self._said:
            tokens = np.fromiter(self._said, np.int64, len(self._said))
            times = np.fromiter(self._said.values(), np.float32, len(self._said))
            presence, frequency = settings.presence_penalty or 0.0, settings.frequency_penalty or 0.0
            found[tokens] -= np.float32(presence) + times * np.float32(frequency)
        return found


def logprob(logits: Floats, token: int, top: int) -> Logprob:
    """How likely `token` is by logits [vocabulary], and the `top` likeliest ones; equally likely ones by id."""
    best = float(logits.max())
    _check(best)
    total = best + float(np.log(np.exp(logits - np.float32(best)).sum(dtype=np.float64)))
    likeliest = _top(logits, top)
    return Logprob(
        float(logits[token]) - total, tuple((int(index), float(logits[index]) - total) for index in likeliest)
    )


def logprobs(logits: Floats, tokens: Sequence[int], top: int) -> tuple[Logprob, ...]:
    """The same for logits [n, vocabulary] and n tokens."""
    return tuple(logprob(row, token, top) for row, token in zip(logits, tokens, strict=True))


def _check(best: float) -> None:
    if best != best or best == np.inf:
        raise EngineFailed(
            "the model gave logits that are no numbers",
            hint="Check the package with `edgeship cache verify`; build it again if it is whole.",
        )
    if best == -np.inf:
        raise EngineFailed("no token is allowed here", hint="Look at logit_bias and at the constraint.")


def _candidates(
    logits: Floats, temperature: float, settings: Sampling
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Tokens that may be drawn, likeliest first, and their probabilities up to a factor."""
    best = logits.max()
    near = np.flatnonzero(logits >= best - np.float32(min(_FAR * temperature, 3e38)))
    values = logits[near]
    count = settings.top_k or 0
    if 0 < count < len(near):
        # All that are as likely as the last one stay for the moment, so that ids decide among them.
        least = np.partition(values, len(values) - count)[len(values) - count]
        near, values = near[values >= least], values[values >= least]
    order = np.lexsort((near, -values))
    near, values = near[order], values[order]
    if 0 < count < len(near):
        near, values = near[:count], values[:count]
    shares = np.exp((values.astype(np.float64) - float(best)) / temperature)
    if settings.top_p is not None and settings.top_p < 1.0:
        sums = np.cumsum(shares)
        kept = int(np.searchsorted(sums, settings.top_p * sums[-1], side="left")) + 1
        near, shares = near[:kept], shares[:kept]
    if settings.min_p:
        kept = int((shares >= settings.min_p * shares[0]).sum())
        near, shares = near[:kept], shares[:kept]
    return near, shares


def _top(logits: Floats, count: int) -> npt.NDArray[np.int64]:
    if count == 0:
        return np.empty(0, np.int64)
    least = np.partition(logits, len(logits) - count)[len(logits) - count]
    near = np.flatnonzero(logits >= least)
    return near[np.lexsort((near, -logits[near]))][:count]
