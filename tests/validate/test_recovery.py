"""Recovery of the real engine and server, which has nothing to find, and of those that keep what they held."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship import targets
from edgeship.engine.api import AnswerSteps
from edgeship.engine.isolated import IsolatedEngine
from edgeship.errors import EngineFailed
from edgeship.progress import silent
from edgeship.settings import resolve
from edgeship.system import processes
from edgeship.validate.recovery import CHECK, in_process, served
from edgeship.validate.recovery.bounds import RecoveryBounds
from edgeship.validate.server import Server
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Finding
from tests import scripted
from tests.scripted import ScriptedEngine, write_script
from tests.validate.faulty import MODEL, faulty, faulty_chat

LONG: dict[str, Any] = {"default": "x" * 3000, "delay_s": 0.002, "slots": 2}
BOUNDS = RecoveryBounds(freed_s=0.3, back_s=20.0)


def failed(findings: Iterator[Finding]) -> list[str]:
    found = list(findings)
    assert found
    for finding in found:
        assert finding.outcome == "pass" or finding.evidence
    return [finding.name for finding in found if finding.outcome == "fail"]


def test_an_engine_frees_what_it_held() -> None:
    with ScriptedEngine({}, **LONG) as chat:
        assert not failed(in_process.cut_findings(chat, RecoveryBounds()))


def test_slots_that_cut_answers_keep_are_found() -> None:
    with faulty_chat(ScriptedEngine({}, **LONG), "keeps-slots") as chat:
        found = failed(in_process.cut_findings(chat, BOUNDS))
    assert found[:2] == ["cancel-frees", "cancel-then-answers"]


def test_a_server_frees_what_clients_held_that_are_gone() -> None:
    with faulty("none", answers={}, **LONG) as url, Subject(targets.resolve(url, resolve())) as subject:
        assert not failed(CHECK.run(subject, RecoveryBounds(), silent))


@pytest.mark.parametrize("fault", ["keeps-slots", "notices-no-end"])
def test_what_clients_that_are_gone_leave_behind_is_found(fault: str) -> None:
    # Who notices nothing goes on to the context's end, which the test has to wait for.
    more = {"delay_s": 0.01, "context_tokens": 200} if fault == "notices-no-end" else {}
    with faulty(fault, answers={}, **LONG | more) as url:
        found = failed(served.gone_findings(Server(url, MODEL), BOUNDS))
    assert found


class StaysAway(IsolatedEngine):
    """Is not there any more once its process has ended."""

    def converse(self, *asked: Any, **how: Any) -> AnswerSteps:
        if self._process.dead:
            raise EngineFailed("it is gone")
        return super().converse(*asked, **how)


@pytest.mark.parametrize(("kind", "outcome"), [(IsolatedEngine, "pass"), (StaysAway, "fail")])
def test_an_engine_whose_process_is_killed_comes_back(tmp_path: Path, kind: type[IsolatedEngine], outcome: str) -> None:
    write_script(tmp_path, {}, **LONG)
    with kind(tmp_path, engine=scripted.ENGINE) as chat:
        finding = in_process.killed_finding(chat, BOUNDS)
    assert finding.outcome == outcome, finding.told


def test_what_a_process_has_started_is_found_by_a_word_and_killed(tmp_path: Path) -> None:
    write_script(tmp_path, {}, **LONG)
    with IsolatedEngine(tmp_path, engine=scripted.ENGINE) as chat:
        here = processes.descendants(os.getpid(), "edgeship.engine.isolated_worker")
        assert chat.pid in here
        assert not processes.descendants(os.getpid(), "no-such-word")
    processes.kill(2**22 + 1)  # that nobody is there is no error
