"""The older versions' command, played by a script: it runs on Windows and macOS alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeship.foundry import command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the script that plays it is a POSIX one")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "foundry"


def write(path: Path, code: str) -> None:
    path.write_text(f"#!{sys.executable}\nimport sys\nargs = sys.argv[1:]\n{code}\n", encoding="utf-8")
    path.chmod(0o755)


def test_not_installed(script: Path) -> None:
    assert not script.exists()
    assert command.where() is None
    assert command.cached() is None


def test_a_version_that_answers_in_json(script: Path) -> None:
    write(script, "assert args == ['cache', 'ls', '-o', 'json']; print('[{\"id\": \"a:1\"}]')")
    assert command.cached() == command.Listing(models=[{"id": "a:1"}])


@pytest.mark.parametrize("refusal", ["sys.exit(1)", "pass"])
def test_a_version_that_knows_no_json(script: Path, refusal: str) -> None:
    write(script, f"if '-o' in args: {refusal}\nprint('Models cached on device:')\nprint()\nprint('  a   a:1')")
    assert command.cached() == command.Listing(lines=("Models cached on device:", "  a   a:1"))


def test_a_command_that_fails_is_named(script: Path) -> None:
    write(script, "print('no service', file=sys.stderr); sys.exit(3)")
    assert command.cached() == command.Listing(problem="no service")
    write(script, "sys.exit(3)")
    assert command.cached() == command.Listing(problem="it ended with status 3")


def test_a_command_that_hangs_is_left(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_WAIT_S", 0.2)
    write(script, "import time; time.sleep(60)")
    found = command.cached()
    assert found
    assert found.problem
    assert "timed out" in found.problem


def test_it_is_told_to_send_nothing(script: Path) -> None:
    write(script, "import os; print(os.environ['DO_NOT_TRACK'])")
    assert command.cached() == command.Listing(models=[1])
