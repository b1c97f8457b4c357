"""One request asked again: of the catalogue, or of a verdict that was kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship import targets
from edgeship.cli import main
from edgeship.engine.api import Conversation, Sampling
from edgeship.errors import EvidenceUnknown, PromptInvalid
from edgeship.settings import resolve
from edgeship.validate.conformance import CHECK as CONFORMANCE
from edgeship.validate.document import verdict_document
from edgeship.validate.edges.texts import QUESTION
from edgeship.validate.over_http import Request
from edgeship.validate.replay import Replayed, replay
from edgeship.validate.requests import asked
from edgeship.validate.run import validate
from edgeship.validate.subject import Subject
from tests.scripted import ScriptedEngine
from tests.validate.edges.test_looking import ANSWERS, Inwards
from tests.validate.faulty import MODEL, faulty, faulty_chat

REQUEST = asked(Conversation([{"role": "user", "content": QUESTION}]), Sampling(temperature=0, max_tokens=100))
ANSWER = ANSWERS[QUESTION]


def verdict(**evidence: Any) -> dict[str, Any]:
    one = {"id": "domain/one", "request": REQUEST, "got": "another answer", "expected": "right"} | evidence
    findings = [{"name": "threshold", "evidence": [one]}]
    return {"schema": "edgeship/verdict/1", "checks": {"domain": {"findings": findings}, "edges": {"findings": []}}}


@pytest.mark.parametrize(
    ("evidence", "outcome"),
    [({"expected": ANSWER}, "pass"), ({"got": ANSWER}, "fail"), ({}, "undecided")],
)
def test_evidence_is_held_to_what_was_expected_and_to_what_came(evidence: dict[str, Any], outcome: str) -> None:
    with ScriptedEngine(ANSWERS) as engine:
        [found] = replay(Inwards(engine), "domain/one", verdict(**evidence))
    assert (found.outcome, found.answer) == (outcome, ANSWER)
    assert QUESTION in found.request


def test_a_request_that_we_refuse_ourselves_is_no_fault_of_the_target() -> None:
    class Refusing(ScriptedEngine):
        def converse(self, *_: Any, **__: Any) -> Any:
            raise PromptInvalid("max_tokens is too large")

    with Refusing(ANSWERS) as engine:
        with pytest.raises(EvidenceUnknown, match="is not one that was asked"):
            list(replay(Inwards(engine), "domain/one", verdict()))
        [found] = replay(Inwards(engine), "domain/one", verdict(got="prompt-invalid: max_tokens is too large"))
    assert found.outcome == "fail"


def test_an_odd_request_is_asked_again_on_one_surface_and_judged_anew() -> None:
    for fault, outcome in (("none", "pass"), ("fails-on-empty", "fail")):
        with ScriptedEngine(ANSWERS) as engine:
            [found] = replay(Inwards(faulty_chat(engine, fault)), "edges/text-empty/inside")
        assert (found.id, found.outcome) == ("edges/text-empty/inside", outcome)
        assert found.expected == "answered"


@pytest.mark.parametrize(
    ("name", "kept", "told"),
    [
        ("edges/nothing", None, "no odd request has the id"),
        ("edges/text-empty/elsewhere", None, "no odd request has the id"),
        ("edges/wire-get/inside", None, "no odd request has the id"),
        ("domain/one", None, "no verdict is named"),
        ("domain/two", verdict(), "it has domain/one"),
        ("domain/one", {}, "no evidence"),
        ("domain/one", {"checks": {"domain": 1}}, "no evidence"),
        ("domain/one", verdict(request={"kind": "http"}), "cannot be asked again by itself"),
        ("domain/one", verdict(request={"kind": "http", "method": "GET", "path": "x"}), "cannot be asked again"),
        ("domain/one", verdict(request={"conversation": {"messages": []}, "sampling": {}}), "cannot be asked again"),
    ],
)
def test_what_is_unknown_or_cannot_be_asked_is_said(name: str, kept: dict[str, Any] | None, told: str) -> None:
    with ScriptedEngine(ANSWERS) as engine, pytest.raises(EvidenceUnknown, match=told):
        list(replay(Inwards(engine), name, kept))


CHAT = {"model": "of-old", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8}


def over_http(**evidence: Any) -> dict[str, Any]:
    request = Request("/v1/chat/completions", evidence.pop("body", CHAT)).as_evidence()
    return verdict(id="conformance/one", request=request, **evidence)


def asked_again(fault: str, kept: dict[str, Any]) -> Replayed:
    with faulty(fault, answers=ANSWERS) as url, Subject(targets.resolve(url, resolve())) as subject:
        [found] = replay(subject, "conformance/one", kept)
    return found


def test_a_request_over_http_is_asked_again_of_the_model_that_is_served() -> None:
    kept = over_http(got="it is answered with 500; status 500: {}", expected="an answer")
    found = asked_again("none", kept)
    assert (found.outcome, found.expected) == ("undecided", "an answer")
    assert found.answer.startswith("status 200: {")
    assert f'"model": "{MODEL}"' in found.request
    assert "it is answered with 500" in (found.wrong or "")


def test_a_form_that_is_wrong_fails_and_is_told_from_the_one_that_was() -> None:
    found = asked_again("tells-other-types", over_http(got="something else"))
    fault = found.answer.partition("; status")[0]
    assert (found.outcome, found.wrong) == ("fail", f"{fault}; in the verdict it is: something else")
    found = asked_again("tells-other-types", over_http(got=f"{fault}; status 200: with another id"))
    assert (found.outcome, found.wrong) == ("fail", "the answer is the one that the verdict speaks of")


@pytest.mark.parametrize("body", [b'{"model": ', b"\xff\x00{"])
def test_bytes_are_sent_again_as_they_were(body: bytes) -> None:
    first = asked_again("none", over_http(body=body, got="it was answered"))
    assert first.outcome == "undecided"
    assert first.answer.startswith("status 400: {")
    again = asked_again("none", over_http(body=body, got=f"it is refused; {first.answer}"))
    assert again.outcome == "fail"


def test_all_that_conformance_finds_can_be_asked_again() -> None:
    with faulty("leaves-out-finish") as url, Subject(targets.resolve(url, resolve())) as subject:
        found = validate(subject, checks=[CONFORMANCE])
        kept = json.loads(json.dumps(verdict_document(found, {})))
        assert found.evidence
        for evidence in found.evidence:
            [again] = replay(subject, evidence.id, kept)
            assert again.outcome == "fail", (evidence, again)


def test_the_command_exits_by_what_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "verdict.json"
    kept.write_text(json.dumps(verdict(expected=ANSWER)), encoding="utf-8")
    with faulty("fails-on-empty", answers=ANSWERS) as url:
        assert main(["validate", url, "--replay", "edges/text-empty/chat"]) == 1
        assert "fail  edges/text-empty/chat" in capsys.readouterr().out
        assert main(["validate", url, "--replay", "edges/text-nul/chat", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["replayed"][0]["outcome"] == "pass"
        assert main(["validate", url, "--replay", "domain/one", "--verdict", str(kept)]) == 0
        assert main(["validate", url, "--replay", "domain/one"]) == 4
        assert main(["validate", url, "--replay", "edges/client-closed"]) == 8  # it is asked in process only
        assert main(["validate", url, "--verdict", str(kept)]) == 2
    assert "--replay ID" in capsys.readouterr().err
