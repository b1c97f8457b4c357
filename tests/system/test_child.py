"""Work in a child process: answers, errors, death, and no orphans."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import traceback

import psutil
import pytest

from edgeship.errors import BuilderFailed, MemoryShort
from edgeship.system import child

WORKER = "tests.workers.echo"
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


def test_result_progress_and_prints_arrive() -> None:
    told: list[tuple[str, float | None]] = []
    heard: list[str] = []
    result = child.run(
        WORKER, {"do": "echo", "text": "grün ☃"}, progress=lambda *said: told.append(said), heard=heard.append
    )
    assert result["echo"] == {"do": "echo", "text": "grün ☃"}
    assert result["peak_memory_bytes"] > 1_000_000
    assert told == [("begun", 0.5)]
    assert heard == ["printed by a library"]


def test_our_errors_come_back_as_they_were() -> None:
    with pytest.raises(MemoryShort) as caught:
        child.run(WORKER, {"do": "fail"})
    assert (caught.value.what, caught.value.where, caught.value.hint) == ("too little", "here", "buy more")


def test_memory_that_ran_out_is_no_fault() -> None:
    with pytest.raises(MemoryShort, match="memory ran out: 20 GB"):
        child.run(WORKER, {"do": "exhaust"})


@pytest.mark.parametrize(
    ("do", "what", "depth"),
    [("crash", "ValueError: a bug", 1), ("panic", "Panic: a bug of theirs", 1), ("nest", "ValueError: a bug", 2)],
)
def test_a_fault_comes_with_the_traceback_from_where_it_happened(do: str, what: str, depth: int) -> None:
    with pytest.raises(child.ChildFault, match=what) as caught:
        child.run(WORKER, {"do": do})
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("In the child process:") == depth
    assert text.count('echo.py", line') >= depth
    assert f"in work\n    raise {what.split(':')[0]}(" in text


# --- death -----------------------------------------------------------------------------------------------------------


def test_an_exit_without_an_answer_is_told_with_the_last_line() -> None:
    with pytest.raises(child.Died) as caught:
        child.run(WORKER, {"do": "exit"})
    assert (caught.value.status, caught.value.last) == (7, "printed by a library")


@POSIX
@pytest.mark.parametrize(("name", "killed"), [("SIGKILL", True), ("SIGSEGV", False)])
def test_a_signal_is_told_as_one(name: str, killed: bool) -> None:
    with pytest.raises(child.Died) as caught:
        child.run(WORKER, {"do": "signal", "name": name})
    assert caught.value.killed is killed
    assert ("memory" in caught.value.how) is killed


@POSIX
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_what_all_processes_are_sent_is_the_parents_to_decide(name: str) -> None:
    assert child.run(WORKER, {"do": "signal", "name": name})["echo"]["name"] == name


@POSIX
def test_a_stopped_child_is_ended_also_where_it_never_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOPPED_S", 0.2)
    monkeypatch.setattr(child, "_POLL_S", 0.05)
    job = {"do": "signal", "name": "SIGSTOP", "more": "x" * 10**6}
    with pytest.raises(child.Died) as caught:
        child.run(WORKER, job)
    assert caught.value.stopped
    assert not caught.value.killed
    assert "stopped from outside" in caught.value.how


def test_what_a_dead_child_left_behind_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_DRAIN_S", 0.2)
    heard: list[str] = []
    with pytest.raises(child.Died, match="status 7"):
        child.run(WORKER, {"do": "leave"}, heard=heard.append)
    left = psutil.Process(int(heard[-1]))
    left.kill()


def test_a_module_that_does_not_exist_is_told() -> None:
    with pytest.raises(child.Died, match="No module named"):
        child.run("edgeship.no_such_module", {})


def test_a_flood_of_prints_does_not_block() -> None:
    assert child.run(WORKER, {"do": "flood"})["echo"] == {"do": "flood"}


def test_a_listener_that_fails_ends_the_child_and_is_told() -> None:
    def fail(line: str) -> None:
        raise OSError(28, f"no room for {line!r}")

    with pytest.raises(OSError, match="no room for 'printed by a library'"):
        child.run(WORKER, {"do": "flood"}, heard=fail)


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_the_child_ends_with_its_parent(how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        job = {"do": "stay", "port": server.getsockname()[1]}
        code = f"from edgeship.system import child; child.start({WORKER!r}, {job!r}, print); input()"
        parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        assert parent.stdin
        line, _ = server.accept()
        with line, line.makefile("rb") as said:
            assert said.readline() == b"here\n"
            if how == "killed":
                parent.kill()
            parent.stdin.close()
            assert said.read() == b""  # only its end closes the line
        parent.wait()


def test_a_death_as_an_error() -> None:
    death = child.Died(3, ["ValueError: bad", "Saving: 50%|##| 1/2 [00:01, 3.0it/s]"])
    error = death.as_error(BuilderFailed, "the conversion", where="here", hint="Look.", if_killed="Go on.")
    assert isinstance(error, BuilderFailed)
    assert error.what == "the conversion ended with status 3; the last it said: ValueError: bad"
    assert (error.where, error.hint) == ("here", "Look.")
    killed = child.Died(-9, []).as_error(BuilderFailed, "the conversion", hint="Look.", if_killed="Go on.")
    assert isinstance(killed, MemoryShort)
    assert killed.what.endswith("the last it said: nothing")
    assert str(killed.hint).endswith("predicts the need. Go on.")


# --- logging ---------------------------------------------------------------------------------------------------------


def test_what_a_child_logs_is_logged_here_at_the_level_here(caplog: pytest.LogCaptureFixture) -> None:
    for level, said in ((logging.DEBUG, ["said to debug", "and warned"]), (logging.WARNING, ["and warned"])):
        caplog.clear()
        with caplog.at_level(level, "edgeship"):
            child.run(WORKER, {"do": "log"})
        assert [record.getMessage() for record in caplog.records if record.name == "edgeship.test"] == said
    assert "ValueError: a bug" in caplog.text
