"""Recovery of the real engine and server, which has nothing to find, and of those that keep what they held."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from edgeship import targets
from edgeship.engine.api import AnswerSteps, Chat, Sampling
from edgeship.engine.isolated import IsolatedEngine
from edgeship.errors import EngineFailed, NotSupported
from edgeship.progress import silent
from edgeship.settings import resolve
from edgeship.system import processes
from edgeship.validate.over_http import Place, Reply, Request
from edgeship.validate.recovery import CHECK, in_process, served
from edgeship.validate.recovery.bounds import RecoveryBounds
from edgeship.validate.server import Server
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Finding
from tests import scripted
from tests.scripted import ScriptedEngine, write_script
from tests.validate.chat_faults import Fault, FaultyChat
from tests.validate.faulty import FAULT, MODEL, SCRIPTED, faulty, faulty_chat

LONG: dict[str, Any] = {"default": "x" * 3000, "delay_s": 0.002, "slots": 2}
A_SECOND: dict[str, Any] = {**LONG, "context_tokens": 600}
"""So long an answer takes to its end."""
BOUNDS = RecoveryBounds(max_freeing_s=0.3, max_restart_s=20.0)


def failed(findings: Iterator[Finding]) -> list[str]:
    found = list(findings)
    assert found
    for finding in found:
        assert finding.outcome != "fail" or finding.evidence
    return [finding.name for finding in found if finding.outcome == "fail"]


def freed(findings: Iterator[Finding]) -> dict[str, str]:
    """What came of each way to cut an answer."""
    return {finding.name: finding.outcome for finding in findings if not finding.name.endswith("-then-answers")}


WAYS = ("cancel-frees", "deadline-frees", "closed-frees")


def test_an_engine_frees_what_it_held() -> None:
    with ScriptedEngine({}, **A_SECOND) as chat:
        found = list(in_process.cut_findings(chat, BOUNDS))
    assert [finding.name for finding in found if finding.name in WAYS] == list(WAYS)
    assert len(found) == 2 * len(WAYS)
    assert {finding.outcome for finding in found} == {"pass"}
    assert {finding.bound for finding in found if finding.name in WAYS} == {BOUNDS.max_freeing_s}


def test_slots_that_cut_answers_keep_are_found() -> None:
    with faulty_chat(ScriptedEngine({}, **A_SECOND), "keeps-slots") as chat:
        found = list(in_process.cut_findings(chat, BOUNDS))
    assert failed(iter(found)) == ["cancel-frees", "cancel-then-answers"]
    assert [finding.outcome for finding in found[2:]] == ["skipped", "skipped"]


@pytest.mark.parametrize(
    ("fault", "ignored"),
    [("ignores-cancel", {"cancel-frees", "closed-frees"}), ("ignores-deadlines", {"deadline-frees"})],
)
def test_answers_that_go_on_after_they_were_cut_are_found_although_they_are_soon_over(
    fault: str, ignored: set[str]
) -> None:
    with faulty_chat(ScriptedEngine({}, **A_SECOND), fault) as chat:
        found = freed(in_process.cut_findings(chat, RecoveryBounds(max_freeing_s=0.6, max_freeing_share=0.5)))
    assert found == {name: "fail" if name in ignored else "pass" for name in WAYS}


def test_an_engine_in_a_process_of_its_own_that_ignores_cancel_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAULT, "ignores-cancel")
    write_script(tmp_path, {}, **A_SECOND)
    with IsolatedEngine(tmp_path, engine=SCRIPTED) as chat:
        found = freed(in_process.cut_findings(chat, BOUNDS))
    assert found["cancel-frees"] == "fail"
    assert "pass" not in found.values()  # deadlines are kept on this side, and the process is told to cancel


class Refuses(Fault):
    """No answer can be asked to go on; some can be held to a schema, and some fail."""

    held, fails = True, False

    def sampling(self, sampling: Sampling) -> Sampling:
        """See Fault."""
        if sampling.ignore_eos or (sampling.constraint and not self.held):
            raise NotSupported("that is not taken here")
        return sampling

    def cut_by(self, how: Mapping[str, Any]) -> Mapping[str, Any]:
        """See Fault."""
        if how.get("cancel") and self.fails:
            raise EngineFailed("it fails at that")
        return how


class RefusesMore(Refuses):
    """It holds answers to nothing either."""

    held = False


class FailsAtCancel(RefusesMore):
    """An answer that may be cancelled does not come."""

    fails = True


class FailsAtLong(Fault):
    """An answer of any length does not come."""

    def sampling(self, sampling: Sampling) -> Sampling:
        """See Fault."""
        if sampling.max_tokens is None:
            raise EngineFailed("it fails at that")
        return sampling


def cut(kind: type[Fault], **how: Any) -> dict[str, str]:
    engine = ScriptedEngine({}, **{**A_SECOND, "default": "x" * 400, **how})
    with cast(Chat, FaultyChat(engine, kind)) as chat:
        return freed(in_process.cut_findings(chat, BOUNDS))


def test_a_target_that_ends_answers_by_itself_is_held_to_a_long_one() -> None:
    assert cut(Refuses) == dict.fromkeys(WAYS, "pass")
    assert cut(RefusesMore) == dict.fromkeys(WAYS, "pass")


def test_answers_that_are_over_at_once_show_nothing() -> None:
    assert cut(RefusesMore, default="Once.") == {"long-answers": "skipped"}


def test_an_error_in_the_place_of_an_answer_that_is_cut_is_found() -> None:
    assert cut(FailsAtCancel) == {"cancel-frees": "fail", "deadline-frees": "pass", "closed-frees": "pass"}


def test_long_answers_that_do_not_come_are_found() -> None:
    assert cut(FailsAtLong) == {"long-answers": "fail"}


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


class Scripted:
    """A server of which only the numbers of requests at work are looked at, one after the other; the last one stays."""

    def __init__(self, *at_work: float, status: int = 200, name: str = "vllm:num_requests_running") -> None:
        self._left, self._status, self._name = list(at_work), status, name

    def exchange(self, _: Place, request: Request, *__: Any, **how: Any) -> Reply:
        """See over_http.exchange; whoever waits for an answer has it after 0.3 s."""
        if request.path == "/metrics":
            busy = self._left.pop(0) if len(self._left) > 1 else self._left[0]
            return Reply(self._status, f'{self._name}{{model="m"}} {busy}\n'.encode(), "whole", 0.0)
        if how.get("enough") not in (None, bool):
            time.sleep(0.3)
        return Reply(200, b"", "whole", 0.0)


def gone(monkeypatch: pytest.MonkeyPatch, server: Scripted) -> Finding:
    monkeypatch.setattr(served, "exchange", server.exchange)
    monkeypatch.setattr(served, "_LOOK_S", 0.001)
    bounds = RecoveryBounds(max_freeing_s=0.05)
    found = {finding.name: finding for finding in served.gone_findings(Server("http://127.0.0.1:1", MODEL), bounds)}
    assert found["client-gone-then-answers"].outcome == "pass"
    return found["client-gone-frees"]


LOOKS = 20


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ([0], [6, 4, 0], "pass"),
        ([0], [6, 4], "fail"),
        ([0, 0, 2], [6, 4, 0], "pass"),
        ([0, 0, 2], [6, 4, 2], "undecided"),
        ([0, 0, 2], [6, 4, 3], "fail"),
        ([2, 3], [8, 3], "undecided"),
        ([2, 3], [8, 6], "undecided"),
        ([2, 3], [8, 0], "pass"),
    ],
)
def test_what_is_at_work_is_held_against_what_others_had_before(
    before: list[float], after: list[float], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = (before * LOOKS)[:LOOKS]
    finding = gone(monkeypatch, Scripted(*looks, *after))
    assert finding.outcome == outcome, finding.told
    assert bool(finding.evidence) == (outcome == "fail")
    assert bool(finding.decided_by) == (outcome == "undecided")
    if outcome != "pass" and any(before):
        assert f"{min(before)} to {max(before)} of others were" in finding.told


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (Scripted(0, status=404), "the server answers /metrics with 404."),
        (Scripted(0, name="up"), "the server answers /metrics and names no requests that run or wait."),
    ],
)
def test_that_a_server_does_not_tell_what_is_at_work_is_said(
    server: Scripted, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = gone(monkeypatch, server)
    assert finding.outcome == "skipped"
    assert finding.told.endswith(why)


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
