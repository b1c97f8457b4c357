"""Who gets how much of the next step. Pure; `continuous.py` does what is planned here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

CHUNK_TOKENS = 256
"""Prompt tokens that are read in one run where no answer waits."""
LEAST_CHUNK_TOKENS = 2
# A running answer waits for its own step and for what is read beside it: 1 + 1.3 steps, with room for noise below 3.
# With several prompts to be read it waits for each of them: they wait too, and full batches serve everybody.
READ_STEPS = 1.3
# A single row that is left over costs as much as two.
_ROWS = 2
# What is left of a chunk, and not worth a run of its own.
_TRIFLE_TOKENS = 8
_UNKNOWN_CHUNK_TOKENS = 8
_OLDEST_EVERY = 4
_WEIGHT = 0.3


class Reading(Protocol):
    """What is still to be read of a prompt. order: of arrival."""

    order: int

    @property
    def unread(self) -> int: ...


class Pace:
    """How long steps take here, learned as they happen. A new figure counts by a third; a first one wholly."""

    def __init__(self) -> None:
        self._batch_s: dict[int, float] = {}
        self._check_s: dict[int, float] = {}
        self._more_token_s: float | None = None  # of a run, for each token after its first

    def note_batch(self, rows: int, seconds: float) -> None:
        """`rows` answers went on by one token each."""
        _learn(self._batch_s, rows, seconds)

    def note_read(self, tokens: int, seconds: float) -> None:
        """One sequence took in `tokens` at once."""
        if tokens > 1:
            found = max(seconds - self._first_token_s(), 0.1 * seconds) / (tokens - 1)
            before = self._more_token_s if self._more_token_s is not None else found
            self._more_token_s = before + _WEIGHT * (found - before)

    def note_check(self, tokens: int, seconds: float) -> None:
        """The same, with logits after each of them."""
        _learn(self._check_s, tokens, seconds)

    def check_s(self, tokens: int) -> float | None:
        """Seconds of a run with logits after each of `tokens`, or else without them; None if neither is known."""
        if tokens == 1:
            return self._batch_s.get(1)
        known = self._check_s.get(tokens)
        if known is None and self._more_token_s is not None and self._batch_s:
            return self._first_token_s() + (tokens - 1) * self._more_token_s
        return known

    def chunk_tokens(self, rows: int, prompts: int = 1) -> int:
        """Tokens of `prompts` to read beside `rows` running answers, so that these do not falter."""
        if not rows:
            return CHUNK_TOKENS
        step_s = self._batch_s.get(rows)
        if step_s is None or not self._more_token_s:
            return _UNKNOWN_CHUNK_TOKENS * max(1, prompts)
        more = int((READ_STEPS * prompts * step_s - self._first_token_s()) / self._more_token_s)
        return max(LEAST_CHUNK_TOKENS, min(CHUNK_TOKENS, (1 + more) // _ROWS * _ROWS))

    def _first_token_s(self) -> float:
        """What a run takes however few tokens it has: about as much as a step of the fewest answers that is known."""
        return self._batch_s[min(self._batch_s)] if self._batch_s else 0.0


def shares(readings: Sequence[Reading], tokens: int, turn: int) -> list[tuple[int, int]]:
    """Which prompts are read on, and by how many tokens each: [(index, tokens), ...].

    The shortest rest goes first, since that gives the least waiting on average; at every fourth turn the oldest does,
    so that none waits for ever.
    """
    oldest = turn % _OLDEST_EVERY == 0
    order = sorted(
        range(len(readings)),
        key=lambda index: (0 if oldest else readings[index].unread, readings[index].order),
    )
    found: list[tuple[int, int]] = []
    for index in order:
        share = min(tokens, readings[index].unread)
        if found and share < min(_TRIFLE_TOKENS, readings[index].unread):
            break
        found.append((index, share))
        tokens -= share
        if tokens <= 0:
            break
    return found


def _learn(table: dict[int, float], key: int, seconds: float) -> None:
    before = table.get(key, seconds)
    table[key] = before + _WEIGHT * (seconds - before)
