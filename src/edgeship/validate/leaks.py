"""Leaks neither memory nor handles.

The same request is asked again and again, of one kind after another: short, middle and long questions, answers that are
cut in their middle, and answers that are held to a schema. Between blocks of requests the target rests until what it
holds stays as it is, and that is read; growth.py says what of the readings is growth.

A figure passes where its interval lies within the bound, and fails where all of it lies beyond. Where neither is so,
and where it fails for the first time, one more look is taken, as long as all before: what was a step of an allocator,
or the end of a warm-up, does not come again, and a leak does. What fails for the first time in the last look that there
is time for is undecided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Literal

from edgeship.engine.api import Chat, Constraint, Conversation, Engine, Sampling
from edgeship.errors import DeadlinePassed, EngineFailed, UsageError
from edgeship.measure.load.watch import place_of, place_of_server, port_of
from edgeship.progress import Progress
from edgeship.system.processes import Family, Held, connections_to
from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.check import Check
from edgeship.validate.growth import Blocks, Growth, growth, growth_of_tokens
from edgeship.validate.long_answers import LONG_TEXT
from edgeship.validate.subject import DEADLINE_S, UNKNOWN_CONTEXT_TOKENS, Effort, Subject
from edgeship.validate.verdict import Finding, Outcome, worst

_SETTLED_S, _MOST_RESTS = 0.05, 8
"""What a target holds is read so far apart until two readings are the same, or so often."""
_PART_OF_CONTEXT = 8
"""A question has at most so many words for each word's part of the context: a word is a few tokens at most."""
_SENTENCE = "I ordered two lamps last week and one of them arrived with a broken switch."
_CUT_AFTER, _LONG_TOKENS = 4, 512
"""So many steps of an answer are read before it is cut; where it cannot be asked to be long, one."""
_YES_OR_NO = (
    '{"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"], '
    '"additionalProperties": false}'
)

Quantity = Literal["memory", "tokens", "handles", "threads"]


@dataclass(frozen=True)
class LeakBounds(Bounds):
    """What the figures are held to."""

    max_bytes_per_request: float = bound(
        10_000,
        "Memory that may stay of each request. At one request a second, 10 kB are 0.9 GB a day, beyond what a nightly "
        "restart hides. Allocators that still settle keep up to 3 kB of each of the first 500 requests.",
    )
    max_bytes_per_request_long: float = bound(
        1_000, "The same with --long, which sees ten times as closely: at one request a second, 86 MB a day."
    )
    max_bytes_per_token: float = bound(
        50,
        "Memory that may stay of each token more that a request has: of a chat of 2,000 tokens 100 kB, ten times what "
        "may stay of any request.",
    )
    max_bytes_per_token_long: float = bound(5, "The same with --long.")
    max_handles_per_request: float = bound(
        0.02,
        "Open files and sockets that may stay of each request. None should; one in fifty is told from a pool that "
        "opens one more now and then. At one request a second it ends a process that may have 1,024 in 14 hours.",
    )
    max_handles_per_request_long: float = bound(0.002, "The same with --long.")
    max_threads_per_request: float = bound(
        0.02, "Threads that may stay of each request. None should; a pool starts one more now and then."
    )
    max_threads_per_request_long: float = bound(0.002, "The same with --long.")

    def most(self, quantity: Quantity, effort: Effort) -> float:
        """What may stay."""
        per = {"memory": "bytes_per_request", "tokens": "bytes_per_token"}.get(quantity, f"{quantity}_per_request")
        return float(getattr(self, f"max_{per}{'_long' if effort == 'long' else ''}"))


_READ: Mapping[Quantity, Callable[[Held], int | None]] = {
    "memory": lambda held: held.own_bytes,
    "handles": lambda held: held.handles,
    "threads": lambda held: held.threads,
}
_WRITTEN: Mapping[Quantity, tuple[str, str]] = {
    "memory": ("{:,.0f}", "bytes of memory"),
    "tokens": ("{:,.1f}", "bytes of memory"),
    "handles": ("{:.3f}", "handles"),
    "threads": ("{:.3f}", "threads"),
}
"""How figures are written, and their unit."""
_OF_ALL: tuple[Quantity, ...] = ("handles", "threads")
"""Quantities with one finding for all kinds of requests, which is that of the kind with the most growth."""


@dataclass(frozen=True)
class _Plan:
    """blocks: that are judged, in each look. requests: in each block of a first look, and as many that warm up.

    looks: how often it is looked, each time as long as all before. spend_s: after that no look begins.
    longer: what a slow target needs.
    """

    blocks: int
    requests: int
    looks: int
    spend_s: float
    longer: str


