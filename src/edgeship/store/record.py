"""What the store knows of a package and the package does not say: its name and version, what was measured, the verdict.

<cache>/<name>/v3.json beside the folder <cache>/<name>/v3, bound to that package by the digest of its manifest. The
folders are the truth: a record that is lost, damaged or of another package costs measurements and verdict, and nothing
else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeship.package import names
from edgeship.package.manifest import Package, Verdict
from edgeship.system import foreign
from edgeship.system.fields import LARGEST
from edgeship.system.json_file import write_object


class Record(BaseModel):
    """What the file holds.

    digest: the package's. installed: when; None where nobody knows, since there was no record.
    measurements, verdict: as a report states them; None where nothing was measured.
    forced: it was installed although the release gate found it unfit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    version: int = Field(strict=True, ge=1, le=LARGEST)
    digest: str
    installed: str | None = None
    measurements: dict[str, Any] | None = None
    verdict: Verdict = None
    forced: bool = Field(default=False, strict=True)


def write(folder: Path, record: Record) -> None:
    """Keeps the record of the package in `folder`, where that is the folder of a version: only these have one."""
    if _has_one(folder):
        folder.parent.mkdir(exist_ok=True)
        write_object(_path(folder), record.model_dump(mode="json"))


def remove(folder: Path) -> None:
    """Deletes the record of the package in `folder`."""
    if _has_one(folder):
        _path(folder).unlink(missing_ok=True)


def kept(folder: Path) -> Record | None:
    """The record beside the folder of a version; None where there is none that can be read."""
    if not _has_one(folder):
        return None
    try:
        return Record.model_validate_json(foreign.read_bytes(_path(folder)))
    except (OSError, ValidationError):
        return None


def read(package: Package, name: str, version: int) -> tuple[Record, str | None]:
    """The package's record, and what is to be said of it; without one that fits, what the package itself tells."""
    rebuilt = _rebuilt(package, name, version)
    if not _has_one(package.folder):
        return rebuilt, None
    try:
        found = Record.model_validate_json(foreign.read_bytes(_path(package.folder)))
    except FileNotFoundError:
        return rebuilt, None if package.stated else "its record is lost"
    except (OSError, ValidationError):
        return rebuilt, "its record cannot be read and is ignored"
    if found.digest != package.digest:
        return rebuilt, "its record is of another package and is ignored"
    return found.model_copy(update={"name": name, "version": version}), None


def _has_one(folder: Path) -> bool:
    """Beside any other folder, a file of that name would be somebody else's."""
    return names.version_of(folder.name) is not None


def _path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _rebuilt(package: Package, name: str, version: int) -> Record:
    stated = package.stated
    return Record(
        name=name,
        version=version,
        digest=package.digest,
        installed=stated.created if stated else None,
        measurements=stated.measurements if stated else None,
        verdict=stated.verdict if stated else None,
    )
