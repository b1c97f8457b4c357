"""No network: everything is done while each way out is refused, and what tries one is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMPILER = shutil.which("cc")
SOURCE = Path(__file__).with_name("no_network.c")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or not COMPILER, reason="needs LD_PRELOAD and a C compiler"),
]


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that refuses connections in whatever process loads it first."""
    library = tmp_path_factory.mktemp("wall") / "no_network.so"
    assert COMPILER
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def run(wall: Path, attempts: Path, *command: str) -> tuple[str, list[str]]:
    """What a command prints, and where it wanted to go."""
    # Nothing by which a library could tell that these are tests: in continuous integration some send nothing.
    kept = {name: value for name, value in os.environ.items() if name.startswith(("EDGESHIP_", "PYTHONPATH"))}
    environment = {**kept, "LD_PRELOAD": str(wall), "ATTEMPTS": str(attempts), "HOME": str(attempts.parent), "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, attempts.read_text(encoding="utf-8").split() if attempts.exists() else []


def test_the_wall_stands(wall: Path, tmp_path: Path) -> None:
    code = "import socket\ntry: socket.create_connection(('example.org', 80))\nexcept OSError as error: print(error)"
    _, attempts = run(wall, tmp_path / "attempts", sys.executable, "-c", code)
    assert attempts == ["example.org"]
    code = "import socket\ntry: socket.socket().connect(('192.0.2.1', 80))\nexcept OSError as error: print(error)"
    said, attempts = run(wall, tmp_path / "attempts", sys.executable, "-c", code)
    assert "refused" in said
    assert attempts[-1] == "connect"


def test_foundry_local_by_itself_would_send_something(wall: Path, tmp_path: Path) -> None:
    """With the SDK's own switch off. If a later version stops that, `telemetry.foundry_quiet` can go."""
    code = (
        "import os, sys, time; from foundry_local_sdk import *\n"
        "FoundryLocalManager.initialize(Configuration(app_name='a', app_data_dir=sys.argv[1],"
        " disable_nonessential_telemetry=True))\n"
        "for _ in range(300):\n"
        "    if os.path.exists(os.environ['ATTEMPTS']): break\n"
        "    time.sleep(0.1)"
    )
    _, attempts = run(wall, tmp_path / "attempts", sys.executable, "-c", code, str(tmp_path / "data"))
    assert any("events" in attempt for attempt in attempts)


def test_nothing_goes_out_while_a_package_is_registered_listed_asked_and_taken_out(
    wall: Path, tmp_path: Path, example: Path
) -> None:
    edgeship = [sys.executable, "-m", "edgeship"]
    steps = [
        ["foundry", "register", str(example)],
        ["foundry", "ls"],
        ["foundry", "doctor"],
        ["model", "run", "foundry:triage", "hello", "--max-tokens", "5"],
        ["foundry", "unregister", "triage"],
    ]
    for step in steps:
        _, attempts = run(wall, tmp_path / "attempts", *edgeship, *step)
        assert attempts == [], step


def test_nothing_goes_out_while_a_model_stays_open(wall: Path, tmp_path: Path, example: Path) -> None:
    """Libraries send what they gathered now and then, so the process lives for a while."""
    code = (
        "import sys, time; from pathlib import Path; from edgeship.engine.opening import load_chat\n"
        "engines = [load_chat(Path(sys.argv[1]), engine=name) for name in ('foundry', 'batched', 'genai')]\n"
        "time.sleep(8)\n"
        "for engine in engines: engine.close()"
    )
    began = time.monotonic()
    _, attempts = run(wall, tmp_path / "attempts", sys.executable, "-c", code, str(example))
    assert time.monotonic() - began >= 8
    assert attempts == []
