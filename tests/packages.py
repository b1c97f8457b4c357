"""Small packages for tests: the files of a real one around a model that is a few bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship.builder import Build
from edgeship.builder.packaging import write_package
from edgeship.checkpoint import open_checkpoint
from edgeship.package import DAMAGED, genai_config
from edgeship.package.manifest import Package
from edgeship.recipe import Precision, Recipe
from edgeship.system.storage import digest_file
from tests.checkpoints import make_checkpoint, write_json

GENAI_CONFIG: dict[str, Any] = {
    "model": {
        "bos_token_id": 1,
        "context_length": 512,
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": "model.onnx",
            "num_hidden_layers": 2,
        },
        "eos_token_id": 2,
        "pad_token_id": 0,
        "type": "qwen2",
        "vocab_size": 384,
    },
    "search": {
        "do_sample": False,
        "max_length": 512,
        "past_present_share_buffer": True,
        "repetition_penalty": 1.0,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    },
}


def config_of(folder: Path) -> genai_config.GenaiConfig:
    """What the package in a folder says of its model."""
    return genai_config.read(folder, DAMAGED)


def make_build(folder: Path, *, weights: bytes = b"weights" * 1000) -> Build:
    """A build whose model cannot run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(b"graph" * 100)
    (folder / "model.onnx.data").write_bytes(weights)
    write_json(folder / "genai_config.json", GENAI_CONFIG)
    recipe = Recipe(precision=Precision.INT4)
    files = {path.name: digest_file(path) for path in folder.iterdir()}
    return Build(folder, recipe, "k" * 64, "genai", {"onnxruntime-genai": "0.18.0"}, files, 1.5, 10**6)


def make_package(folder: Path, *, weights: bytes = b"w" * 5000) -> Package:
    """A package in `folder`; what it was made of goes beside it."""
    beside = folder.parent / f"{folder.name}-made-of"
    checkpoint = open_checkpoint(str(make_checkpoint(beside / "tiny")))
    build = make_build(beside / "build", weights=weights)
    return write_package(build, checkpoint, folder)
