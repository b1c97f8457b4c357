"""What people take for a package: known by its files, with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgeship.package import genai_config
from edgeship.package.manifest import MANIFEST_NAME
from edgeship.system.shell import our_command

_ADAPTER, _CHECKPOINT = "adapter_config.json", "config.json"
_LISTED = 5


def what_else(path: Path) -> tuple[str, str] | None:
    """What a path is that is no package, and a hint; None where nothing is there, or nothing that we know."""
    with suppress(OSError, ValueError):  # what is too long for a path cannot be looked at
        if path.is_file():
            return _file(path)
        if path.is_dir():
            return _folder(path)
    return None


def is_checkpoint(path: Path) -> bool:
    """Whether it is a folder with a checkpoint, of which packages are built."""
    with suppress(OSError, ValueError):
        return (path / _CHECKPOINT).is_file() and not any(path.glob("*.gguf"))
    return False


def _file(path: Path) -> tuple[str, str]:
    if path.suffix.lower() == ".gguf":
        return _GGUF
    hint = f"A package is a folder: try `{our_command('model', 'run', str(path.parent))}`."
    return "it is a file", hint if (path.parent / genai_config.FILE_NAME).is_file() else "A package is a folder."


def _folder(folder: Path) -> tuple[str, str] | None:
    return _model_of_another_kind(folder) or _with_packages(folder) or _report(folder) or _training_run(folder)


def _model_of_another_kind(folder: Path) -> tuple[str, str] | None:
    def holds(pattern: str) -> bool:
        return any(folder.glob(pattern))

    if holds(_ADAPTER):
        return "it is an adapter", _ship_adapter(folder)
    if is_checkpoint(folder):
        return "it is a checkpoint", _build(folder)
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


def _with_packages(folder: Path) -> tuple[str, str] | None:
    """A folder of packages, a package's in the cache with its versions, a cache, or a home with one."""
    if found := sorted(folder.glob(f"*/{genai_config.FILE_NAME}"), key=_in_order):
        return _several(found, f"Name one of them: `{our_command('model', 'run', str(found[-1].parent))}`.")
    for cache in (folder, folder / "models"):
        if found := sorted(cache.glob(f"*/v*/{genai_config.FILE_NAME}"), key=_in_order):
            run = our_command("model", "run", found[-1].parent.parent.name, "--cache-dir", str(cache))
            return _several([version.parent for version in found], f"Name one of them: `{run}`.")
    return None


def _in_order(path: Path) -> tuple[int, str]:
    return len(str(path)), str(path)  # v10 is after v9


def _several(found: Sequence[Path], hint: str) -> tuple[str, str]:
    names = list(dict.fromkeys(path.parent.name for path in found))
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"it holds packages: {', '.join(names[:_LISTED])}{more}", hint


def _report(folder: Path) -> tuple[str, str] | None:
    if not (folder / "report.json").is_file() or not (folder / "report.html").is_file():
        return None
    listed = f"`{our_command('model', 'ls')}` lists what was installed; report.html there tells what was measured."
    return f"it is a report of {our_command('ship')}", listed


def _training_run(folder: Path) -> tuple[str, str] | None:
    if any(folder.glob(f"checkpoint-*/{_ADAPTER}")):
        return "it is a training run with adapters", _ship_adapter(folder)
    if any(folder.glob(f"checkpoint-*/{_CHECKPOINT}")):
        return "it is a training run", _build(folder)
    return None


def _ship_adapter(folder: Path) -> str:
    return f"Give its base, too: `{our_command('ship', 'BASE', '--adapter', str(folder))}`."


def _build(folder: Path) -> str:
    return f"Make a package of it: `{our_command('build', str(folder))}`."


_GGUF = (
    "it is a GGUF model, which llama.cpp runs",
    f"Make a package of the safetensors checkpoint that it came from: `{our_command('ship', 'CHECKPOINT')}`.",
)
