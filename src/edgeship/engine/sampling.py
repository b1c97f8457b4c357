"""Logits to a token. Pure, but for each answer's own random numbers.

Order: logit_bias, repetition, presence and frequency penalty, constraint, temperature, top_k, top_p, min_p.
Where temperature is not 0 one number is drawn for each token, and the token is found by the inverse of the cumulative
sum over candidates, the likeliest first and equally likely ones by id: the same seed gives the same tokens everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

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
# Sums are made in two steps, since adding one number after the other to the end takes as long as all the rest.
_BLOCK = 512
# To pick some out of many is slower than to sort them all, unless they are a small part.
_FEW = 8


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
        # Kept: to take new memory for each token takes longer than to choose one.
        self._room = np.empty(0, np.float64)

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
        if len(self._room) < len(found):
            self._room = np.empty(len(found), np.float64)
        values, shares = _candidates(found, temperature, self._sampling, self._room)
        place = _place(shares, self._random.random() * shares.sum(), "right")
        # The logits are sorted, not the tokens: among those that are equally likely, the one of that rank.
        higher = len(values) - int(np.searchsorted(values[::-1], values[place], side="right"))
        equal = found == values[place]
        return _place(equal, place - higher, "right") if place > higher else int(equal.argmax())

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
    logits: Floats, temperature: float, settings: Sampling, room: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Logits of the tokens that may be drawn, the highest first, and their probabilities up to a factor.

    room: where the probabilities are put, as many as there are tokens.
    """
    best = float(logits.max())
    near = logits >= np.float32(best) - np.float32(min(_FAR * temperature, 3e38))
    count = int(np.count_nonzero(near))
    if _FEW * count < len(logits):
        logits = logits[near]
    count = min(count, settings.top_k or count)
    if _FEW * count < len(logits):
        logits = np.partition(logits, len(logits) - count)[len(logits) - count :]
    values = np.sort(logits)[: -count - 1 : -1]
    shares = np.subtract(values, best, out=room[:count], dtype=np.float64)
    shares /= temperature
    np.exp(shares, out=shares)
    kept = len(shares)
    if settings.top_p is not None and settings.top_p < 1.0:
        kept = _place(shares, settings.top_p * shares.sum(), "left") + 1
    if settings.min_p:
        kept = min(kept, count - int(np.searchsorted(shares[::-1], settings.min_p * shares[0])))
    return values[:kept], shares[:kept]


def _place(shares: npt.NDArray[Any], wanted: float, side: Literal["left", "right"]) -> int:
    """The first place up to which the shares sum up to what is wanted ("left"), or to more ("right"); else the last."""
    ends = np.cumsum(np.add.reduceat(shares, np.arange(0, len(shares), _BLOCK), dtype=np.float64))
    block = min(int(np.searchsorted(ends, wanted, side)), len(ends) - 1)
    start = block * _BLOCK
    sums = np.cumsum(shares[start : start + _BLOCK], dtype=np.float64)
    if block:
        sums += ends[block - 1]
    return min(start + int(np.searchsorted(sums, wanted, side)), len(shares) - 1)


def _top(logits: Floats, count: int) -> npt.NDArray[np.int64]:
    if count == 0:
        return np.empty(0, np.int64)
    least = np.partition(logits, len(logits) - count)[len(logits) - count]
    near = np.flatnonzero(logits >= least)
    return near[np.lexsort((near, -logits[near]))][:count]
