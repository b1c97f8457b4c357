"""A target as the catalogue asks it: from each side, with what is known of it before the first odd request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from edgeship.engine.api import Chat
from edgeship.engine.remote import RemoteChat
from edgeship.errors import DependencyMissing, EdgeshipError
from edgeship.validate.edges.apis import request_of
from edgeship.validate.edges.asking import Inside, OverHttp, Side, plain
from edgeship.validate.edges.judging import wrong_with
from edgeship.validate.edges.patience import Patience, letters_in, longer_question
from edgeship.validate.edges.row import ANSWERED, CHATS, OVER_HTTP, Asked, Heard, Known, Row, Seen, Surface
from edgeship.validate.edges.texts import COMMON_CONTROLS
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Finding

_TRIES = 3
_ALIKE = 4
_SHORT = plain(tokens=6)
_FIRST_TIMES = 5
"""As long as nobody knows how slow a target is, it has so many times as long."""
_TOKEN = "_token"
QUICK_SURFACES: tuple[Surface, ...] = ("inside", "chat", "stream")


@dataclass
class Reached:
    """One side of a target. first: how the plain question was answered there, by surface. gone: it answers no more.

    begun: the beginning of that answer, by which it is asked again and again. patience: how long it may take.
    """

    side: Side
    known: Known
    first: Mapping[Surface, Heard]
    begun: Mapping[Surface, Heard]
    patience: Patience
    control_ids: frozenset[int] = frozenset()
    shown: Callable[[tuple[int, ...]], str] | None = None
    gone: bool = False

    def look_again(self) -> None:
        """Whether a target that was gone is back, as one is that somebody starts again."""
        self.gone = self.gone and any(
            wrong_with(ANSWERED, self.side.body(surface, _SHORT)) is not None for surface in self.side.surfaces[:1]
        )

    def answers_as_before(self, surface: Surface, *, ours: bool) -> str | None:
        """Asks the plain question again; what is wrong with the answer.

        ours: an answer is the same to the last letter. Elsewhere chance has a part in it.
        """
        first = self.begun[surface]
        wrong: str | None = None
        for _ in range(_TRIES):
            heard = self.side.body(surface, _SHORT)
            if (wrong := wrong_with(ANSWERED, heard)) is None and _is_like(heard.text, first.text, exactly=ours):
                return None
            wrong = wrong or f"it is answered with {heard.text!r}, and before that with {first.text!r}"
        return f"afterwards the plain question fails: {wrong}"


def _is_like(text: str | None, first: str | None, *, exactly: bool) -> bool:
    if exactly or not text or not first:
        return text == first
    return text.startswith(first[: max(1, len(first) // _ALIKE)])


Unasked = Literal["gone", "slow"]
"""Why a request was not made: the target was gone, or took so long over the same elsewhere that others would, too."""


@dataclass(frozen=True)
class Outcome:
    """What came of a row on one surface. wrong: in words. heard: None where the target did not let it be made.

    asked: the request as it was sent, for who reads it. unasked: why it was not.
    """

    row: Row
    surface: Surface
    heard: Heard | None
    expected: str
    wrong: str | None
    asked: str = ""
    unasked: Unasked | None = None


def ask_everywhere(reached: Reached, row: Row, surfaces: Collection[Surface], *, ours: bool) -> list[Outcome]:
    """Asks a row on those of these surfaces that a side has, and then the plain question."""
    there = [surface for surface in row.surfaces if surface in surfaces and surface in reached.side.surfaces]
    outcomes: list[Outcome] = []
    unasked: Unasked | None = "gone" if reached.gone else None
    for surface in there:
        if unasked:
            expected, asked = str(row.expected(surface, ours=ours)), request_of(row, surface, reached.known)
            outcomes.append(Outcome(row, surface, None, expected, None, asked, unasked))
            continue
        outcome = ask(reached, row, surface, ours=ours, last=surface == there[-1])
        outcomes.append(outcome)
        if reached.gone:
            unasked = "gone"
        elif outcome.heard and _is_slow(reached, outcome.heard):
            unasked = "slow"
    return outcomes


def _is_slow(reached: Reached, heard: Heard) -> bool:
    return heard.took_s >= reached.patience.usual_s


def ask(reached: Reached, row: Row, surface: Surface, *, ours: bool, last: bool = True) -> Outcome:
    """Asks a row on one surface, and where that is its last one, or something is odd, then the plain question."""
    expect = row.expected(surface, ours=ours)
    afterwards: list[str | None] = []

    def others_are_answered() -> None:
        afterwards.append(reached.answers_as_before(surface, ours=ours))

    asked = request_of(row, surface, reached.known)
    side = reached.side.given(reached.patience.over(row, reached.known), reached.side.surfaces)
    heard = side.ask(row, surface, reached.known, others_are_answered)
    if heard is None:
        return Outcome(row, surface, None, str(expect), None, asked)
    wrong = wrong_with(expect, heard, row.looks, _seen(reached, row, surface, heard, ours=ours))
    if last or wrong or _is_slow(reached, heard):
        others_are_answered()
    after = next((each for each in afterwards if each), None)
    reached.gone = after is not None and wrong_with(ANSWERED, reached.side.body(surface, plain())) is not None
    return Outcome(row, surface, heard, str(expect), "; ".join(each for each in (wrong, after) if each) or None, asked)


def _seen(reached: Reached, row: Row, surface: Surface, heard: Heard, *, ours: bool) -> Seen | None:
    if not isinstance(row.asks, Asked) or (body := row.asks.of(reached.known)) is None:
        return None
    return Seen(heard, body, reached.first[surface], reached.known, reached.control_ids, reached.shown, ours)


def is_ours(subject: Subject) -> bool:
    """Whether what Edgeship promises is promised of the target: it is a package."""
    return subject.target.kind in ("package", "folder")


def sides(
    subject: Subject, within_s: float, *, surfaces: Collection[Surface], ours: bool
) -> tuple[list[Reached], list[Finding]]:
    """Every side of a target by which the plain question is answered, and what is to be said of the others.

    surfaces: those that are wanted; Chat Completions are asked wherever anything is asked over HTTP.

    Raises what opening the target raises.
    """
    reached: list[Reached] = []
    findings: list[Finding] = []
    chat = subject.chat
    if "inside" in surfaces and not isinstance(chat, RemoteChat):
        _add(reached, findings, Inside(chat, within_s), "in process", chat)
    others = tuple(surface for surface in surfaces if surface not in CHATS)
    if set(surfaces) - {"inside"}:
        try:
            server = subject.server
        except DependencyMissing as error:
            findings.append(Finding("over-http", "skipped", f"Nothing is asked over HTTP: {error.what}."))
        else:
            side = OverHttp(server.place, server.model, within_s, (*OVER_HTTP, *others), ours)
            _add(reached, findings, side, "over HTTP")
    return reached, findings


def _add(reached: list[Reached], findings: list[Finding], side: Side, where: str, chat: Chat | None = None) -> None:
    first: dict[Surface, Heard] = {}
    within_s = _FIRST_TIMES * side.within_s
    for surface in side.surfaces:
        heard = side.given(within_s, side.surfaces).body(surface, plain())
        if surface not in CHATS and heard.status != HTTPStatus.OK:
            continue  # it is not spoken
        if wrong := wrong_with(ANSWERED, heard):
            name = f"plain-{where.replace(' ', '-').lower()}"
            findings.append(Finding(name, "fail", f"The plain question is not answered {where}: {wrong}."))
            return
        first[surface] = heard
        within_s = Patience(side.within_s, _longest_s(first)).usual_s
    patience = _patience_with(side.given(_FIRST_TIMES * within_s, tuple(first)), side.within_s, first)
    side = side.given(patience.usual_s, tuple(first))
    begun = {surface: side.body(surface, _SHORT) for surface in side.surfaces}
    text = next(iter(first.values())).text or ""
    if chat is None or chat.codec is None:
        reached.append(Reached(side, Known(text, COMMON_CONTROLS), first, begun, patience))
        return
    codec, controls = chat.codec, _controls(chat)

    def shown(tokens: tuple[int, ...]) -> str:
        return codec.decode(tokens, special=True)

    known = Known(text, tuple(controls) or COMMON_CONTROLS)
    reached.append(Reached(side, known, first, begun, patience, frozenset(controls.values()), shown))


def _longest_s(heard: Mapping[Surface, Heard]) -> float:
    return max(each.took_s for each in heard.values())


def _patience_with(side: Side, least_s: float, first: Mapping[Surface, Heard]) -> Patience:
    """What a longer question tells; one that is refused is refused soon, and longer ones will be, too."""
    question = longer_question()
    took_s = side.body(side.surfaces[0], question).took_s
    return Patience(least_s, _longest_s(first), took_s / letters_in(question))


def _controls(chat: Chat) -> dict[str, int]:
    """The control tokens of a chat, by their texts: of those that its tokenizer names, and of common families'."""
    codec = chat.codec
    assert codec, "without tokens there are no control tokens to know"
    named = [value for name, value in codec.config.items() if name.endswith(_TOKEN) and isinstance(value, str)]
    found: dict[str, int] = {}
    for text in dict.fromkeys([*named, *COMMON_CONTROLS]):
        try:
            tokens = codec.encode(text, special=False).tokens
        except EdgeshipError:
            continue
        if len(tokens) == 1 and codec.spell(tokens)[0].special:
            found[text] = tokens[0]
    return found
