"""Logging on the screen; what comes from a child is in test_child.py."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from edgeship.system import log


def test_it_is_silent_unless_asked() -> None:
    code = "import logging, edgeship; logging.getLogger('edgeship.engine').error('unheard')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_what_is_asked_for_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    log.show(log.Level.DEBUG)
    log.show(log.Level.WARNING)
    for name in ("info", "warning", "error"):
        getattr(logging.getLogger("edgeship.engine"), name)("a %s", name)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "WARNING edgeship.engine: a warning",
        "ERROR edgeship.engine: a error",
    ]


def test_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    log.show(log.Level.INFO, as_json=True)
    logging.getLogger("edgeship.serve").info("said %d", 1)
    logging.getLogger("edgeship.serve.access").info("x", extra={"facts": {"status": 200}})
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("edgeship.serve").exception("failed")
    first, second, third = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["message"], first["level"], first["logger"]) == ("said 1", "info", "edgeship.serve")
    assert second["status"] == 200
    assert "ValueError: why" in third["trace"]
