"""Real packages made once per session by onnxruntime-genai's own builder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import checkpoints


def _build(folder: Path, precision: str, *options: str) -> Path:
    checkpoint = checkpoints.make_checkpoint(folder / "checkpoint")
    package = folder / "package"
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint), "-o", str(package)]
    command += ["-p", precision, "-e", "cpu", "-c", str(folder / "cache")]
    if options:
        command += ["--extra_options", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (package / "genai_config.json").is_file(), done.stderr
    return package


@pytest.fixture(scope="session")
def int4_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INT4, and logits of the last token only."""
    return _build(tmp_path_factory.mktemp("int4"), "int4", "prune_lm_head=true")


@pytest.fixture(scope="session")
def fp32_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FP32, and logits of every token."""
    return _build(tmp_path_factory.mktemp("fp32"), "fp32")
