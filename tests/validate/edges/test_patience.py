"""Targets that are slow and not at fault, and those that hang; the time that passes is only told, not waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from edgeship.validate import replay
from edgeship.validate.edges import looking, target
from edgeship.validate.edges.asking import Inside, Meanwhile
from edgeship.validate.edges.catalogue import row_of
from edgeship.validate.edges.looking import EdgeBounds
from edgeship.validate.edges.patience import Patience, letters_in, longer_question
from edgeship.validate.edges.row import CHATS, Asked, Crowd, Heard, Known, Row, Surface
from edgeship.validate.edges.target import Outcome, Reached, ask_everywhere
from edgeship.validate.edges.texts import QUESTION
from edgeship.validate.verdict import Finding
from tests.scripted import ScriptedEngine

KNOWN = Known("", ())
LEAST_S = 60.0
FAST, SLOW = 1e-5, 1e-2
"""Seconds a letter of a question: the plain one takes a second where it is slow, and 60,000 words take an hour."""


@dataclass(frozen=True)
class Reads:
    """A side that reads letter by letter, and one question after the other. hangs: at questions that have this."""

    letter_s: float
    hangs: str = "no such text"
    within_s: float = LEAST_S
    surfaces: tuple[Surface, ...] = ("chat", "stream")

    def given(self, within_s: float, surfaces: tuple[Surface, ...]) -> Reads:
        """See Side."""
        return replace(self, within_s=within_s, surfaces=surfaces)

    def ask(self, row: Row, surface: Surface, known: Known, _: Meanwhile) -> Heard:
        """See Side."""
        if isinstance(row.asks, Crowd):
            return self._heard(QUESTION * row.asks.many)
        assert isinstance(row.asks, Asked)
        body = row.asks.of(known)
        assert body is not None
        return self.body(surface, body)

    def body(self, surface: Surface, body: Mapping[str, Any]) -> Heard:
        """See Side."""
        assert surface in self.surfaces
        return self._heard("".join(message["content"] for message in body["messages"]))

    def _heard(self, text: str) -> Heard:
        took_s = len(text) * self.letter_s
        if self.hangs in text or took_s > self.within_s:
            return Heard(None, self.within_s, "late")
        return Heard(200, took_s, text="It is ten.")


def asked(side: Reads, name: str) -> list[Outcome]:
    reached: list[Reached] = []
    findings: list[Finding] = []
    target._add(reached, findings, side, "over HTTP")
    assert not findings
    row = row_of(name)
    assert row
    return ask_everywhere(reached[0], row, side.surfaces, ours=False)


@pytest.mark.parametrize("name", ["length-beyond", "length-messages", "text-megabyte-one", "client-fifty"])
@pytest.mark.parametrize("letter_s", [FAST, SLOW, 0.1, 1.0])
def test_a_target_that_is_slow_is_waited_for(name: str, letter_s: float) -> None:
    first = asked(Reads(letter_s), name)[0]
    assert first.wrong is None
    assert first.heard
    assert first.heard.text


def test_what_takes_long_by_one_api_is_not_asked_by_the_next() -> None:
    quick, slow = asked(Reads(FAST), "length-beyond"), asked(Reads(SLOW), "length-beyond")
    assert [outcome.unasked for outcome in quick] == [None, None]
    assert [outcome.unasked for outcome in slow] == [None, "slow"]
    finding = looking._finding("texts", slow, EdgeBounds(), quick=False)
    assert (finding.outcome, finding.figure) == ("pass", 0)
    assert finding.told.endswith("; 1 had to be left out, since the same had taken long by another API.")
    assert [replay._told(outcome).outcome for outcome in slow] == ["pass", "skipped"]


@pytest.mark.parametrize(("name", "hangs"), [("length-beyond", "order " * 1000), ("text-one-word", "a" * 1000)])
def test_a_target_that_hangs_is_found(name: str, hangs: str) -> None:
    for letter_s in (FAST, SLOW):
        first, second = asked(Reads(letter_s, hangs), name)
        assert (first.wrong or "").startswith("it came to no end within")
        assert (second.heard, second.unasked) == (None, "slow")
    assert asked(Reads(FAST, hangs), name)[0].heard == Heard(None, LEAST_S, "late")


def test_patience_is_the_least_with_a_target_that_is_fast() -> None:
    body = longer_question()
    patience = Patience(LEAST_S, 0.01, 0.01 / letters_in(body))
    for name in ("length-beyond", "text-empty", "client-fifty"):
        row = row_of(name)
        assert row
        assert LEAST_S <= patience.over(row, KNOWN) <= LEAST_S + 1
    assert body != longer_question()


def test_fifty_questions_to_one_slot_are_answered_one_by_one() -> None:
    row = row_of("client-fifty")
    assert row
    with ScriptedEngine({QUESTION: "It is ten."}, slots=1, delay_s=0.001) as engine:
        reached: list[Reached] = []
        target._add(reached, [], Inside(engine, 0.05), "in process", engine)
        [outcome] = ask_everywhere(reached[0], row, CHATS, ours=True)
    assert outcome.wrong is None
    assert outcome.heard
    patience = reached[0].patience
    assert patience.usual_s < outcome.heard.took_s < patience.over(row, KNOWN)
