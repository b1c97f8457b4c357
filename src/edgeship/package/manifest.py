"""A package's manifest: what it is made of, how and from what, and what was measured.

It is written last, so its presence means done.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from edgeship.errors import PackageDamaged
from edgeship.package.names import is_name
from edgeship.system.json_file import write_object
from edgeship.system.storage import FileDigest, digest_file
from edgeship.version import __version__

MANIFEST_NAME = "edgeship.json"
_INSIDE = re.compile(r"[^/\\:\0]+(?:/[^/\\:\0]+)*")


class Manifest(BaseModel):
    """What `edgeship.json` holds.

    checkpoint: source, revision, digest, architecture, parameters, licence; adapter: the same for a LoRA adapter.
    build: key, builder, the tools' versions, what it cost.
    files: every other file of the folder by its name.
    measurements, verdict: as a report states them; None where nothing was measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    name: str
    version: int = Field(ge=1)
    created: str
    edgeship_version: str = __version__
    context_tokens: int
    checkpoint: dict[str, Any]
    adapter: dict[str, Any] | None = None
    recipe: dict[str, Any]
    build: dict[str, Any]
    files: dict[str, FileDigest]
    measurements: dict[str, Any] | None = None
    verdict: dict[str, Any] | None = None

    @field_validator("name")
    @classmethod
    def _name_is_portable(cls, name: str) -> str:
        if not is_name(name):
            raise ValueError(f"{name!r} cannot be a package name")
        return name

    @field_validator("files")
    @classmethod
    def _files_stay_inside(cls, files: dict[str, FileDigest]) -> dict[str, FileDigest]:
        # A manifest may come from anywhere, and installing copies what it lists.
        outside = [name for name in files if not _INSIDE.fullmatch(name) or {".", ".."} & set(name.split("/"))]
        if outside:
            raise ValueError(f"{outside[0]!r} is no file inside the package")
        return files

    @property
    def ref(self) -> str:
        """name:version."""
        return f"{self.name}:{self.version}"

    @property
    def size_bytes(self) -> int:
        """All files, the manifest itself not counted."""
        return sum(file.size_bytes for file in self.files.values())


@dataclass(frozen=True)
class Package:
    """A folder that an engine can run, with its manifest."""

    folder: Path
    manifest: Manifest


def now() -> str:
    """The time as manifests and reports state it: UTC, seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(folder: Path, manifest: Manifest) -> Package:
    """Writes the manifest beside the files it lists; the last act of making a package."""
    write_object(folder / MANIFEST_NAME, manifest.model_dump(mode="json"))
    return Package(folder, manifest)


def read(folder: Path) -> Package:
    """The package in `folder`; its files are not checked (see `verify`). Raises PackageDamaged."""
    path = folder / MANIFEST_NAME
    try:
        return Package(folder, Manifest.model_validate_json(path.read_bytes()))
    except (OSError, ValidationError) as error:
        raise PackageDamaged(
            f"the manifest cannot be read: {_reason(error)}",
            where=str(path),
            hint="Remove the package and install it again.",
        ) from error


def verify(package: Package) -> list[str]:
    """What is wrong with a package's files, one sentence each that names the file; empty where all is well."""
    faults = []
    for name, expected in package.manifest.files.items():
        path = package.folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif path.stat().st_size != expected.size_bytes:
            faults.append(f"{name} has {path.stat().st_size} bytes instead of {expected.size_bytes}")
        elif digest_file(path).sha256 != expected.sha256:
            faults.append(f"{name} was altered: its SHA-256 differs from the manifest's")
    return faults


def _reason(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return str(error)
    fault = error.errors()[0]
    field = ".".join(str(part) for part in fault["loc"])
    return f"{field}: {fault['msg']}" if field else str(fault["msg"])
