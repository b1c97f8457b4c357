"""The packages of a cache as they lie there: what is listed is read from folders and manifests alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeship.errors import FormatUnknown, NameInvalid, NotFound, NotWritable, PackageDamaged, PackageNotFound
from edgeship.package import genai_config, names
from edgeship.package import manifest as manifests
from edgeship.package.manifest import MANIFEST_NAME, Manifest, Package
from edgeship.store import attestations, record
from edgeship.store.attestations import Attestation
from edgeship.store.record import Record

FOREIGN = "no manifest: made by another tool"
LATER = "made by a later Edgeship: its manifest is of a format that this one does not know"
ELSEWHERE = "choose another cache with `edgeship cache cd PATH`."


@dataclass(frozen=True)
class Entry:
    """A package in the cache.

    package, record: None where there is no manifest, or none that can be read; `problem` says which.
    note: what else is to be said. attestation: what the release gate said of it; None where nothing is kept.
    """

    name: str
    version: int
    folder: Path
    package: Package | None
    record: Record | None
    size_bytes: int
    problem: str | None = None
    note: str | None = None
    attestation: Attestation | None = None

    @property
    def gate(self) -> str | None:
        """What the release gate said of it, in a word or two."""
        if self.attestation is None:
            return None
        return self.attestation.in_words(forced=self.record is not None and self.record.forced)

    @property
    def is_unfit(self) -> bool:
        """Whether the release gate found it unfit."""
        return self.attestation is not None and self.attestation.outcome == "fail"

    @property
    def marked_ref(self) -> str:
        """name:version, and that the release gate found it unfit where it did."""
        return attestations.marked(self.ref, self.gate)

    @property
    def manifest(self) -> Manifest | None:
        """The package's."""
        return self.package.manifest if self.package else None

    @property
    def ref(self) -> str:
        """name:version."""
        return f"{self.name}:{self.version}"


def entries(cache_dir: Path) -> list[Entry]:
    """Every package, by name and version; no contents are read but manifests. A missing cache is an empty one."""
    found = [entry for folder in _subfolders(cache_dir) for entry in _entries_under(folder)]
    return sorted(found, key=lambda entry: (entry.name, entry.version))


def find(cache_dir: Path, ref: str) -> Entry:
    """The package called `ref`; the latest version where none is given. Raises NameInvalid, PackageNotFound."""
    return select(cache_dir, ref)[-1]


def select(cache_dir: Path, ref: str) -> list[Entry]:
    """The packages that `ref` means, all versions of a name alone. Raises NameInvalid, PackageNotFound."""
    chosen, hint = names.select(entries(cache_dir), ref)
    if not chosen:
        hint += "`edgeship cache ls` lists all."
        raise PackageNotFound(f"no package is called {ref!r}", where=str(cache_dir), hint=hint)
    return chosen


def at(folder: Path) -> Entry:
    """The package in a folder, wherever it lies. Raises NotFound where it is gone."""
    name, version = names.of_folder(folder)
    found = next(read_entry(name, version, folder), None)
    if found is None:
        raise NotFound("there is no such folder", where=str(folder), hint="Give the folder of a package.")
    return found


def gate_of(folder: Path) -> str | None:
    """What the release gate said of the package in a folder, as `Entry.gate` has it; None where that is gone."""
    try:
        return at(folder).gate
    except NotFound:
        return None


def found_below(cache_dir: Path) -> list[Path]:
    """Folders two steps down that can be run and are no version of a package, as other tools lay them out."""
    inside = (folder for name in _subfolders(cache_dir) for folder in _subfolders(name))
    return sorted(
        folder
        for folder in inside
        if names.version_of(folder.name) is None and (folder / genai_config.FILE_NAME).is_file()
    )


def next_version(cache_dir: Path, name: str) -> int:
    """The version that the next install of this name gets."""
    return max((entry.version for entry in entries(cache_dir) if entry.name == name), default=0) + 1


def _subfolders(folder: Path) -> Iterator[Path]:
    """Folders inside, those of unfinished work and other hidden ones left out."""
    try:
        with os.scandir(folder) as found:
            names = [item.name for item in found if item.is_dir() and not item.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise NotWritable(f"the folder cannot be read: {error}", where=str(folder), hint=ELSEWHERE) from error
    yield from (folder / name for name in names)


def _entries_under(folder: Path) -> Iterator[Entry]:
    """The versions of a name, and the folder itself where it is a package."""
    try:
        names.check_name(folder.name)
    except NameInvalid:
        return  # nothing could refer to it
    if (folder / MANIFEST_NAME).is_file() or (folder / genai_config.FILE_NAME).is_file():
        yield from read_entry(folder.name, None, folder)
    for versioned in _subfolders(folder):
        version = names.version_of(versioned.name)
        if version is not None:
            yield from read_entry(folder.name, version, versioned)


def read_entry(name: str, version: int | None, folder: Path) -> Iterator[Entry]:
    """The package in a folder; none where it was removed meanwhile."""
    package, problem = _read(folder)
    size_bytes = _size_bytes(folder)
    if package is not None:
        version = version or (package.stated.version if package.stated else 1)
        kept, note = record.read(package, name, version)
        attestation, fault = attestations.read(package)
        notes = "; ".join(said for said in (note, fault) if said)
        yield Entry(name, version, folder, package, kept, size_bytes, note=notes or None, attestation=attestation)
    elif not is_gone(folder):
        yield Entry(name, version or 1, folder, None, None, size_bytes, problem)


def is_gone(folder: Path) -> bool:
    """Whether another process has removed it."""
    try:
        folder.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def _read(folder: Path) -> tuple[Package | None, str | None]:
    """The package, or why there is none."""
    try:
        if (folder / MANIFEST_NAME).is_file():
            return manifests.read(folder), None
    except FormatUnknown:
        return None, LATER
    except PackageDamaged as error:
        return None, error.what
    if (folder / genai_config.FILE_NAME).is_file():
        return None, FOREIGN
    return None, f"no manifest and no {genai_config.FILE_NAME}: not a package"


def _size_bytes(folder: Path) -> int:
    with contextlib.suppress(OSError):  # removed a moment ago
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return 0
