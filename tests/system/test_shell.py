"""Our own commands as a shell takes them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from edgeship.system.shell import our_command


def test_our_command_is_taken_by_a_new_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    written = our_command("cache", "ls", "--cache-dir", str(tmp_path / "my models"))
    done = subprocess.run(written, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no packages in" in done.stderr
    # Where no script was installed, as for a source tree on the path.
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    done = subprocess.run(our_command("--version"), shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("edgeship ")


def test_our_command_is_short_where_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / ("edgeship.exe" if sys.platform == "win32" else "edgeship")
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert our_command("cache", "ls") == "edgeship cache ls"
