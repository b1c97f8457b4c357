"""The check over real servers: a good one passes, and one with a fault fails by the rows that the fault is for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from edgeship import targets
from edgeship.engine.api import Chat
from edgeship.progress import silent
from edgeship.settings import resolve
from edgeship.validate import over_http
from edgeship.validate.apis import RESPONSES
from edgeship.validate.edges import CHECK
from edgeship.validate.edges.asking import Inside
from edgeship.validate.edges.catalogue import row_of
from edgeship.validate.edges.looking import EdgeBounds
from edgeship.validate.edges.row import CHATS, Surface
from edgeship.validate.edges.target import Outcome, ask_everywhere, sides
from edgeship.validate.edges.texts import QUESTION
from edgeship.validate.subject import Against, Subject
from edgeship.validate.verdict import Finding
from tests.scripted import ScriptedEngine
from tests.validate.faulty import faulty, faulty_chat

ANSWERS = {
    QUESTION: "It is half past ten, as far as I can tell, and a fine day.",
    "Where is my parcel?": "On its way to you, and here by noon.",
    "List three colours, please.": "Red, green, blue.",
}


@contextmanager
def subject_of(fault: str, **against: object) -> Iterator[Subject]:
    with (
        faulty(fault, answers=ANSWERS) as url,
        Subject(targets.resolve(url, resolve()), Against(**against)) as subject,  # type: ignore[arg-type]
    ):
        yield subject


def found(subject: Subject) -> dict[str, Finding]:
    return {finding.name: finding for finding in CHECK.run(subject, EdgeBounds(), silent)}


def asked(subject: Subject, name: str, *surfaces: Surface, ours: bool = False) -> list[Outcome]:
    row = row_of(name)
    assert row
    reached, findings = sides(subject, 60.0, surfaces=surfaces, ours=ours)
    assert not findings
    return [outcome for one in reached for outcome in ask_everywhere(one, row, surfaces, ours=ours)]


class Inwards(Subject):
    """A subject whose chat is in this process, and which no server answers for."""

    def __init__(self, chat: Chat) -> None:
        super().__init__(targets.Target("package", "scripted", resolve()))
        self.__dict__["chat"] = chat


def test_a_good_server_passes_a_quick_check() -> None:
    with subject_of("none", effort="quick") as subject:
        findings = found(subject)
    assert {name: finding.told for name, finding in findings.items() if finding.outcome != "pass"} == {}
    assert len(findings) == 9
    assert all(finding.figure == finding.bound for finding in findings.values())


@pytest.mark.parametrize(
    ("fault", "row", "surfaces"),
    [
        ("fails-on-empty", "text-empty", ("chat", "stream")),
        ("ignores-max-tokens", "setting-tokens-one", ("chat", "stream")),
        ("leaks-stops", "setting-stop-within", ("chat", "stream")),
        ("replaces-characters", "held-const", ("stream",)),
        ("leaves-out-the-end", "text-one-letter", ("stream",)),
    ],
)
def test_a_fault_is_found_by_its_row(fault: str, row: str, surfaces: tuple[Surface, ...]) -> None:
    with subject_of("none") as good:
        assert [outcome.wrong for outcome in asked(good, row, *surfaces)] == [None] * len(surfaces)
    with subject_of(fault) as faulty_one:
        reached, findings = sides(faulty_one, 60.0, surfaces=surfaces, ours=False)
        if findings:  # a fault of every answer is one of the plain question's
            assert findings[0].outcome == "fail"
            return
        wanted = row_of(row)
        assert wanted
        assert all(outcome.wrong for one in reached for outcome in ask_everywhere(one, wanted, surfaces, ours=False))


def test_a_fault_in_process_is_found_too() -> None:
    for fault, row in (
        ("none", None),
        ("fails-on-empty", "text-empty"),
        ("ignores-max-tokens", "setting-tokens-three"),
        ("leaks-stops", "setting-stop-within"),
    ):
        with ScriptedEngine(ANSWERS) as engine:
            subject = Inwards(faulty_chat(engine, fault))
            for name in ("text-empty", "setting-tokens-three", "setting-stop-within", "client-late", "text-half-high"):
                [outcome] = asked(subject, name, "inside", ours=True)
                assert bool(outcome.wrong) == (name == row), (fault, outcome)


def test_what_fails_is_evidence_that_can_be_asked_again() -> None:
    with subject_of("fails-on-empty", effort="quick") as subject:
        finding = found(subject)["texts"]
    assert finding.outcome == "fail"
    assert "an empty message" in finding.told
    ids = [evidence.id for evidence in finding.evidence]
    assert ids == ["edges/text-empty/chat", "edges/text-empty/stream"]
    evidence = finding.evidence[0]
    assert "500" in evidence.got
    assert '"content": ""' in evidence.request["sent"]
    assert (finding.figure, finding.bound, finding.unit) == (2, 0, "wrong answers")


def test_a_bound_lets_some_be_missed() -> None:
    with subject_of("fails-on-empty", effort="quick") as subject:
        [finding] = [
            each for each in CHECK.run(subject, EdgeBounds(max_wrong_answers=2), silent) if each.name == "texts"
        ]
    assert finding.outcome == "pass"
    assert len(finding.evidence) == 2


def test_a_target_that_is_gone_is_asked_no_more() -> None:
    with subject_of("none") as subject:
        reached, _ = sides(subject, 60.0, surfaces=CHATS, ours=False)
        reached[0].gone = True
        row = row_of("text-empty")
        assert row
        outcomes = ask_everywhere(reached[0], row, CHATS, ours=False)
    assert [(outcome.heard, outcome.unasked) for outcome in outcomes] == [(None, "gone")] * 2


def test_a_server_that_ends_is_found_gone() -> None:
    with subject_of("none") as subject:
        reached, _ = sides(subject, 60.0, surfaces=CHATS, ours=False)
    row = row_of("text-one-letter")
    assert row
    outcomes = ask_everywhere(reached[0], row, CHATS, ours=False)
    assert "no connection" in (outcomes[0].wrong or "")
    assert reached[0].gone


def test_streams_that_are_never_closed_are_waited_for_no_longer_than_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_http, "exchange", partial(over_http.exchange, end_s=0.1))
    with subject_of("never-ends") as subject:
        reached, [finding] = sides(subject, 60.0, surfaces=CHATS, ours=False)
    assert not reached
    assert "came to no end" in finding.told


def test_apis_that_a_server_does_not_speak_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RESPONSES, "path", "/v1/no/such/place")
    with subject_of("none") as subject:
        [one], findings = sides(subject, 60.0, surfaces=("chat", "responses", "messages"), ours=False)
    assert not findings
    assert one.side.surfaces == ("chat", "stream", "messages")


def test_in_process_everything_comes_to_an_end() -> None:
    with ScriptedEngine(ANSWERS) as engine:
        assert Inside(engine, 0.0).body("inside", {"messages": []}).end == "late"
