"""What of a target's answers cannot be believed, and which figures would be wrong by it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeship.measure.load.figures import NEEDED, gaps_s
from edgeship.measure.load.records import Record

TOLERANCE = 0.02
"""Figures are to be right within so much."""
RECOUNT_TOLERANCE = 0.2
"""A text is not always broken again into the tokens that it was made of, and some tokens leave none."""
_TOGETHER = 0.1
"""Pieces that came within such a part of the mean time between two came together."""
_FEW_PIECES = 0.1
_BY_TOKENS = ("tpot_s", "output_tokens_per_s")
_OF_PROMPTS = ("ttft_s", "first_text_s", "e2e_s", "input_tokens_per_s")


@dataclass(frozen=True)
class Doubt:
    """What cannot be believed. code: a stable word for it. figures: those that are refused for it."""

    code: str
    what: str
    figures: tuple[str, ...] = ()

    def __str__(self) -> str:
        refused = f" Not told: {', '.join(self.figures)}." if self.figures else ""
        return f"{self.code}: {self.what}.{refused}"


@dataclass(frozen=True)
class Expected:
    """What the answers are held against.

    synthetic: prompts were made up, so that none was known before. exact: whether they have the tokens that they are to
    have. overhead_tokens: what a template puts around each, and may be known. ends_early: why answers may be shorter
    than asked; None where the target was asked to go on.
    """

    synthetic: bool = False
    exact: bool = True
    overhead_tokens: int = 0
    ends_early: str | None = None


@dataclass(frozen=True)
class Trust:
    """How far records can be believed. shown_only: whether empty pieces hold no token, so that gaps leave them out."""

    doubts: tuple[Doubt, ...]
    shown_only: bool

    @property
    def refused(self) -> dict[str, str]:
        """The figures that are not told, with the code of the first doubt that says so."""
        found: dict[str, str] = {}
        for doubt in self.doubts:
            for figure in doubt.figures:
                found.setdefault(figure, doubt.code)
        return found


def output_tokens(record: Record) -> int | None:
    """The tokens of an answer: as usage tells, else as a tokenizer counts."""
    told = record.reply.output_tokens
    return record.reply.counted_output_tokens if told is None else told


def judge(records: Sequence[Record], expected: Expected) -> Trust:
    """What cannot be believed of these requests."""
    complete = [record for record in records if record.is_complete]
    doubts: list[Doubt] = []
    shown_only = True
    if complete:
        found, shown_only = _of_pieces(complete)
        checks = (_of_usage, _of_thoughts, _of_bursts)
        doubts += [*found, *(doubt for check in checks for doubt in check(complete))]
        doubts += [*_of_length(complete, expected), *_of_prefixes(complete, expected), *_of_prompts(complete, expected)]
    return Trust(tuple(doubts), shown_only)


# --- pieces ----------------------------------------------------------------------------------------------------------


def _of_pieces(records: Sequence[Record]) -> tuple[list[Doubt], bool]:
    """Whether each piece holds one token, and whether empty ones count."""
    pieces = [one for record in records for one in record.reply.arrivals]
    shown, empty = sum(bool(one.kinds) for one in pieces), sum(not one.kinds for one in pieces)
    if all(one.tokens is not None for one in pieces):
        return _of_told_pieces(records, empty)
    counts = [output_tokens(record) for record in records]
    if None in counts:
        what = "the target does not tell how many tokens its answers have, and no tokenizer could be asked"
        return [Doubt("usage-missing", what, ("itl_s", *_BY_TOKENS))], True
    tokens = sum(count or 0 for count in counts)
    if tokens and not shown:
        what = f"no piece of any answer shows anything, and the target tells {tokens} tokens"
        return [Doubt("empty-chunks", what, ("itl_s", *_BY_TOKENS, "e2e_s"))], True
    if _fits(shown, tokens, len(records)):
        what = f"{empty} pieces of answers are empty; they are left out"
        return [Doubt("empty-chunks", what)] if empty else [], True
    if _fits(shown + empty, tokens, len(records)):
        what = f"{empty} of {shown + empty} tokens came in empty pieces; they count as tokens"
        return [Doubt("empty-chunks", what)], False
    if shown > tokens:
        what = (
            f"answers came in {shown} pieces, and the target tells {tokens} tokens; one piece cannot have less than one"
        )
        return [Doubt("usage-differs", what, ("itl_s", *_BY_TOKENS))], True
    if known := [one for one in records if one.reply.counted_output_tokens is not None]:
        counted = sum(one.reply.counted_output_tokens or 0 for one in known)
        if _fits(sum(bool(one.kinds) for record in known for one in record.reply.arrivals), counted, len(known)):
            what = f"usage tells {tokens} tokens; answers came in {shown} pieces, and a tokenizer counts as many"
            return [Doubt("usage-differs", what, ("itl_s", *_BY_TOKENS))], True
    what = (
        f"answers of {tokens} tokens came in {shown} pieces, {tokens / max(1, shown):.1f} tokens each; when the tokens "
        "between came cannot be told"
    )
    return [Doubt("merged-chunks", what, ("itl_s", "tpot_s"))], True


def _of_told_pieces(records: Sequence[Record], empty: int) -> tuple[list[Doubt], bool]:
    """The same where each piece tells how many tokens it holds: then only gaps between tokens can be unknown."""
    pieces = [one for record in records for one in record.reply.arrivals]
    merged = sum((one.tokens or 0) > 1 for one in pieces)
    without = sum(one.tokens == 0 for one in pieces)
    if merged > TOLERANCE * len(pieces) or without > TOLERANCE * len(pieces) + len(records):
        what = f"{merged} of {len(pieces)} pieces of answers hold several tokens, and {without} none"
        return [Doubt("merged-chunks", what, ("itl_s",))], False
    del empty
    return [], False


def _fits(pieces: int, tokens: int, requests: int) -> bool:
    """Whether there is a piece for each token; the token that ends an answer may have none."""
    slack = TOLERANCE * tokens
    return tokens - requests - slack <= pieces <= tokens + slack


def _of_bursts(records: Sequence[Record]) -> Iterator[Doubt]:
    """Whether tokens come several at a time, though each in a piece of its own."""
    gaps = [gap for record in records for gap in gaps_s(record, shown_only=True)]
    together = sum(gap < _TOGETHER * sum(gaps) / len(gaps) for gap in gaps)
    if len(gaps) >= NEEDED[50] and 2 * together > len(gaps):
        what = (
            f"{together / len(gaps):.0%} of the pieces came right after another one: the target makes or sends several "
            "tokens at a time, so TPOT says more than the percentiles of ITL do"
        )
        yield Doubt("bursts", what)


# --- usage -----------------------------------------------------------------------------------------------------------


def _of_usage(records: Sequence[Record]) -> Iterator[Doubt]:
    told = [(one.reply.output_tokens, one.reply.counted_output_tokens) for one in records]
    pairs = [(one, other) for one, other in told if one is not None and other is not None]
    usage, counted = (sum(pair[side] for pair in pairs) for side in (0, 1))
    if abs(usage - counted) > len(pairs) + RECOUNT_TOLERANCE * counted:
        what = f"usage tells {usage} tokens of {len(pairs)} answers that a tokenizer counts as {counted}"
        if usage > counted and _leave_no_text(records):
            yield Doubt("silent-tokens", f"{what}: the others came without text, as those past an answer's end do")
        else:
            yield Doubt("usage-differs", what, ("itl_s", *_BY_TOKENS))
    cut_short = [one for one in records if one.reply.finish == "length" and _is_short(one)]
    if cut_short:
        what = f"{len(cut_short)} answers ended since they were long enough, and usage tells fewer tokens than that"
        yield Doubt("usage-differs", what, ("itl_s", *_BY_TOKENS))
    beyond = [
        one
        for one in records
        if one.asked_output_tokens is not None and (one.reply.output_tokens or 0) > one.asked_output_tokens + 1
    ]
    if beyond:
        what = f"usage tells more tokens of {len(beyond)} answers than they were allowed to have"
        yield Doubt("usage-differs", what, ("itl_s", *_BY_TOKENS))


def _is_short(record: Record) -> bool:
    asked, told = record.asked_output_tokens, record.reply.output_tokens
    return asked is not None and told is not None and told < asked * (1 - TOLERANCE)


def _leave_no_text(records: Sequence[Record]) -> bool:
    """Whether nearly all pieces hold one token each, and a few of them all the rest, as their answer's usage has it.

    A usage that is too large throughout would tell too many tokens of nearly every piece.
    """
    pieces = [one for record in records for one in record.reply.arrivals]
    told = [one.tokens for one in pieces if one.tokens is not None]
    several = sum(tokens > 1 for tokens in told)
    usage = sum(record.reply.output_tokens or 0 for record in records)
    return len(told) == len(pieces) and sum(told) == usage and several <= _FEW_PIECES * len(pieces)


def _of_prompts(records: Sequence[Record], expected: Expected) -> Iterator[Doubt]:
    if not expected.exact:
        what = (
            "neither a tokenizer nor usage told how long prompts are: each has as many words as it should have tokens"
        )
        yield Doubt("prompt-unknown", what)
    told = [(one.reply.prompt_tokens, one.asked_prompt_tokens) for one in records]
    pairs = [(one, other) for one, other in told if one is not None and other is not None]
    wrong = [(one, other) for one, other in pairs if abs(one - other) > max(1, TOLERANCE * other)]
    if wrong:
        lengths = sorted(one for one, _ in wrong)
        what = (
            f"{len(wrong)} prompts of {wrong[0][1]} tokens are {lengths[0]} to {lengths[-1]} long as the target's "
            "usage tells"
        )
        yield Doubt("prompt-differs", what)


# --- thoughts, ends, prefixes ----------------------------------------------------------------------------------------


def _of_thoughts(records: Sequence[Record]) -> Iterator[Doubt]:
    thinking = [one for one in records if one.first_s("thinking") is not None]
    if thinking:
        share = len(thinking) / len(records)
        what = (
            f"{share:.0%} of the answers begin with thoughts; ttft_s is to the first of these, and first_text_s to the "
            "first text"
        )
        yield Doubt("thinking", what)
    hidden = [one for one in records if (one.reply.reasoning_tokens or 0) > 0 and one.first_s("thinking") is None]
    if hidden:
        what = f"{len(hidden)} answers count tokens of thoughts that were not sent"
        yield Doubt("hidden-thinking", what, ("tpot_s", "itl_s"))


def _of_length(records: Sequence[Record], expected: Expected) -> Iterator[Doubt]:
    asked = [(one, one.asked_output_tokens) for one in records if one.asked_output_tokens is not None]
    known = [(output_tokens(one), wanted) for one, wanted in asked]
    short = [count for count, wanted in known if count is not None and count < wanted]
    if short:
        mean = sum(short) / len(short)
        why = expected.ends_early or "the target was asked to go on, and did not"
        what = (
            f"{len(short)} of {len(known)} answers ended before they had {known[0][1]} tokens, at {mean:.0f} on "
            f"average: {why}"
        )
        yield Doubt("answers-short", what)


def _of_prefixes(records: Sequence[Record], expected: Expected) -> Iterator[Doubt]:
    pairs = [(one.reply.cached_tokens or 0, one.reply.prompt_tokens or 0) for one in records]
    cached, prompts = sum(one for one, _ in pairs), sum(one for _, one in pairs)
    # Two words may begin alike, and servers keep prefixes in blocks.
    free = (expected.overhead_tokens + 1) * len(records)
    if not cached:
        return
    share = cached / max(1, prompts)
    if not expected.synthetic:
        what = f"{share:.0%} of the prompts' tokens were known from before and not read again"
        yield Doubt("prefix-cache", what)
    elif cached - free > TOLERANCE * prompts:
        what = f"{share:.0%} of the tokens of prompts that nobody asked before were not read"
        yield Doubt("prefix-cache", what, _OF_PROMPTS)
    elif share > TOLERANCE:
        what = f"{share:.0%} of the prompts' tokens are the chat template's, and were known from before"
        yield Doubt("template-cached", what)
