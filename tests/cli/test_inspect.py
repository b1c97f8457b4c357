"""`inspect`: what a checkpoint is, also one that cannot be built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeship.cli import main


def test_inspect_describes_what_cannot_be_built(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tiny), "--json"]) == 0
    needs = json.loads(capsys.readouterr().out)["precisions"]
    assert [(need["precision"], need["builder"]) for need in needs] == [
        (name, "stream") for name in ("fp32", "fp16", "int8", "int4")
    ]
    config = json.loads((tiny / "config.json").read_bytes()) | {"architectures": ["StrangeForCausalLM"]}
    (tiny / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert main(["inspect", str(tiny)]) == 0
    shown = capsys.readouterr()
    assert "StrangeForCausalLM" in shown.out
    assert "cannot be built: no builder here knows the architecture StrangeForCausalLM" in shown.err
    assert "PRECISION" not in shown.out
