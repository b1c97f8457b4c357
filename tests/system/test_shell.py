"""Our own commands as a shell takes them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from edgeship.system.shell import as_typed, our_command, our_install


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


def test_commands_in_a_text_are_taken_by_a_new_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    text = "`edgeship cache ls` lists them; so does `edgeship model ls`. This is edgeship."
    ls, models = our_command("cache", "ls"), our_command("model", "ls")
    assert as_typed(text) == f"`{ls}` lists them; so does `{models}`. This is edgeship."


class Said:
    """A file of an environment's that says where we were installed from."""

    name = "direct_url.json"

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def read_binary(self) -> bytes:
        return json.dumps(self._content).encode()


def test_an_extra_is_added_from_where_we_were_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / "a clone"
    said = Said({"dir_info": {"editable": True}, "url": clone.as_uri()})
    monkeypatch.setattr("edgeship.system.shell.metadata.files", lambda _: [said])
    assert shlex.split(our_install("foundry"))[-2:] == ["--editable", f"{clone}[foundry]"]
    for files in ([], None, [Said({"url": "https://example.org/edgeship.whl", "archive_info": {}})]):
        monkeypatch.setattr("edgeship.system.shell.metadata.files", lambda _, files=files: files)
        assert shlex.split(our_install("foundry"))[1:] == ["-m", "pip", "install", "edgeship[foundry]"]
    assert shlex.split(our_install())[-1] == "edgeship"
