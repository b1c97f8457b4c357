"""Writes into versions.md on which systems all that running Edgeship needs can be had as wheels, by `make wheels`.

pip is asked as if on each system, from wherever it is set up to install. What a package needs there is read from its
metadata: pip itself would read the conditions in it as of the system that it runs on.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "versions.md"
BEGIN, END = "<!-- made by `make wheels` -->", "<!-- end of what `make wheels` made -->"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRA = "foundry"
# What manylinux was called before it named the version of glibc 2.
OLD_MANYLINUX = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}
NEWEST_GLIBC, NEWEST_MACOS = 34, 15
MEASURES = {"macosx": "macOS", "manylinux": "glibc"}
NO_WHEEL = ("No matching distribution found", "ResolutionImpossible")


@dataclass(frozen=True)
class System:
    """A system, as pip's tags and as the conditions in metadata call it."""

    name: str
    tags: tuple[str, ...]
    markers: dict[str, str]


def linux(machine: str) -> System:
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(NEWEST_GLIBC, 4, -1)]
    tags += [f"{old}_{machine}" for old in OLD_MANYLINUX]
    markers = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}
    return System(f"Linux {machine}", tuple(tags), markers)


def windows(machine: str, tag: str) -> System:
    markers = {"os_name": "nt", "sys_platform": "win32", "platform_system": "Windows", "platform_machine": machine}
    return System(f"Windows {machine}", (tag,), markers)


def macos(machine: str) -> System:
    markers = {"os_name": "posix", "sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": machine}
    return System(f"macOS {machine}", (f"macosx_{NEWEST_MACOS}_0_{machine}",), markers)


SYSTEMS = (
    linux("x86_64"),
    linux("aarch64"),
    windows("AMD64", "win_amd64"),
    windows("ARM64", "win_arm64"),
    macos("arm64"),
    macos("x86_64"),
)


@dataclass(frozen=True)
class Found:
    """A package on one system with one Python: its wheel, and what that needs; no wheel where pip finds none."""

    wheel: str | None
    needs: tuple[Requirement, ...] = ()


# --- asking ----------------------------------------------------------------------------------------------------------


def closure(system: System, python: str, likely: Iterable[str] = ()) -> dict[str, Found]:
    """Every package that running Edgeship brings there, by its name. `likely`: names to ask for at once."""
    known: dict[str, Found] = {}
    reached: dict[str, Found] = {}
    wanted = roots()
    while wanted:
        missing = {name_of(requirement) for requirement in wanted} - set(known)
        if missing:
            known |= look_up(sorted(missing.union(likely) - set(known)), system, python)
        reached |= {name_of(requirement): known[name_of(requirement)] for requirement in wanted}
        wanted = [
            needed
            for requirement in wanted
            for needed in known[name_of(requirement)].needs
            if name_of(needed) not in reached and applies(needed, requirement.extras, system, python)
        ]
    return reached


def roots() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"][EXTRA])]


def applies(requirement: Requirement, extras: Iterable[str], system: System, python: str) -> bool:
    """Whether a package that was asked for with these extras needs it there."""
    if requirement.marker is None:
        return True
    there: dict[str, Any] = {**default_environment(), **system.markers}
    there |= {"python_version": python, "python_full_version": f"{python}.0"}
    return any(requirement.marker.evaluate(there | {"extra": extra}) for extra in ("", *extras))


def look_up(names: list[str], system: System, python: str) -> dict[str, Found]:
    """All at once; where pip lacks one of them, each half by itself."""
    found = ask_pip(names, system, python)
    if found is not None:
        return found
    if len(names) == 1:
        return {names[0]: Found(None)}
    half = len(names) // 2
    return look_up(names[:half], system, python) | look_up(names[half:], system, python)


def ask_pip(names: list[str], system: System, python: str) -> dict[str, Found] | None:
    """What pip would install; None where one of them has no wheel."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet"]
        command += ["--only-binary=:all:", f"--target={folder}", f"--report={report}", "--implementation=cp"]
        command += [f"--python-version={python}", *(f"--platform={tag}" for tag in system.tags)]
        command += [f"--constraint={ROOT / 'constraints.txt'}", *names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if "Retrying" in done.stderr or (done.returncode and not any(said in done.stderr for said in NO_WHEEL)):
            sys.exit(done.stderr)  # whether there is a wheel is not known
        if done.returncode:
            return None
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {canonicalize_name(item["metadata"]["name"]): read_item(item) for item in items}


def read_item(item: dict[str, Any]) -> Found:
    needs = tuple(Requirement(text) for text in item["metadata"].get("requires_dist", ()))
    return Found(item["download_info"]["url"].rpartition("/")[2], needs)


def name_of(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


# --- the page --------------------------------------------------------------------------------------------------------


def table() -> str:
    """A row for each system, a column for each Python."""
    lines = [f"As pip found on {datetime.now(UTC).date()}:", ""]
    lines += [f"| system | {' | '.join(f'Python {python}' for python in PYTHONS)} | needs at least |"]
    lines += ["| --- " * (len(PYTHONS) + 2) + "|"]
    known: set[str] = set()
    for system in SYSTEMS:
        columns = []
        for python in PYTHONS:
            print(f"asking for {system.name}, Python {python}", file=sys.stderr)
            columns.append(closure(system, python, known))
            known.update(columns[-1])
        cells = [cell(found) for found in columns]
        lines.append(f"| {' | '.join([system.name, *cells, base(columns)])} |")
    return "\n".join([*lines, ""])


def cell(found: dict[str, Found]) -> str:
    lacking = sorted(name for name, item in found.items() if item.wheel is None)
    unpinned = sorted(set(found) - pinned())
    said = f"none of {', '.join(lacking)}" if lacking else f"all {len(found)}"
    return said + (f"; constraints.txt lacks {', '.join(unpinned)}" if unpinned else "")


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {name_of(Requirement(line)) for line in lines if line and not line.startswith("#")}


def base(columns: list[dict[str, Found]]) -> str:
    """The oldest system that all wheels run on, and which of them ask for so much."""
    bases = {
        name: version
        for found in columns
        for name, item in found.items()
        if item.wheel and (version := oldest(item.wheel))
    }
    if not bases:
        return "-"
    newest = max(bases.values())
    asking = ", ".join(sorted(name for name, version in bases.items() if version == newest))
    return f"{newest[0]} {newest[1]}.{newest[2]} ({asking})"


def oldest(wheel: str) -> tuple[str, int, int] | None:
    """The oldest system that a wheel runs on: what its version is of, and the version; None where that is not said."""
    versions = []
    for tag in parse_wheel_filename(wheel)[3]:
        name = re.sub("^(manylinux[0-9]+)_", lambda old: f"manylinux_2_{OLD_MANYLINUX[old[1]]}_", tag.platform)
        if match := re.match(r"(macosx|manylinux)_(\d+)_(\d+)_", name):
            versions.append((MEASURES[match[1]], int(match[2]), int(match[3])))
    return min(versions, default=None)


if __name__ == "__main__":
    made = table()
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{made}{END}{rest.partition(END)[2]}", encoding="utf-8", newline="\n")
