"""The files that say which servers run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgeship.serve import register
from edgeship.serve.register import Record


def test_a_server_is_listed_while_its_process_lives(tmp_path: Path) -> None:
    record = Record(tmp_path, "http://127.0.0.1:1", 1)
    record.write("starting", {})
    record.write("ready", {"triage": tmp_path / "triage", "far": None})
    [entry] = register.running(tmp_path)
    assert (entry.pid, entry.url, entry.port) == (os.getpid(), "http://127.0.0.1:1", 1)
    assert (entry.state, entry.models) == ("ready", ("triage", "far"))
    assert entry.folders == {"triage": str(tmp_path / "triage")}
    assert entry.memory_bytes > 0
    record.remove()
    assert register.running(tmp_path) == []


def test_it_hears_that_it_is_to_end(tmp_path: Path) -> None:
    record = Record(tmp_path, "http://127.0.0.1:1", 1)
    record.write("ready", {})
    assert not record.is_asked_to_stop()
    register.ask_to_stop(tmp_path, register.running(tmp_path)[0])
    assert record.is_asked_to_stop()
    assert len(register.running(tmp_path)) == 1
    record.remove()
    # Whoever gets the same number later was not asked.
    again = Record(tmp_path, "http://127.0.0.1:1", 1)
    again.write("ready", {})
    assert not again.is_asked_to_stop()


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    record = Record(tmp_path, "http://127.0.0.1:1", 1)
    record.write("ready", {})
    [path] = (tmp_path / "servers").iterdir()
    path.write_text("touched", encoding="utf-8")
    record.write("ready", {})
    assert path.read_text(encoding="utf-8") == "touched"


def test_a_server_whose_file_cannot_be_written_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "servers").write_text("in the way", encoding="utf-8")
    record = Record(tmp_path, "http://127.0.0.1:1", 1)
    record.write("ready", {})
    record.write("ready", {})
    assert caplog.text.count("do not find this server") == 1
    record.remove()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("99999999", {"url": "http://x", "port": 1, "began": 1.0, "state": "ready", "models": []}),
        (str(os.getpid()), {"url": "http://x", "port": 1, "began": 1.0, "state": "ready", "models": []}),
        (str(os.getpid()), {"url": "http://x"}),
        ("words", {}),
        (str(os.getpid()), None),
    ],
    ids=["gone", "another", "no-record", "no-process", "no-json"],
)
def test_files_of_servers_that_are_gone_go_too(tmp_path: Path, name: str, content: object) -> None:
    path = tmp_path / "servers" / f"{name}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content) if content is not None else "{", encoding="utf-8")
    path.with_suffix(".stop").touch()
    path.with_name(f".{path.name}.tmp-99999999-1").touch()  # it was killed while it wrote
    assert register.running(tmp_path) == []
    assert not list(path.parent.iterdir())
