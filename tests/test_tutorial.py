"""Every code block of docs/tutorial.md, run in its order in a copy of the repository."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\S+) ?(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COPIED = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src", "examples")
STEP_S = 1200
"""Seconds after which a step hangs, on however busy a machine."""


def test_each_kind_of_block_is_known() -> None:
    kinds = {(kind, rest.partition(".")[2]) for kind, rest, _ in tutorial()}
    assert kinds <= {("sh", ""), ("python", ""), ("json", "json")}


def test_what_it_leaves_is_ignored_by_git() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    left = {f"/{rest}" for kind, rest, _ in tutorial() if kind == "json"}
    named = [name for _, _, text in tutorial() for name in re.findall(r'--output (\S+)|"output_dir": "(.+)"', text)]
    left |= {f"/{''.join(name).partition('/')[0]}/" for name in named}
    assert {"/answer.json", "/converted/"} <= left <= set(ignored)


@pytest.mark.slow
def test_every_block_runs(tmp_path: Path) -> None:
    place = tmp_path / "edgeship"
    place.mkdir()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, place / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    servers: list[subprocess.Popen[bytes]] = []
    try:
        for kind, rest, text in tutorial():
            code = text.replace("8080", port)
            if kind == "json":
                (place / rest).write_text(code, encoding="utf-8")
            elif kind == "python":
                run([sys.executable, "-c", code], place)
            elif rest == "background":
                servers.append(started([*words(code.strip()), "--port", port], place, port))
            else:
                for line in code.strip().splitlines():
                    run(words(line), place)
                    lend_what_is_installed(place / ".venv")
        assert servers[0].wait(30) == 0, "`edgeship stop` ends the server"
    finally:
        for server in servers:
            server.kill()


def tutorial() -> list[tuple[str, str, str]]:
    """(language, what follows it, text) of each block."""
    return BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))


def words(line: str) -> list[str]:
    """A line of a shell, for this environment and not the one that the tutorial makes, which is only installed."""
    found = shlex.split(line)
    program = {"edgeship": [sys.executable, "-m", "edgeship"], "python": [sys.executable]}
    if found[0] == ".venv/bin/pip":
        return [str(Path(".venv", "Scripts" if sys.platform == "win32" else "bin", "python")), "-m", "pip", *found[1:]]
    return program[found[0]] + found[1:]


def run(command: list[str], place: Path) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, timeout=STEP_S, check=False)
    assert done.returncode == 0, (shlex.join(command), done.stdout.decode()[-2000:], done.stderr.decode()[-3000:])


def started(command: list[str], place: Path, port: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, cwd=place, stdin=subprocess.DEVNULL)
    for _ in range(300):
        assert process.poll() is None, "the server ended"
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return process
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not begin")


def lend_what_is_installed(venv: Path) -> None:
    """Lets the tutorial's environment see this one, so that pip finds there what it would download."""
    place = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(venv)}))
    if place.is_dir():
        (place / "tests.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
