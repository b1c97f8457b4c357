"""`olive-config`: what it writes is what `build --config` reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeship.cli import main


def test_olive_config_is_what_build_reads(
    tiny: Path, tmp_path: Path, tiny_adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "workflow.json"
    arguments = ["olive-config", str(tiny), "--adapter", str(tiny_adapter), "-p", "int4-fast"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert main([*arguments, "--output", str(written), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"workflow": str(written)}
    assert json.loads(printed) == json.loads(written.read_bytes())
    assert json.loads(printed)["input_model"]["adapter_path"] == str(tiny_adapter)
    by_config = key(capsys, "--config", str(written))
    by_options = key(capsys, str(tiny), "--adapter", str(tiny_adapter), "-p", "int4-fast")
    assert by_config == by_options
    assert main(["olive-config", str(tiny), "--output", str(tmp_path / "none" / "x.json")]) == 7
    assert main(["olive-config", str(tiny), "-p", "fp16"]) == 2
    assert "fp16" in capsys.readouterr().err


def key(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The key of what `build` would make."""
    assert main(["build", *arguments, "--plan", "--json"]) == 0
    found: str = json.loads(capsys.readouterr().out)["steps"][-1]["key"]
    return found


@pytest.mark.parametrize("output", [".", "./"])
def test_a_folder_is_no_workflow_file(tiny: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["olive-config", str(tiny), "-o", output]) == 2
    assert "the output is a folder" in capsys.readouterr().err