_PLANS: Mapping[Effort, _Plan] = {
    "quick": _Plan(8, 2, looks=6, spend_s=90.0, longer="more time, as there is without --quick"),
    "default": _Plan(10, 5, looks=5, spend_s=600.0, longer="more time: --long takes up to three hours"),
    "long": _Plan(20, 50, looks=3, spend_s=10_800.0, longer="a faster machine"),
}
"""With five kinds of requests 160, 500 and 10,000; more only where one is undecided or has failed once, and fewer where
the target is slow. There are eight blocks at least: intervals of five values hold less often than they say."""


@dataclass(frozen=True)
class _Kind:
    """One request. words: what it is, in the plural. cut: after so many steps it is ended."""

    name: str
    words: str
    conversation: Conversation
    sampling: Sampling
    cut: int | None = None


@dataclass
class _Series:
    """What was read of one kind: before the blocks that are judged, and after each of them.

    requests: in each block. before: that were made before. tokens: of its last answer that told them.
    request_s: what the last ones took each, rests and all.
    """

    kind: _Kind
    readings: list[Held] = field(default_factory=list)
    requests: int = 0
    before: int = 0
    tokens: int | None = None
    request_s: float = 0.0

    def of(self, quantity: Quantity) -> Blocks | None:
        """The readings of one quantity; None where the system does not tell it."""
        values = [_READ[quantity](held) for held in self.readings]
        if None in values:
            return None
        return Blocks([float(value) for value in values if value is not None], self.requests, self.before)


@dataclass(frozen=True)
class _Judged:
    """What a series shows of one quantity. once: whether it failed in the last look and not in the one before."""

    kind: _Kind
    growth: Growth
    outcome: Outcome
    once: bool = False


def _run(subject: Subject, bounds: LeakBounds, progress: Progress) -> Iterator[Finding]:
    plan = _PLANS[subject.effort]
    subject.close_shared()  # another process is looked at, and the memory is to be that one's
    with subject.anew() as chat:
        family, port = Family(place_of(subject.target, chat).pids), _port(subject)
        looked: list[Mapping[Quantity, _Judged]] = []
        short: _Series | None = None
        kinds = _kinds(chat, subject.against.constraint)
        over_s = time.monotonic() + plan.spend_s
        for number, kind in enumerate(kinds):
            begun_s = time.monotonic()
            if reason := _refused(chat, kind):
                yield Finding(f"memory-{kind.name}", "skipped", f"{kind.words} could not be asked for: {reason}.")
                continue
            request_s = time.monotonic() - begun_s
            share = _Share(over_s, len(kinds) - number)
            if share.requests(plan, request_s) < plan.requests:  # it may have been slow since it was the first
                request_s = _seconds(chat, kind)
            if (requests := share.requests(plan, request_s)) < 1:
                yield _too_slow(kind, request_s, plan)
                continue
            series = _Series(kind, requests=requests)
            judge = _Judge(bounds, subject.effort, series, short if kind.name == "long" else None)

            def tell(what: str, *, number: int = number, kind: _Kind = kind) -> None:
                progress(f"{kind.words}, {what}", number / len(kinds))

            known = {quantity for each in looked for quantity in _OF_ALL if _fails(each, quantity)}
            looked.append(_looked(chat, lambda: _at_rest(family, port), judge, plan, share, known, tell))
            short = series if kind.name == "short" else short
        yield from _findings(looked, bounds, subject.effort)


@dataclass(frozen=True)
class _Share:
    """What a kind may take of the time of all. over_s: by time.monotonic(), when that ends.

    kinds: that still have to be looked at, this one with them.
    """

    over_s: float
    kinds: int

    @property
    def _left_s(self) -> float:
        return self.over_s - time.monotonic()

    def requests(self, plan: _Plan, request_s: float) -> int:
        """How many there is time for in each block of a first look, and as many that warm up; 0 where for none.

        A second look takes as long as the first one, and what fails has to fail in both.
        """
        fitting = self._left_s / self.kinds / max(1e-9, 2 * plan.blocks * request_s)
        return min(plan.requests, int(fitting / 2)) or int(min(1.0, fitting))

    def has(self, seconds: float) -> bool:
        """Whether there is time for another look, which is worth half of what is left: all hangs on what is open."""
        return seconds <= self._left_s / min(2, self.kinds)


