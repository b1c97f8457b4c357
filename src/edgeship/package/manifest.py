"""A package's manifest: what it is made of, how and from what. The digest of its bytes is the package's identity.

It is written last, so its presence means done, and nothing changes it afterwards: the name, what was measured and the
verdict are the store's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
)

from edgeship.errors import FormatUnknown, PackageDamaged
from edgeship.package import genai_config, names
from edgeship.system import foreign
from edgeship.system.fields import LARGEST, Fields, shown
from edgeship.system.json_file import Complaint, as_text, parse, write_object
from edgeship.system.storage import FileDigest, digest_file
from edgeship.version import __version__

ANOTHER_TOOL = "another tool"
"""Who made a package that was adopted."""
_UNUSABLE = Complaint(PackageDamaged, "Take the folder from where it is whole.")
MANIFEST_NAME = "edgeship.json"
GENAI = "onnxruntime-genai"
"""What `not_for` calls it, and Foundry Local with it, which runs it."""
FORMAT = 2
MOST_FOLDERS = 32
"""Folders in folders that a package may have; what lies deeper is not looked at."""


class Manifest(BaseModel):
    """What `edgeship.json` holds: nothing of a name, a time, a machine or a path, so equal builds are equal bytes.

    checkpoint: digest, architecture, parameters, dtype, licence; of one from the Hub its id and revision; tool_format
    where its chat template takes tools (see tool_formats.FORMATS).
    adapter: digest, rank, alpha and targets of a LoRA adapter.
    build: key, builder, the tools' versions.
    files: every other file of the folder by its name.
    not_for: tools that would make other prompts of this package, or none, each with the reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(default=FORMAT, strict=True, ge=1, le=FORMAT)
    edgeship_version: str = __version__
    context_tokens: int = Field(strict=True, ge=1, le=LARGEST)
    checkpoint: dict[str, Any]
    adapter: dict[str, Any] | None = None
    recipe: dict[str, Any]
    build: dict[str, Any]
    files: dict[str, FileDigest]
    not_for: dict[str, str] = {}

    @field_validator("checkpoint")
    @classmethod
    def _checkpoint_is_described_by_type(cls, values: dict[str, Any]) -> dict[str, Any]:
        checkpoint = Fields(values, ValueError, "checkpoint.")
        for key in ("digest", "architecture", "dtype", "licence", "source", "revision", "tool_format"):
            checkpoint.text(key)
        for key in ("parameters", "parameters_active"):
            checkpoint.count(key, least=0, most=1 << 62)
        return values

    @field_validator("recipe")
    @classmethod
    def _precision_is_a_text(cls, values: dict[str, Any]) -> dict[str, Any]:
        Fields(values, ValueError, "recipe.").text("precision")
        return values

    @field_validator("files")
    @classmethod
    def _files_stay_inside(cls, files: dict[str, FileDigest]) -> dict[str, FileDigest]:
        # A manifest may come from anywhere, and installing copies what it lists.
        for name in files:
            if not foreign.stays_inside(name):
                raise ValueError(f"{shown(name)} is no file inside the package")
            if not name.isprintable():
                raise ValueError(f"{shown(name)} is no name that can be shown")
        kept: dict[str, str] = {}
        for name in files:
            if (other := kept.setdefault(name.lower(), name)) != name:
                raise ValueError(f"{shown(other)} and {shown(name)} are one file on Windows and macOS")
        if genai_config.FILE_NAME not in files:
            raise ValueError(f"{genai_config.FILE_NAME} is not listed, so there is no model to run")
        return files

    @model_serializer(mode="wrap")
    def _without_what_is_new(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Readers of this format before 0.2 know no `not_for`, so it is left out where there is nothing to say."""
        stated: dict[str, Any] = write(self)
        return stated if self.not_for else {key: value for key, value in stated.items() if key != "not_for"}

    @property
    def size_bytes(self) -> int:
        """All files, the manifest itself not counted."""
        return sum(file.size_bytes for file in self.files.values())


def _reasons_are_texts(values: dict[str, Any] | None) -> dict[str, Any] | None:
    Fields(values or {}, ValueError, "verdict.").texts("reasons")
    return values


Verdict = Annotated[dict[str, Any] | None, AfterValidator(_reasons_are_texts)]
"""What a comparison came to, as a report states it."""


class Stated(BaseModel):
    """What a manifest of format 1 stated besides, and the store's record states today."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = Field(strict=True, ge=1, le=LARGEST)
    created: str
    measurements: dict[str, Any] | None = None
    verdict: Verdict = None

    @field_validator("name")
    @classmethod
    def _name_is_portable(cls, name: str) -> str:
        if not names.is_name(name):
            raise ValueError(f"{shown(name)} cannot be a package name")
        return name


@dataclass(frozen=True)
class Package:
    """A folder that an engine can run, with its manifest.

    digest: SHA-256 of the manifest's bytes, which list every file's: it stands for the whole package.
    stated: None but for a manifest of format 1.
    adopted: the manifest is not in the folder, which another tool made; see `adopt`.
    """

    folder: Path
    manifest: Manifest
    digest: str
    stated: Stated | None = None
    adopted: bool = False

    @property
    def called(self) -> tuple[str, int]:
        """Name and version by where it lies; one of format 1 that lies in no folder of a version states them."""
        name, version = names.of_folder(self.folder)
        if version is None and self.stated is not None:
            return self.stated.name, self.stated.version
        return name, version or 1


def now() -> str:
    """The time as records and reports state it: UTC, seconds."""
    return timestamp(datetime.now(UTC))


def timestamp(time: datetime) -> str:
    """A time as records and reports state it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(folder: Path, manifest: Manifest) -> Package:
    """Writes the manifest beside the files it lists; the last act of making a package."""
    write_object(folder / MANIFEST_NAME, manifest.model_copy(update={"format": FORMAT}).model_dump(mode="json"))
    return read(folder)


def read(folder: Path) -> Package:
    """The package in `folder`; its files are not checked (see `verify`). Raises PackageDamaged, FormatUnknown."""
    path = folder / MANIFEST_NAME
    try:
        content = foreign.read_bytes(path)
        manifest, stated = _parse(content)
    except (OSError, ValueError) as error:
        raise PackageDamaged(
            f"the manifest cannot be read: {_reason(error)}",
            where=str(path),
            hint="Build the package again, or install it again from where it is whole.",
        ) from error
    if manifest is None:
        raise FormatUnknown(
            "the manifest is of a format that a later Edgeship writes", where=str(path), hint="Upgrade Edgeship."
        )
    return Package(folder, manifest, hashlib.sha256(content).hexdigest(), stated)


def size_bytes(folder: Path) -> int:
    """All files of a folder and of those below it."""
    return sum((folder / name).lstat().st_size for name in files_below(folder))


def adopt(folder: Path) -> Package:
    """What another tool made, with the manifest that it lacks. Raises PackageDamaged where it cannot be run."""
    config = genai_config.read(folder, _UNUSABLE)
    if not (folder / config.model_file).is_file():
        raise _UNUSABLE.about(folder / config.model_file, "is missing")
    try:
        files = {name: digest_file(folder / name, folder) for name in sorted(files_below(folder))}
    except OSError as error:
        raise PackageDamaged(
            f"it holds what cannot be read: {error}", where=str(folder), hint=_UNUSABLE.hint
        ) from error
    try:
        manifest = Manifest(
            context_tokens=config.context_tokens,
            checkpoint={"architecture": config.model_type},
            recipe={},
            build={"builder": ANOTHER_TOOL},
            files=files,
        )
    except ValidationError as error:
        raise PackageDamaged(_reason(error), where=str(folder), hint=_UNUSABLE.hint) from error
    content = as_text(manifest.model_dump(mode="json")).encode()
    return Package(folder, manifest, hashlib.sha256(content).hexdigest(), adopted=True)


def _parse(content: bytes) -> tuple[Manifest | None, Stated | None]:
    """The manifest, None where it is of a later format; and what one of format 1 states besides. Raises ValueError."""
    values = parse(content)
    number = values.get("format", 1) if isinstance(values, Mapping) else 1
    if isinstance(number, int) and number > FORMAT:
        return None, None
    if number == 1 and isinstance(values, Mapping):
        own = {key: values[key] for key in values if key not in Stated.model_fields}
        besides = {key: values[key] for key in values if key in Stated.model_fields}
        return Manifest.model_validate({"format": 1} | own), Stated.model_validate(besides)
    return Manifest.model_validate(values), None


def verify(package: Package, *, besides: Container[str] = ()) -> list[str]:
    """What is wrong with a package's files, one sentence each that names the file; empty where all is well."""
    return [*altered(package), *unlisted(package, besides=besides)]


def altered(package: Package) -> list[str]:
    """Files that are missing or not as they were made, one sentence each that names the file."""
    expected = package.manifest.files.items()
    return [f"{name} {fault}" for name, file in expected if (fault := _fault(package.folder, name, file))]


def unlisted(package: Package, *, besides: Container[str] = ()) -> list[str]:
    """Files that the manifest does not list, one sentence each: they could change what readers make of the others.

    Files and folders in `besides` may be there, and those whose name begins with a dot, which systems leave behind and
    no reader looks at.
    """
    listed = {*package.manifest.files, MANIFEST_NAME}
    found = files_below(package.folder, besides=besides)
    return [f"{name} is not in the manifest" for name in sorted(found) if name not in listed]


def files_below(folder: Path, *, besides: Container[str] = (), hidden: bool = False) -> Iterator[str]:
    """Every file in a folder and below by its name as manifests state it; what lies too deep is told by its folder.

    hidden: also what begins with a dot.
    """
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        with contextlib.suppress(FileNotFoundError), os.scandir(folder / inside) as items:
            for item in items:
                name = inside + item.name
                if name in besides or (item.name.startswith(".") and not hidden):
                    continue
                if item.is_dir(follow_symlinks=False) and name.count("/") < MOST_FOLDERS:
                    waiting.append(f"{name}/")
                else:
                    yield name


def require_listed(folder: Path, names: Iterable[str], complaint: Complaint) -> None:
    """That the manifest lists those of these files that are there; a folder of another tool has no manifest.

    Raises the complaint's error, PackageDamaged, FormatUnknown.
    """
    if not (folder / MANIFEST_NAME).is_file():
        return
    listed = read(folder).manifest.files
    for name in sorted(names):
        if name not in listed and (folder / name).exists():
            raise complaint.about(folder / name, "is not in the manifest, so it is not loaded")


def parameters_in_words(checkpoint: Mapping[str, Any]) -> str:
    """What follows an architecture's name, of a checkpoint as a manifest describes it; nothing where nothing is known.

    ", 1,200 parameters", and of a mixture of experts also how many of them work on each token.
    """
    counts = (checkpoint.get("parameters"), checkpoint.get("parameters_active"))
    every, active = (f"{count:,}" if isinstance(count, int) else None for count in counts)
    if every is None:
        return ""
    return f", {every} parameters" + (f", of which {active} work on each token" if active else "")


def _fault(folder: Path, name: str, expected: FileDigest) -> str | None:
    """What is wrong with a file; None where nothing is."""
    path = folder / name
    try:
        if path.is_dir():
            return "is missing"
        if path.stat().st_size != expected.size_bytes:
            return f"has {path.stat().st_size} bytes instead of {expected.size_bytes}"
        if digest_file(path, folder).sha256 != expected.sha256:
            return "was altered: its SHA-256 differs from the manifest's"
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors()[0]
    field = ".".join(str(part) for part in fault["loc"])
    return f"{field}: {fault['msg']}" if field else str(fault["msg"])
