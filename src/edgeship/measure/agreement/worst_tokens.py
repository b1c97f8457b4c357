"""Where a candidate strays furthest from its reference: the positions of largest KLD, with what both wanted there."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeship.engine.codec import Codec
from edgeship.measure.agreement.fidelity import LIKELIEST, Scores
from edgeship.measure.agreement.predictions import Floats, log_sum_exp
from edgeship.measure.agreement.reference import ReferenceText

COUNT = 10
_CONTEXT_TOKENS = 32


@dataclass(frozen=True)
class Wanted:
    """A token that a model finds likely, and how likely."""

    token: int
    text: str
    probability: float


@dataclass(frozen=True)
class WorstToken:
    """A position of large KLD.

    text_number: which of the texts, from 0. position: of the token in that text, in tokens from 0.
    before: the text up to there, its last tokens; special ones are written out. actual: the token that really stands
    there, with the reference's probability; candidate_probability: the candidate's.
    reference, candidate: what each finds likeliest, in that order.
    """

    text_number: int
    position: int
    kld_nats: float
    before: str
    actual: Wanted
    candidate_probability: float
    reference: tuple[Wanted, ...]
    candidate: tuple[Wanted, ...]


class WorstTokens:
    """The worst positions of all texts that are added, at most `count`. codec: tells how tokens are written."""

    def __init__(self, codec: Codec, count: int = COUNT) -> None:
        self._codec, self._count = codec, count
        self._found: list[tuple[float, int, WorstToken]] = []  # a heap, with the least of them at its head
        self._texts = self._told = 0

    def add(self, text: ReferenceText, scores: Scores, logits: Floats) -> None:
        """The next text. scores: of it; logits: the candidate's, of its scored positions."""
        for row in np.argsort(-scores.kld_nats, kind="stable")[: self._count].tolist():
            nats = float(scores.kld_nats[row])
            if len(self._found) == self._count and nats <= self._found[0][0]:
                break
            self._told += 1
            # Of equal ones the first stay.
            heapq.heappush(self._found, (nats, -self._told, self._worst(text, row, scores, logits[row])))
            if len(self._found) > self._count:
                heapq.heappop(self._found)
        self._texts += 1

    def worst_first(self) -> tuple[WorstToken, ...]:
        """Those that were found."""
        return tuple(worst for _, _, worst in sorted(self._found, key=lambda found: found[:2], reverse=True))

    def _worst(self, text: ReferenceText, row: int, scores: Scores, logits: Floats) -> WorstToken:
        place = text.first_scored + row
        count = min(LIKELIEST, len(logits))
        likeliest = np.argpartition(logits, -count)[-count:]
        likeliest = likeliest[np.lexsort((likeliest, -logits[likeliest]))]
        total = log_sum_exp(logits[None])[0]
        kept = text.predictions[row : row + 1]
        actual = text.tokens[place]
        return WorstToken(
            text_number=self._texts,
            position=place,
            kld_nats=float(scores.kld_nats[row]),
            before=self._codec.decode(text.tokens[max(0, place - _CONTEXT_TOKENS) : place], special=True),
            actual=self._wanted([actual], [-float(scores.reference_nll_nats[row])])[0],
            candidate_probability=float(np.exp(-scores.candidate_nll_nats[row])),
            reference=self._wanted(kept.tokens[0, :count].tolist(), kept.log_probs[0, :count].tolist()),
            candidate=self._wanted(likeliest.tolist(), (logits[likeliest] - total).tolist()),
        )

    def _wanted(self, tokens: Sequence[int], log_probs: Sequence[float]) -> tuple[Wanted, ...]:
        spelled = self._codec.spell(tokens)
        return tuple(
            Wanted(token, how.text, float(np.exp(log_prob)))
            for token, how, log_prob in zip(tokens, spelled, log_probs, strict=True)
        )