def _looked(
    chat: Chat,
    read: Callable[[], Held],
    judge: _Judge,
    plan: _Plan,
    share: _Share,
    known: Collection[Quantity],
    tell: Callable[[str], None],
) -> Mapping[Quantity, _Judged]:
    """What a series shows of each quantity, after as many looks as it takes and as there is time for.

    known: to fail already, so that nobody looks again for them.
    """
    series = judge.series
    tell("warming up")
    for _ in range(plan.blocks * series.requests):
        _ask(chat, series.kind)
    series.before = plan.blocks * series.requests
    found: Mapping[Quantity, _Judged] = {}
    for look in range(plan.looks):
        failed = {quantity for quantity in found if _fails(found, quantity)}
        if look:
            series.before += series.requests * plan.blocks
            series.requests *= 2
        tell("looked at once more" if look else "looked at")
        _read_blocks(chat, read, series, plan.blocks)
        found = judge.judged()
        open_ones = {quantity: one.outcome for quantity, one in found.items() if quantity not in known}
        if all(one == "pass" or (one == "fail" and quantity in failed) for quantity, one in open_ones.items()):
            return found
        if not share.has(2 * plan.blocks * series.requests * series.request_s):
            break
    return {
        quantity: replace(one, outcome="undecided", once=True)
        if one.outcome == "fail" and quantity not in failed | set(known)
        else one
        for quantity, one in found.items()
    }


def _read_blocks(chat: Chat, read: Callable[[], Held], series: _Series, blocks: int) -> None:
    """What is held before so many blocks, and after each of them."""
    begun_s = time.monotonic()
    series.readings = [read()]
    for _ in range(blocks):
        for _ in range(series.requests):
            series.tokens = _ask(chat, series.kind) or series.tokens
        series.readings.append(read())
    series.request_s = (time.monotonic() - begun_s) / (blocks * series.requests)


@dataclass(frozen=True)
class _Judge:
    """Holds a series to the bounds. short: the one whose requests have fewer tokens, where tokens are judged."""

    bounds: LeakBounds
    effort: Effort
    series: _Series
    short: _Series | None

    def judged(self) -> Mapping[Quantity, _Judged]:
        """Each quantity that can be told."""
        found = {quantity: growth(blocks) for quantity in _READ if (blocks := self.series.of(quantity)) is not None}
        short, long = self.short, self.series
        if short and short.tokens and long.tokens and long.tokens > short.tokens:
            both = [blocks for one in (short, long) if (blocks := one.of("memory"))]
            found["tokens"] = growth_of_tokens(both[0], both[1], (short.tokens, long.tokens))
        return {
            quantity: _Judged(long.kind, one, one.judge(self.bounds.most(quantity, self.effort)))
            for quantity, one in found.items()
        }


def _fails(found: Mapping[Quantity, _Judged], quantity: Quantity) -> bool:
    return quantity in found and found[quantity].outcome == "fail"


# --- asking ----------------------------------------------------------------------------------------------------------


def _kinds(chat: Chat, constraint: Constraint | None) -> tuple[_Kind, ...]:
    words = (chat.context_tokens or UNKNOWN_CONTEXT_TOKENS) // _PART_OF_CONTEXT
    short, middle, long = (_question(min(count, words)) for count in (4, 40, 250))
    held = constraint or Constraint("json_schema", _YES_OR_NO)
    return (
        _Kind("short", "Short questions", short, Sampling(temperature=0, max_tokens=8)),
        _Kind("middle", "Questions of middle length", middle, Sampling(temperature=0, max_tokens=8)),
        _Kind("long", "Long questions", long, Sampling(temperature=0, max_tokens=8)),
        _cut(chat, middle),
        _Kind("constrained", "Constrained answers", short, Sampling(temperature=0, max_tokens=16, constraint=held)),
    )


def _cut(chat: Chat, asked: Conversation) -> _Kind:
    """An answer that is cancelled, and that would not be over before if there is a way to ask for that."""
    plain = Sampling(temperature=0, max_tokens=_LONG_TOKENS)
    found = _Kind("cancelled", "Answers that are cancelled", asked, plain, _CUT_AFTER)
    if isinstance(chat, Engine):
        return replace(found, sampling=replace(plain, ignore_eos=True))
    long = replace(found, sampling=replace(plain, constraint=LONG_TEXT))
    return replace(found, cut=1) if _refused(chat, long) else long


def _question(words: int) -> Conversation:
    text = " ".join(islice(cycle(_SENTENCE.split()), words))
    return Conversation(({"role": "user", "content": text},))


def _refused(chat: Chat, kind: _Kind) -> str | None:
    """Why a target does not take such requests; None where it does."""
    try:
        _ask(chat, kind)
    except UsageError as error:
        return error.what
    return None


