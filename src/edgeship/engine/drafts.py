"""Guesses from the text so far: where the same words stood before, the same may follow."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

MOST = 15
_LONGEST_MATCH = 16
# Places that are compared, the newest first: common pairs of tokens stand in a long text a thousand times.
_MOST_PLACES = 16
# Numbers of guesses that make, with the token before them, what kernels multiply at a time.
_COUNTS = (1, 3, 7, 11, MOST)
_UNKNOWN_COUNT = 3
# How many guesses held and failed before any was made; and how much of what was seen counts on.
_PRIOR_HELD, _PRIOR_FAILED = 0.75, 0.25
_AFTER_A_GUESS, _AFTER_NONE = 0.7, 0.98
# Where steps are shorter, finding a guess takes as long as it saves.
_LEAST_STEP_S = 0.001
# By how much guessing must be faster to be worth its risk.
_MARGIN = 1.1


class Repeat(NamedTuple):
    """The end of the text stood before. place: after it. length: tokens that are the same, _LONGEST_MATCH at most."""

    place: int
    length: int


class PairIndex:
    """Finds where the last few tokens stood before."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self._tokens: list[int] = []
        # The newest place after each pair of tokens, and for each place the one before it after the same pair.
        self._newest: dict[int, int] = {}
        self._older = array("i", [-1])
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        """The text goes on."""
        pair = (self._tokens[-1] << 32 | token) if self._tokens else -1
        self._tokens.append(token)
        self._older.append(self._newest.get(pair, -1))
        self._newest[pair] = len(self._tokens)

    def match(self) -> Repeat | None:
        """The longest match of two tokens or more, and of those the newest."""
        best = None
        place = self._older[-1]
        for _ in range(_MOST_PLACES):
            if place < 2:
                break
            length = self._common(place)
            if best is None or length > best.length:
                best = Repeat(place, length)
            place = self._older[place]
        return best

    def after(self, match: Repeat, count: int) -> list[int]:
        """What followed there; a text that repeats itself goes on beyond its own end."""
        span = len(self._tokens) - match.place
        return [self._tokens[match.place + index % span] for index in range(count)]

    def _common(self, place: int) -> int:
        tokens, end, length = self._tokens, len(self._tokens), 2
        while length < min(_LONGEST_MATCH, place) and tokens[place - 1 - length] == tokens[end - 1 - length]:
            length += 1
        return length


class Drafts:
    """How much is guessed: as many tokens as bring the most a second, by how often guesses held and what runs take.

    run_s: seconds of a run of so many tokens, None where that is not known yet.
    always: guess whether it pays or not.
    """

    def __init__(self, prompt: Sequence[int], run_s: Callable[[int], float | None], *, always: bool = False) -> None:
        self._pairs = PairIndex()
        self._unseen: list[int] = list(prompt)
        self._run_s = run_s
        self._always = always
        # By how long the match was, in powers of two: guesses that held, and those that did not.
        self._odds: dict[int, tuple[float, float]] = {}
        self._kind = 0

    def push(self, token: int) -> None:
        """The answer goes on."""
        self._unseen.append(token)

    def draft(self, room: int) -> list[int]:
        """Tokens to be checked in the next step, at most `room`; none where that does not pay."""
        single = self._run_s(1)
        if single is not None and single < _LEAST_STEP_S and not self._always:
            return []
        match = self._index().match()
        if match is None:
            return []
        self._kind = match.length.bit_length()
        held, failed = self._odds.get(self._kind, (0.0, 0.0))
        rate = (held + _PRIOR_HELD) / (held + failed + _PRIOR_HELD + _PRIOR_FAILED)
        count = min(room, self._best_count(rate))
        if not count:
            # What was seen counts less and less, so that it is tried again.
            self._odds[self._kind] = (held * _AFTER_NONE, failed * _AFTER_NONE)
        return self._index().after(match, count)

    def learn(self, drafted: int, accepted: int) -> None:
        """What became of the last guess."""
        held, failed = self._odds.get(self._kind, (0.0, 0.0))
        self._odds[self._kind] = (
            held * _AFTER_A_GUESS + accepted,
            failed * _AFTER_A_GUESS + (accepted < drafted),
        )

    def _best_count(self, rate: float) -> int:
        """How many guesses, of which each holds with probability `rate` if those before it do."""
        single = self._run_s(1)
        best, best_per_s = 0, 0.0 if self._always or not single else _MARGIN / single
        for count in _COUNTS:
            whole = self._run_s(1 + count)
            if single is None or whole is None:
                return _UNKNOWN_COUNT  # it is tried, and known from then on
            per_s = (1 - rate ** (count + 1)) / (1 - rate) / whole
            if per_s > best_per_s:
                best, best_per_s = count, per_s
        return best

    def _index(self) -> PairIndex:
        # Read when it is needed and not when the request comes: a long prompt takes milliseconds.
        for token in self._unseen:
            self._pairs.push(token)
        self._unseen.clear()
        return self._pairs
