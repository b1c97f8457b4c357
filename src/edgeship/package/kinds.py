"""What people take for a package: known by its files, with what to do about it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edgeship.package import genai_config
from edgeship.package.manifest import MANIFEST_NAME
from edgeship.system.shell import our_command


def what_else(path: Path) -> tuple[str, str] | None:
    """What a path is that is no package, and a hint; None where nothing is there, or nothing that we know."""
    with suppress(OSError, ValueError):  # what is too long for a path cannot be looked at
        if path.is_file():
            return _file(path)
        if path.is_dir():
            return _folder(path)
    return None


def _file(path: Path) -> tuple[str, str]:
    if path.suffix.lower() == ".gguf":
        return _GGUF
    hint = f"A package is a folder: try `{our_command('model', 'run', str(path.parent))}`."
    return "it is a file", hint if (path.parent / genai_config.FILE_NAME).is_file() else "A package is a folder."


def _folder(folder: Path) -> tuple[str, str] | None:
    def holds(pattern: str) -> bool:
        return any(folder.glob(pattern))

    if holds("adapter_config.json"):
        hint = f"Give its base, too: `{our_command('ship', 'BASE', '--adapter', str(folder))}`."
        return "it is an adapter", hint
    if holds("config.json") and not holds("*.gguf"):
        return "it is a checkpoint", f"Make a package of it: `{our_command('build', str(folder))}`."
    if holds("*.gguf"):
        return _GGUF
    if holds(MANIFEST_NAME):
        return f"{genai_config.FILE_NAME} is missing", "Build the package again, or install it from where it is whole."
    if holds("*.onnx"):
        return (
            f"it is an ONNX model without {genai_config.FILE_NAME}",
            f"Make a package of the checkpoint that it came from: `{our_command('build', 'CHECKPOINT')}`.",
        )
    return None


_GGUF = (
    "it is a GGUF model, which llama.cpp runs",
    f"Make a package of the safetensors checkpoint that it came from: `{our_command('ship', 'CHECKPOINT')}`.",
)