def _ask(chat: Chat, kind: _Kind) -> int | None:
    """Asks once; how many tokens question and answer had, where that is told. Raises DeadlinePassed."""
    steps = chat.converse(kind.conversation, kind.sampling, deadline_s=DEADLINE_S)
    try:
        usage = None
        for number, step in enumerate(steps, 1):
            if step.finish == "deadline":
                raise DeadlinePassed(f"a question got no whole answer within {DEADLINE_S:g} s")
            usage = step.usage or usage
            if number == kind.cut:
                break
    finally:
        steps.close()
    return usage.prompt_tokens + usage.completion_tokens if usage else None


def _seconds(chat: Chat, kind: _Kind) -> float:
    """How long one takes."""
    begun_s = time.monotonic()
    _ask(chat, kind)
    return time.monotonic() - begun_s


def _at_rest(family: Family, port: int | None) -> Held:
    """What a target holds once that stays as it is. port: of a server, where our own connections to it are no leak."""
    family.search()
    held = family.holds()
    for _ in range(_MOST_RESTS):
        time.sleep(_SETTLED_S)
        before, held = held, family.holds()
        if held == before:
            break
    if held is None:
        raise EngineFailed("the target's process has ended", hint="Look into its log.")
    if port is None or held.handles is None:
        return held
    return replace(held, handles=held.handles - connections_to(port))


def _port(subject: Subject) -> int | None:
    return port_of(subject.target.name) if subject.target.kind == "url" else None


# --- telling ---------------------------------------------------------------------------------------------------------


def _findings(looked: Sequence[Mapping[Quantity, _Judged]], bounds: LeakBounds, effort: Effort) -> Iterator[Finding]:
    for each in looked:
        one = each["memory"]
        yield _finding(f"memory-{one.kind.name}", "memory", one, bounds.most("memory", effort), effort)
        if "tokens" in each:
            most = bounds.most("tokens", effort)
            yield _finding("memory-per-token", "tokens", each["tokens"], most, effort)
    for quantity in _OF_ALL if looked else ():
        found = [each[quantity] for each in looked if quantity in each]
        if not found:
            yield Finding(quantity, "skipped", f"The system does not tell the target's {quantity}.")
            continue
        if sum(one.once for one in found) > 1:  # the looks at two kinds are two looks
            found = [replace(one, outcome="fail", once=False) if one.once else one for one in found]
        outcome = worst(one.outcome for one in found)
        shown = max((one for one in found if one.outcome == outcome), key=lambda one: one.growth.figure)
        yield _finding(quantity, quantity, shown, bounds.most(quantity, effort), effort)


def _finding(name: str, quantity: Quantity, one: _Judged, most: float, effort: Effort) -> Finding:
    found, where = one.growth, one.growth.interval
    written, unit = _WRITTEN[quantity]
    low, high = (written.format(end) for end in (where.low, where.high))
    figure, may = (f"{written.format(value)} {unit}" for value in (found.figure, most))
    per = "token" if quantity == "tokens" else "request"
    told = f"{one.kind.words}: {figure} stay of each {per} ({low} to {high} with 95 % confidence); {may} may."
    return Finding(
        name,
        one.outcome,
        told,
        figure=found.figure,
        bound=most,
        unit=f"{unit.split()[0]}/{per}",
        interval=(where.low, where.high),
        decided_by=_decided_by(one, most, effort) if one.outcome == "undecided" else None,
    )


def _too_slow(kind: _Kind, request_s: float, plan: _Plan) -> Finding:
    told = (
        f"{kind.words} take {request_s:.1f} s each: there was no time for the {2 * plan.blocks} that it takes "
        "to see what stays of them."
    )
    return Finding(f"memory-{kind.name}", "undecided", told, decided_by=plan.longer)


def _decided_by(one: _Judged, most: float, effort: Effort) -> str:
    needed = one.growth.needed(most)
    if needed is None:
        return "no number of requests would: the figure lies at the bound"
    once = ", since what fails has to fail in two looks" if one.once else ""
    longer = "" if effort == "long" else "; --long asks 2,000 of each kind"
    return f"about {needed:,} requests of this kind{once}{longer}"


def _not_for(subject: Subject) -> str | None:
    if subject.target.kind != "url":
        return None
    place = place_of_server(subject.target.name)
    return None if place.pids else f"what the server holds cannot be seen: {place.why}"


CHECK = Check("leaks", "Leaks neither memory nor handles", LeakBounds, _run, _not_for)
