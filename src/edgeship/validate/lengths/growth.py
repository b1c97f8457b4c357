"""How time and memory grow with the length of prompts, held against what attention explains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from edgeship.measure.load.records import Reply
from edgeship.measure.load.watch import place_of
from edgeship.package import DAMAGED, genai_config
from edgeship.progress import Progress
from edgeship.system.processes import Family
from edgeship.validate.lengths.bounds import LengthBounds
from edgeship.validate.lengths.prompts import Prompts
from edgeship.validate.subject import UNKNOWN_CONTEXT_TOKENS, Effort, Subject
from edgeship.validate.verdict import Finding

SHORTEST_TOKENS = 16
_NEW_TOKENS = 16
_PIECES = 16
_LEAST_PIECE_TOKENS = 32
_REWEIGHTED, _LEAST_ERROR = 30, 1e-4
_LEAST_SPREAD = 8
"""Where the longest prompt is not so many times as long as a piece, growth does not show."""
_LEAST_ROUNDS_BEYOND = 3
_MOST_SPENT = 4
"""Times as long as prompts are begun, comparisons that lie beyond the bound are repeated."""


@dataclass(frozen=True)
class Amount:
    """How much is measured. lengths: in geometric steps. spend_s: after that no longer prompt is begun.

    rounds: comparisons of the longest prompt with short ones; most_rounds: where they lie beyond the bound, as they may
    on a machine that others keep busy. The best of all rounds counts, so that each of these can only mend that.
    """

    lengths: int
    spend_s: float
    rounds: int
    most_rounds: int


AMOUNTS: dict[Effort, Amount] = {
    "quick": Amount(4, 1.5, 1, 20),
    "default": Amount(8, 12.0, 3, 30),
    "long": Amount(8, 900.0, 5, 30),
}


@dataclass
class Point:
    """What was measured at a length, the best of several: what disturbs a machine only makes it slower."""

    tokens: int
    ttft_s: float = float("inf")
    step_s: float = float("inf")
    held_bytes: int | None = None


class Refused(Exception):
    """A prompt that got no answer; its text says which."""


@dataclass
class Ruler:
    """Asks prompts and takes their times; keeps the best of each length."""

    prompts: Prompts
    held: Callable[[], int | None] = lambda: None
    points: dict[int, Point] = field(default_factory=dict)

    def expected_s(self, tokens: int) -> float:
        """How long a prompt of so many tokens takes at least, by the longest so far; 0 where nothing is known."""
        most = max(self.points, default=0)
        return self.points[most].ttft_s * max(1.0, tokens / most) if most else 0.0

    def take(self, tokens: int, new_tokens: int = _NEW_TOKENS) -> Point:
        """One prompt of so many tokens. Raises Refused."""
        question = self.prompts.make(tokens, new_tokens)
        begun_s = time.perf_counter()
        reply = self.prompts.ask(question)
        if reply.failure is not None or not reply.arrivals:
            why = reply.failure.what if reply.failure else "no token came"
            raise Refused(f"a prompt of {tokens:,} tokens got no answer: {why.rstrip('.')}")
        found = Point(tokens, reply.arrivals[0].at_s - begun_s, _step_s(reply), self.held())
        best = self.points.setdefault(tokens, Point(tokens))
        best.ttft_s, best.step_s = min(best.ttft_s, found.ttft_s), min(best.step_s, found.step_s)
        best.held_bytes = found.held_bytes
        return found


def _step_s(reply: Reply) -> float:
    """Seconds for each token after the first ones; infinite where the answer has no more."""
    first, tokens = reply.arrivals[0], reply.output_tokens or 0
    later = tokens - (first.tokens or 1)
    return (reply.arrivals[-1].at_s - first.at_s) / later if later > 0 and len(reply.arrivals) > 1 else float("inf")


def longest(subject: Subject) -> int:
    """The longest prompt that leaves room for the answers that are timed."""
    return (subject.chat.context_tokens or UNKNOWN_CONTEXT_TOKENS) - _NEW_TOKENS


def ladder(shortest: int, most: int, steps: int) -> tuple[int, ...]:
    """Lengths from one to the other in geometric steps."""
    ratio = (most / shortest) ** (1 / max(1, steps - 1))
    return tuple(sorted({round(shortest * ratio**step) for step in range(steps)}))


def look(subject: Subject, ruler: Ruler, bounds: LengthBounds, progress: Progress) -> Iterator[Finding]:
    """How reading, writing and memory grow."""
    amount, most = AMOUNTS[subject.effort], longest(subject)
    shortest = max(SHORTEST_TOKENS, ruler.prompts.least_tokens)
    place = place_of(subject.target, subject.chat)
    family = Family(place.pids) if place.pids else None
    if family:
        ruler.held = family.look
    if most < shortest * _LEAST_SPREAD:
        yield Finding("growth", "skipped", f"A context of {most + _NEW_TOKENS:,} tokens is too short to see growth in.")
        return
    try:
        ruler.take(shortest)  # warms up
        ruler.points.clear()
        begun_bytes, cached_bytes = ruler.held(), subject.chat.stats().cached_bytes
        reached = climb(ruler, ladder(shortest, most, amount.lengths), amount.spend_s, progress)
        judged = Judged(ruler, reached, bounds, _attention_share(subject) or bounds.max_unknown_attention_share)
        yield from judged.times(amount, full=reached == most, progress=progress)
    except Refused as refused:
        yield Finding("answers-at-every-length", "fail", f"{_capital(str(refused))}.")
        return
    held_bytes = family.look() if family else None
    if begun_bytes is None or held_bytes is None or family is None:
        yield Finding("memory", "skipped", f"Memory cannot be seen: {place.why or 'the processes have ended'}.")
        return
    # Prompts are asked one after another: what is kept of those before it, the target tells.
    kept = _token_bytes(subject) * (max(ruler.points) + _NEW_TOKENS)
    kept += max(0, subject.chat.stats().cached_bytes - cached_bytes)
    yield memory(begun_bytes, max(held_bytes, family.risen_peak_bytes() or 0), kept, ruler, bounds)


def climb(ruler: Ruler, lengths: Sequence[int], spend_s: float, progress: Progress) -> int:
    """Times each length, from the shortest one on; the longest that there was time for."""
    begun_s, last = time.monotonic(), lengths[0]
    for done, tokens in enumerate(lengths):
        spent_s = time.monotonic() - begun_s
        if spent_s + ruler.expected_s(tokens) > spend_s and last >= lengths[0] * _LEAST_SPREAD * 2:
            break
        progress(f"prompts of {tokens:,} tokens", done / len(lengths))
        ruler.take(tokens)
        if ruler.points[tokens].ttft_s * len(lengths) < spend_s / 2:
            ruler.take(tokens)
        last = tokens
    return last


@dataclass
class Judged:
    """Holds the times of the longest prompt against those of short ones.

    share: what attending to one token costs of what a token's weights cost.
    long_s, short_s: for each token of the longest prompt, and of as many in short ones, the best of all rounds: both
    are disturbed for as long a time, where the best of single short prompts would be one that nothing disturbed.
    """

    ruler: Ruler
    tokens: int
    bounds: LengthBounds
    share: float
    long_s: float = float("inf")
    short_s: float = float("inf")
    writing: list[float] = field(default_factory=list)

    @property
    def piece(self) -> int:
        """The tokens of a short prompt."""
        return max(self.tokens // _PIECES, _LEAST_PIECE_TOKENS, self.ruler.prompts.least_tokens)

    @property
    def may_read(self) -> float:
        """By how much reading may slow down: a token attends to half of the prompt on average."""
        return self.bounds.max_prefill_slowdown_ratio * (
            1 + self.bounds.max_attention_cost_ratio * self.share * self.tokens / 2
        )

    @property
    def may_write(self) -> float:
        """By how much writing may."""
        explained = 1 + self.bounds.max_attention_cost_ratio * self.share * self.tokens
        return self.bounds.max_decode_slowdown_ratio * explained

    def compare(self) -> None:
        """The longest prompt beside as many tokens in short ones, which are disturbed for as long a time."""
        pieces = max(1, self.tokens // self.piece)
        # A step beside a short prompt is taken before and after: each as close in time to the long one's as can be.
        before = self.ruler.take(self.piece)
        short_s = before.ttft_s + sum(self.ruler.take(self.piece, 1).ttft_s for _ in range(pieces - 2))
        long = self.ruler.take(self.tokens)
        after = self.ruler.take(self.piece)
        short_s += after.ttft_s
        self.long_s = min(self.long_s, long.ttft_s / self.tokens)
        self.short_s = min(self.short_s, short_s / (max(2, pieces) * self.piece))
        step_s = max(_told(before.step_s), _told(after.step_s))
        if step_s and _told(long.step_s):
            self.writing.append(long.step_s / step_s)

    @property
    def slower_reading(self) -> float:
        """How many times as long a token of the longest prompt takes."""
        return self.long_s / self.short_s

    @property
    def slower_writing(self) -> float | None:
        """How many times as long a token after it takes; None where answers are too short to tell."""
        if not self.writing:
            return None
        short, long = self.ruler.points[self.piece], self.ruler.points[self.tokens]
        return min(median(self.writing), long.step_s / max(short.step_s, 1e-9))

    def times(self, amount: Amount, *, full: bool, progress: Progress) -> Iterator[Finding]:
        """What came of reading and writing. Raises Refused."""
        begun_s = time.monotonic()
        for done in range(amount.most_rounds):
            spent = (time.monotonic() - begun_s) / amount.spend_s
            if done >= amount.rounds and self._within() and (spent > 2 or self._calm()):
                break
            if done >= _LEAST_ROUNDS_BEYOND and (self._far_beyond() or spent > _MOST_SPENT):
                break
            progress(f"{self.tokens:,} tokens in one prompt and in short ones, round {done + 1}", None)
            self.compare()
        may_read, may_write = self.may_read, self.may_write
        up_to = "" if full else f" Longer ones were not asked: it would have taken more than {amount.spend_s:g} s."
        told = (
            f"A token of a prompt of {self.tokens:,} tokens takes {self.slower_reading:.3f} times as long to read "
            f"as one of {self.piece:,} tokens, and {may_read:.3f} times may be. {self._curve()}{up_to}"
        )
        yield _held("reading", told, self.slower_reading, may_read)
        if (slower := self.slower_writing) is None:
            yield Finding("writing", "skipped", "The answers are too short to tell how fast they are written.")
            return
        told = (
            f"A token after a prompt of {self.tokens:,} tokens takes {slower:.3f} times as long to write as one after "
            f"{self.piece:,}, and {may_write:.3f} times may be."
        )
        yield _held("writing", told, slower, may_write)

    def _calm(self) -> bool:
        """Whether single prompts say the same: else something disturbs them, and more rounds are to tell what."""
        short, long = self.ruler.points[self.piece], self.ruler.points[self.tokens]
        return (long.ttft_s / self.tokens) / (short.ttft_s / self.piece) <= self.may_read

    def _far_beyond(self) -> bool:
        return self.slower_reading > 2 * self.may_read or (self.slower_writing or 0) > 2 * self.may_write

    def _within(self) -> bool:
        return self.slower_reading <= self.may_read and (self.slower_writing or 0) <= self.may_write

    def _curve(self) -> str:
        points = [self.ruler.points[tokens] for tokens in sorted(self.ruler.points)]
        times = ", ".join(f"{each.ttft_s * 1000:.0f} ms at {each.tokens:,}" for each in points)
        constant, linear, square = quadratic([(each.tokens, each.ttft_s) for each in points])
        total = constant + linear * self.tokens + square * self.tokens**2
        part = square * self.tokens**2 / total if total > 0 else 0.0
        return f"Times to the first token: {times}; the quadratic part is {100 * part:.0f} % of the last."


def _held(name: str, told: str, figure: float, bound: float) -> Finding:
    return Finding(name, "pass" if figure <= bound else "fail", told, figure, bound, "times")


def quadratic(points: Sequence[tuple[int, float]]) -> tuple[float, float, float]:
    """a, b and c of a + b n + c n^2 through times of n tokens, none below 0.

    The sum of relative errors is least, not that of their squares: a time that was disturbed does not bend the curve.
    """
    import numpy as np

    tokens, times = np.array([one[0] for one in points], float), np.array([one[1] for one in points], float)
    # Each part as what it is at the longest: numbers of one size.
    columns = np.stack([(tokens / tokens.max()) ** power for power in range(3)], axis=1) / times[:, None]
    used, solved = [0, 1, 2], np.zeros(3)
    while used:
        weights = np.ones(len(times))
        for _ in range(_REWEIGHTED):
            root = np.sqrt(weights)
            solved = np.linalg.lstsq(columns[:, used] * root[:, None], root, rcond=None)[0]
            weights = 1 / np.maximum(np.abs(columns[:, used] @ solved - 1), _LEAST_ERROR)
        if (solved >= 0).all():
            break
        del used[int(np.argmin(solved))]  # what cannot be below nothing is nothing
    found = dict(zip(used, solved.tolist(), strict=True))
    return tuple(found.get(power, 0.0) / float(tokens.max()) ** power for power in range(3))  # type: ignore[return-value]


def memory(begun: int, held: int, kept: int, ruler: Ruler, bounds: LengthBounds) -> Finding:
    """Whether memory grew by more than keys and values explain. kept: what these take, at most."""
    growth = max(0, held - begun - kept) / begun
    seen = [(each.tokens, each.held_bytes) for each in ruler.points.values() if each.held_bytes]
    if not seen:
        return Finding("memory", "skipped", "Memory cannot be seen: the processes that were looked at have ended.")
    (least, first), (most, last) = min(seen), max(seen)
    told = (
        f"{first / 1e6:,.0f} MB were held after a prompt of {least:,} tokens, {last / 1e6:,.0f} MB after one of "
        f"{most:,}, and {held / 1e6:,.0f} MB at most; beside {kept / 1e6:,.0f} MB for keys and values that is "
        f"{100 * growth:.0f} % more than before, and {100 * bounds.max_memory_growth_share:.0f} % may be."
    )
    within = growth <= bounds.max_memory_growth_share
    return Finding("memory", "pass" if within else "fail", told, growth, bounds.max_memory_growth_share, "share")


def _attention_share(subject: Subject) -> float | None:
    return genai_config.read(subject.folder, DAMAGED).attention_share if subject.folder else None


def _token_bytes(subject: Subject) -> int:
    """Of keys and values; 0 where it is not known."""
    from edgeship.engine.decoders.kept import kv_token_bytes

    return kv_token_bytes(genai_config.read(subject.folder, DAMAGED)) if subject.folder else 0


def _told(value: float) -> float:
    return value if value != float("inf") else 0.0


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
