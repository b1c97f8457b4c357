"""Who gets how much of the next step. Pure; `continuous.py` does what is planned here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

CHUNK_TOKENS = 256
"""Prompt tokens that are read in one run at most."""
FIRST_CHUNK_TOKENS = 64
"""As many are read where no answer waits and it is not known how long that takes."""
# So long may one run last where no answer waits: cancel, deadline and those who come meanwhile wait for its end. Where
# 256 tokens take seconds this makes reading dearer by a twentieth, and half of it by a quarter.
_ALONE_S = 1.0
LEAST_CHUNK_TOKENS = 4
READ_STEPS = 1.3
"""Beside running answers prompts get so many times the time that the answers' own steps take, each of them: an answer
then has a token in 2.3 of its usual steps. With several prompts it waits for each: full batches serve everybody."""
# A short chunk of a prompt costs nearly as much as one of this length: weights and earlier keys are read for both.
_CHUNK_S = 0.1
# Tokens must last so many times as long as the chunk should take, in case it takes longer.
_RESERVE = 1.25
# Where steps take longer than foreseen no tokens can be made ahead: after so many times a chunk's time it has its turn.
_PATIENCE = 4
# A single row that is left over costs as much as two.
_ROWS = 2
# What is left of a chunk, and not worth a run of its own.
_TRIFLE_TOKENS = 8
_UNKNOWN_CHUNK_TOKENS = 8
_OLDEST_EVERY = 4
_WEIGHT = 0.3


class Reading(Protocol):
    """What is still to be read of a prompt. arrival: its number, by who came first."""

    arrival: int

    @property
    def unread(self) -> int: ...


class StepTimes:
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
        return self.read_s(tokens) if known is None and self._batch_s else known

    def step_s(self, rows: int) -> float | None:
        """Seconds in which `rows` answers go on by one token each; None if that is not known."""
        return self._batch_s.get(rows)

    def read_s(self, tokens: int) -> float | None:
        """Seconds of reading so many tokens of a prompt in one run; None if that is not known."""
        return None if self._more_token_s is None else self._first_token_s() + (tokens - 1) * self._more_token_s

    def tokens_in(self, seconds: float) -> int:
        """Tokens of a prompt that can be read in so much time, within what one run may have."""
        more = (seconds - self._first_token_s()) / self._more_token_s if self._more_token_s else 0.0
        return max(LEAST_CHUNK_TOKENS, min(CHUNK_TOKENS, int(1 + more) // _ROWS * _ROWS))

    def _first_token_s(self) -> float:
        """What a run takes however few tokens it has: about as much as a step of the fewest answers that is known."""
        return self._batch_s[min(self._batch_s)] if self._batch_s else 0.0


class Turns:
    """When prompts are read beside running answers, and how much at once.

    Many short chunks would take several times as long as few longer ones. While a longer one is read, the tokens of the
    steps before have to last: they are given out evenly (`pacing.py`), and a chunk has its turn once enough are made.
    whole_chunks: where no answer waits, chunks have CHUNK_TOKENS however long one takes. For decoders whose result
    depends on how a prompt is cut.
    """

    def __init__(self, times: StepTimes, *, whole_chunks: bool = False) -> None:
        self._times = times
        self._whole_chunks = whole_chunks
        self._waited_steps = 0

    def gap(self, rows: int, prompts: int) -> tuple[float, float]:
        """Seconds between an answer's tokens while so many prompts are read, and the most that one is held back."""
        step_s = self._times.step_s(rows)
        if not prompts or step_s is None:
            return 0.0, 0.0
        gap_s = (1 + READ_STEPS * prompts) * step_s
        return gap_s, gap_s + _RESERVE * self._chunk_s(step_s, prompts)

    def tokens(self, rows: int, readings: Sequence[Reading], ahead_s: float) -> int:
        """Prompt tokens to be read after a step of `rows` answers; 0 where it is not their turn.

        ahead_s: for how long the tokens of every answer last.
        """
        if not rows:
            return self._alone()
        step_s = self._times.step_s(rows)
        if step_s is None:
            return _UNKNOWN_CHUNK_TOKENS
        chunk_s = self._chunk_s(step_s, len(readings))
        tokens = min(sum(reading.unread for reading in readings), self._times.tokens_in(chunk_s))
        read_s = self._times.read_s(tokens)
        if read_s is None:
            return _UNKNOWN_CHUNK_TOKENS
        self._waited_steps += 1
        gap_s, _ = self.gap(rows, len(readings))
        if ahead_s + gap_s < step_s + _RESERVE * read_s and self._waited_steps * step_s < _PATIENCE * chunk_s:
            return 0
        self._waited_steps = 0
        return tokens

    def _alone(self) -> int:
        """Prompt tokens to be read where no answer waits."""
        if self._whole_chunks:
            return CHUNK_TOKENS
        known = self._times.read_s(CHUNK_TOKENS) is not None
        return self._times.tokens_in(_ALONE_S) if known else FIRST_CHUNK_TOKENS

    def _chunk_s(self, step_s: float, prompts: int) -> float:
        """Seconds of a chunk that is worth waiting for."""
        return max(_CHUNK_S, READ_STEPS * prompts * step_s)


def allot(readings: Sequence[Reading], tokens: int, turn: int) -> list[tuple[int, int]]:
    """Which prompts are read on, and by how many tokens each: [(index, tokens), ...].

    The shortest rest goes first, since that gives the least waiting on average; at every fourth turn the oldest does,
    so that none waits for ever.
    """
    oldest = turn % _OLDEST_EVERY == 0
    order = sorted(
        range(len(readings)),
        key=lambda index: (0 if oldest else readings[index].unread, readings[index].arrival),
    )
    found: list[tuple[int, int]] = []
    for index in order:
        count = min(tokens, readings[index].unread)
        if found and count < min(_TRIFLE_TOKENS, readings[index].unread):
            break
        found.append((index, count))
        tokens -= count
        if tokens <= 0:
            break
    return found


def _learn(table: dict[int, float], key: int, seconds: float) -> None:
    before = table.get(key, seconds)
    table[key] = before + _WEIGHT * (seconds - before)
