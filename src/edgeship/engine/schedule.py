"""Who gets how much of the next step. Pure; `continuous.py` does what is planned here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

CHUNK_TOKENS = 256
"""Prompt tokens that are read in one run where no answer waits."""
LEAST_CHUNK_TOKENS = 4
# A running answer waits for its own step and for what is read beside it: 1 + 1.7 steps, with room for noise below 3.
# With several prompts to be read it waits for each of them: they wait too, and full batches serve everybody.
READ_STEPS = 1.7
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
        self._run_s: dict[int, float] = {}
        self._read_token_s: float | None = None

    def note_batch(self, rows: int, seconds: float) -> None:
        """`rows` answers went on by one token each."""
        _learn(self._batch_s, rows, seconds)

    def note_run(self, tokens: int, seconds: float) -> None:
        """One sequence took in `tokens` at once."""
        _learn(self._run_s, tokens if tokens <= 32 else -(-tokens // 32) * 32, seconds)
        if tokens >= LEAST_CHUNK_TOKENS:
            before = self._read_token_s if self._read_token_s is not None else seconds / tokens
            self._read_token_s = before + _WEIGHT * (seconds / tokens - before)

    def run_s(self, tokens: int) -> float | None:
        """Seconds of a run of so many tokens of one sequence, measured or between two that were; None if unknown."""
        known = self._run_s | ({1: self._batch_s[1]} if 1 in self._batch_s else {})
        if tokens in known:
            return known[tokens]
        below = max((size for size in known if size < tokens), default=None)
        above = min((size for size in known if size > tokens), default=None)
        if below is None or above is None:
            return None
        share = (tokens - below) / (above - below)
        return known[below] + share * (known[above] - known[below])

    def chunk_tokens(self, rows: int, prompts: int = 1) -> int:
        """Tokens of `prompts` to read beside `rows` running answers, so that these do not falter."""
        if not rows:
            return CHUNK_TOKENS
        step_s = self._batch_s.get(rows)
        if step_s is None or not self._read_token_s:
            return _UNKNOWN_CHUNK_TOKENS * max(1, prompts)
        tokens = int(READ_STEPS * prompts * step_s / self._read_token_s)
        return max(LEAST_CHUNK_TOKENS, min(CHUNK_TOKENS, tokens // 2 * 2))


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
        if found and share < min(LEAST_CHUNK_TOKENS, readings[index].unread):
            break
        found.append((index, share))
        tokens -= share
        if tokens <= 0:
            break
    return found


def _learn(table: dict[int, float], key: int, seconds: float) -> None:
    before = table.get(key, seconds)
    table[key] = before + _WEIGHT * (seconds - before)
