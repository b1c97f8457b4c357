"""Nothing is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeship.system import child, telemetry


def test_switches_are_set_and_children_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in telemetry.OFF:
        monkeypatch.delenv(name, raising=False)
    assert telemetry.OFF.items() <= child.environment_with({}).items()
    telemetry.switch_off()
    assert telemetry.OFF.items() <= dict(os.environ).items()


@pytest.mark.parametrize("before", [None, "false"])
def test_what_foundry_local_is_shown_is_taken_back(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.delenv("CI", raising=False)
    if before is not None:
        monkeypatch.setenv("CI", before)
    with telemetry.foundry_quiet():
        assert os.environ["CI"] == "1"
    assert os.environ.get("CI") == before


@pytest.mark.slow
def test_an_engine_leaves_no_device_id_in_the_home(tmp_path: Path, int4_folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeship.engine.opening import load\n"
        "for name in ('batched', 'genai'): load(Path(sys.argv[1]), engine=name).close()"
    )
    environment = {"HOME": str(tmp_path), "PATH": ""}
    subprocess.run([sys.executable, "-c", code, str(int4_folder)], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []
