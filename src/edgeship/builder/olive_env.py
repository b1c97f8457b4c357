"""Olive in an environment of its own, made on demand: it and onnxruntime-genai 0.18 cannot share one.

The environment is made in a temporary folder, proven by importing, and then renamed: its scripts keep the temporary
path and are of no use, but its interpreter finds its packages from where it lies, and nothing else of it is used.
pip runs with the user's own configuration, so mirrors, proxies and PyTorch's CPU builds are found as everywhere else.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from edgeship.errors import DiskShort, ToolFailed
from edgeship.progress import Progress, silent
from edgeship.system import child
from edgeship.system.storage import disk_errors, locked, new_folder, remove_folder

CONSTRAINTS = Path(__file__).with_name("olive_constraints.txt")
# requests is what Olive imports and does not ask for; the others are what a ModelBuilder pass imports.
PACKAGES = ("olive-ai", "onnx", "onnxruntime", "onnxruntime-genai", "peft", "requests", "torch", "transformers")
SIZE_BYTES = 1_700_000_000
"""On disk, with a CPU build of PyTorch."""
WAIT_S = 3600.0
_ISOLATED = ("-I", "-u", "-X", "utf8")
_PROOF = "import peft; from olive.cli import launcher; from onnxruntime_genai.models.builder import create_model"
_ELSEWHERE = "set EDGESHIP_HOME to another folder; then run the same command again."


def pinned() -> dict[str, str]:
    """The version of each of PACKAGES."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {name: pins[name] for name in PACKAGES}


def folder_name() -> str:
    """What the environment is called: other versions, or another Python, make another one."""
    python = f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}"
    text = f"{python}\n{CONSTRAINTS.read_text(encoding='utf-8')}"
    return f"olive-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def ensure(tools_dir: Path, log: Path, progress: Progress = silent, *, wait_s: float = WAIT_S) -> Path:
    """The interpreter of the environment under `tools_dir`, which is made if it is not there.

    log: where what pip says is kept if it fails.
    Raises ToolFailed, DiskShort, NotWritable, CacheBusy; a failure leaves no environment behind.
    """
    folder = tools_dir / folder_name()
    if python_of(folder).exists():
        return python_of(folder)
    lock = tools_dir / "locks" / f"{folder.name}.lock"
    with disk_errors(tools_dir, _ELSEWHERE), locked(lock, wait_s, progress, what="Olive's environment"):
        if not python_of(folder).exists():
            _make(folder, log, progress)
    return python_of(folder)


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    scripts = sysconfig.get_path("scripts", "venv", {"base": str(folder)})
    return Path(scripts) / f"python{sysconfig.get_config_var('EXE') or ''}"


def run(
    python: Path,
    arguments: list[str],
    *,
    heard: Callable[[str], object],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Runs an interpreter, blind to this one's packages, until it ends. `heard` gets every line that it prints.

    Its stdin stays open as long as this process lives. Raises child.Died for any status but 0.
    """
    command = [str(python), *_ISOLATED, *arguments]
    child.follow(command, heard=heard, environment=os.environ | dict(environment or {}), folder=folder)


def _make(folder: Path, log: Path, progress: Progress) -> None:
    """Only while the lock is held."""
    free = shutil.disk_usage(folder.parent).free
    if free < SIZE_BYTES:
        raise DiskShort(
            f"Olive's environment needs {SIZE_BYTES / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB are free",
            where=str(folder.parent),
            hint=f"Free some space, or {_ELSEWHERE}",
        )
    if folder.exists():
        remove_folder(folder)
    with new_folder(folder, at=folder.with_name(f".tmp-{folder.name}")) as temporary:
        _install(temporary, log, progress)


def _install(folder: Path, log: Path, progress: Progress) -> None:
    told = "olive: making its environment, once"
    progress(told, None)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as kept:

        def heard(line: str) -> None:
            kept.write(line + "\n")
            verb, _, rest = line.partition(" ")
            if verb == "Collecting":
                progress(f"{told}: {rest.split(' ')[0]}", None)
            elif verb == "Installing":
                progress(f"{told}: installing", None)

        wanted = ["-c", str(CONSTRAINTS), *PACKAGES]
        try:
            run(Path(sys.executable), ["-m", "venv", str(folder)], heard=heard)
            run(
                python_of(folder),
                ["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar=off", *wanted],
                heard=heard,
            )
            run(python_of(folder), ["-c", _PROOF], heard=heard, environment={"CI": "1"})
        except child.Died as death:
            raise _failure(death, log) from death


def _failure(death: child.Died, log: Path) -> ToolFailed | DiskShort:
    if any("No space left on device" in line for line in death.lines):
        return DiskShort("the disk is full", where=str(log), hint=f"Free some space, or {_ELSEWHERE}")
    faults = [line for line in death.lines if "error" in line.lower()]
    said = "; ".join(faults[-3:]) or death.last
    return ToolFailed(
        f"Olive's environment could not be made: {said}",
        where=str(log),
        hint="The file named here holds all that venv and pip said. pip uses your own configuration: check that it "
        "can reach a package index (pip config list), then run the same command again.",
    )
