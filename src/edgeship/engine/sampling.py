"""Logits to a token. Pure, but for each answer's own random numbers.

Order: logit_bias, repetition, presence and frequency penalty, constraint, temperature, top_k, top_p, min_p.
Where temperature is not 0 one number is drawn for each token, and the token is found by the inverse of the cumulative
sum over candidates, the likeliest first and equally likely ones by id: the same seed gives the same tokens everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import log
from typing import Literal

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
# Below this, 1 / temperature can be no number; at it, nothing but the likeliest is drawn.
_COLDEST = 1e-30
# Sums are kept of blocks, and the shares of one block are worked out again where they are asked for: to write down all
# shares, and to add them one after the other, takes longer than to work them out.
_BLOCK = 512
# So many are worked out at a time, in memory that is near the processor. A multiple of the block.
_AT_ONCE = 64 * _BLOCK
# To pick some out of many is slower than to sort them all, unless they are a small part.
_FEW = 8
# One of so many is looked at to see whether they are a small part.
_SAMPLE = 16


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
            raise PromptInvalid(
                f"logit_bias names token {strangers[0]}, outside the vocabulary of {vocab_size}", param="logit_bias"
            )
        self._biased = np.fromiter(bias, np.int64, len(bias))
        self._bias = np.fromiter(bias.values(), np.float32, len(bias))
        self._repeated: dict[int, None] = dict.fromkeys(prompt) if sampling.repetition_penalty != 1.0 else {}
        self._said: dict[int, int] = {}
        # Kept: to take new memory for each token takes longer than to choose one.
        self._room = np.empty(0, np.float32)

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
        highest = float(found[best])
        _check(highest)
        temperature = self._sampling.temperature or 0.0
        if temperature == 0.0:
            return best
        if len(self._room) < len(found):
            self._room = np.empty(len(found), np.float32)
        candidates = _Candidates(_descending(found, highest, temperature, self._sampling, self._room), temperature)
        kept = _kept(candidates, self._sampling)
        place = min(candidates.place(self._random.random() * candidates.sum(kept), "right"), kept - 1)
        # The logits are sorted, not the tokens: among those that are equally likely, the one of that rank.
        value, higher = candidates.equals(place)
        equal = found == value
        return int(np.flatnonzero(equal)[place - higher]) if place > higher else int(equal.argmax())

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


def _descending(
    logits: Floats, highest: float, temperature: float, settings: Sampling, room: npt.NDArray[np.float32]
) -> Floats:
    """The logits of the tokens that may be drawn, with their signs turned, so that the likeliest come first.

    room: where they may be put, as many as there are tokens.
    """
    least = np.float32(highest) - np.float32(min(_FAR * temperature, 3e38))
    some = logits[::_SAMPLE]
    if _FEW * int(np.count_nonzero(some >= least)) < len(some):
        logits = logits[logits >= least]
    count = min(len(logits), settings.top_k or len(logits))
    if _FEW * count < len(logits):
        logits = np.partition(logits, len(logits) - count)[len(logits) - count :]
    turned = np.negative(logits, out=room[: len(logits)])
    turned.sort()
    return turned[: min(count, int(np.searchsorted(turned, -least, side="right")))]


class _Candidates:
    """Tokens that may be drawn, the likeliest first, and their shares: probabilities, where the likeliest has 1.

    turned: their logits with the signs turned, in ascending order. `_coldness` is 1 / temperature.
    """

    def __init__(self, turned: Floats, temperature: float) -> None:
        self._turned = turned
        self._coldness = 1 / max(temperature, _COLDEST)
        starts = range(0, len(turned), _AT_ONCE)
        blocks = [np.add.reduceat(shares, np.arange(0, len(shares), _BLOCK)) for shares in map(self._shares, starts)]
        self._ends = np.cumsum(np.concatenate(blocks))

    def __len__(self) -> int:
        return len(self._turned)

    def _shares(self, start: int, count: int = _AT_ONCE) -> npt.NDArray[np.float64]:
        found = self._turned[start : start + count].astype(np.float64)
        found -= float(self._turned[0])
        found *= -self._coldness
        return np.exp(found, out=found)

    def _sums(self, block: int) -> npt.NDArray[np.float64]:
        """The sums of all shares up to each one of a block."""
        sums = np.cumsum(self._shares(block * _BLOCK, _BLOCK))
        return sums + self._ends[block - 1] if block else sums

    def sum(self, count: int) -> float:
        """The sum of the first `count` shares."""
        block, last = divmod(count - 1, _BLOCK)
        return float(self._sums(block)[last])

    def place(self, wanted: float, side: Literal["left", "right"]) -> int:
        """The first place up to which the shares sum up to what is wanted ("left"), or to more; else the last."""
        block = min(int(np.searchsorted(self._ends, wanted, side)), len(self._ends) - 1)
        return min(block * _BLOCK + int(np.searchsorted(self._sums(block), wanted, side)), len(self) - 1)

    def least(self, share: float) -> int:
        """How many have at least this share."""
        return bisect_right(self._turned, float(self._turned[0]) - log(share) / self._coldness, key=float)

    def equals(self, place: int) -> tuple[float, int]:
        """The logit of one place, and how many have a higher one."""
        return -float(self._turned[place]), int(np.searchsorted(self._turned, self._turned[place]))


def _kept(candidates: _Candidates, settings: Sampling) -> int:
    """How many of the candidates may be drawn by top_p and min_p."""
    kept = len(candidates)
    if settings.top_p is not None and settings.top_p < 1.0:
        kept = candidates.place(settings.top_p * candidates.sum(kept), "left") + 1
    if settings.min_p:
        kept = min(kept, candidates.least(settings.min_p))
    return kept


def _top(logits: Floats, count: int) -> npt.NDArray[np.int64]:
    if count == 0:
        return np.empty(0, np.int64)
    least = np.partition(logits, len(logits) - count)[len(logits) - count]
    near = np.flatnonzero(logits >= least)
    return near[np.lexsort((near, -logits[near]))][:count]
