"""The `foundry` command of Foundry Local's older versions, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from edgeship.system import json_file, telemetry

NAME = "foundry"
# It starts its service where none runs.
_WAIT_S = 30.0
_LIST = ("cache", "ls")
_AS_JSON = ("-o", "json")


@dataclass(frozen=True)
class Listing:
    """What it lists. models: parsed, where it has `-o json`; lines: as it printed them otherwise.

    problem: why it could not be asked.
    """

    models: list[Any] | None = None
    lines: tuple[str, ...] = ()
    problem: str | None = None


def where() -> str | None:
    """Its path; None where it is not installed."""
    return shutil.which(NAME)


def cached() -> Listing | None:
    """The models in its cache; None where it is not installed."""
    command = where()
    if command is None:
        return None
    try:
        done = _run(command, *_LIST, *_AS_JSON)
        if done.returncode == 0:
            try:
                found = json_file.parse(done.stdout)
                return Listing(models=found if isinstance(found, list) else [found])
            except ValueError:
                pass  # a version without -o, which ignores it
        else:
            done = _run(command, *_LIST)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Listing(problem=str(error))
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        return Listing(problem=said[-1] if said else f"it ended with status {done.returncode}")
    return Listing(lines=tuple(line for line in done.stdout.splitlines() if line.strip()))


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    telemetry.switch_off()
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=_WAIT_S, check=False
    )
