"""Guesses from the text so far: where the same words stood before, the same may follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

NGRAMS = (4, 3, 2)
MOST, FIRST = 16, 4
# After so many guesses in a row that all failed, that many tokens pass before the next.
_PATIENCE, _PAUSE_TOKENS = 3, 16
_WEIGHT = 0.25


class Lookup:
    """Finds where the last few tokens stood before."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens: list[int] = []
        # For each n-gram the place after its last occurrence, and after the one before that: at the end of the text
        # the last occurrence is the end itself.
        self._after: dict[tuple[int, ...], tuple[int, int | None]] = {}
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        """The text goes on."""
        self._tokens.append(token)
        end = len(self._tokens)
        for size in NGRAMS:
            if end >= size:
                gram = tuple(self._tokens[end - size :])
                last = self._after.get(gram)
                self._after[gram] = (end, last[0] if last else None)

    def draft(self, most: int) -> list[int]:
        """Up to `most` tokens that followed the longest run of last tokens when it stood there before."""
        end = len(self._tokens)
        for size in NGRAMS:
            found = self._after.get(tuple(self._tokens[end - size :])) if end >= size else None
            if found and found[1] is not None:
                start = found[1]
                # A text that repeats itself goes on beyond its own end.
                span = self._tokens[start:]
                return [span[index % len(span)] for index in range(most)]
        return []


class Drafts:
    """How much is guessed: what has held so far against what checking it takes.

    run_s: seconds of a run of so many tokens, None where that is not known yet.
    always: guess whether it pays or not.
    """

    def __init__(self, prompt: Sequence[int], run_s: Callable[[int], float | None], *, always: bool = False) -> None:
        self._lookup: Lookup | None = None
        self._prompt = prompt
        self._run_s = run_s
        self._always = always
        self._length = FIRST
        self._rate = 0.7  # of guessed tokens that hold; hopeful, so that the first guess is made
        self._failures = self._pause = 0

    def push(self, token: int) -> None:
        """The answer goes on."""
        self._pause = max(0, self._pause - 1)
        self._index().push(token)

    def draft(self, room: int) -> list[int]:
        """Tokens to be checked in the next step, at most `room`; none where that does not pay."""
        if self._pause and not self._always:
            return []
        guesses = self._index().draft(min(self._length, room))
        return guesses if guesses and (self._always or self._pays(len(guesses))) else []

    def learn(self, drafted: int, accepted: int) -> None:
        """What became of the last guess."""
        self._rate += _WEIGHT * (accepted / drafted - self._rate)
        if accepted == drafted:
            self._length = min(MOST, self._length * 2)
        elif accepted < drafted // 2:
            self._length = max(1, self._length // 2)
        self._failures = 0 if accepted else self._failures + 1
        if self._failures >= _PATIENCE:
            self._failures, self._pause, self._rate = 0, _PAUSE_TOKENS, 0.5

    def _pays(self, count: int) -> bool:
        single, whole = self._run_s(1), self._run_s(1 + count)
        if single is None or whole is None:
            return True  # it is tried once, and known from then on
        expected = sum(self._rate**power for power in range(count + 1))
        return expected * single > whole

    def _index(self) -> Lookup:
        # Made when the answer begins and not when the request comes: a long prompt takes milliseconds.
        if self._lookup is None:
            self._lookup = Lookup(self._prompt)
        return self._lookup
