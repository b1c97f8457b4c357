"""Packages on disk by name:version. One lock a name, a temporary folder, one rename: what is listed is whole.

<cache>/<name>/v<version>/    installed, byte for byte as it was made; its record is v<version>.json beside it
<cache>/<name>/               a package folder by itself, or one that another tool made
<cache>/.tmp/<name>/          unfinished work; <cache>/.locks/<name>.lock guards it
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgeship.errors import (
    CacheBusy,
    DiskShort,
    FormatUnknown,
    NameInvalid,
    NotFound,
    NotWritable,
    PackageDamaged,
    PackageNotFound,
    PackageRefused,
    UsageError,
)
from edgeship.package import genai_config, names
from edgeship.package import manifest as manifests
from edgeship.package.kinds import what_else
from edgeship.package.manifest import MANIFEST_NAME, Manifest, Package
from edgeship.progress import Progress, silent
from edgeship.settings import Settings, write_config
from edgeship.store import record
from edgeship.store.record import Record
from edgeship.system import foreign, machine
from edgeship.system.json_file import Complaint
from edgeship.system.storage import bring, disk_errors, locked, new_folder, remove_folder, size_of
from edgeship.system.storage import require_writable as require_writable_folder

LOCK_WAIT_S = 600.0
_log = logging.getLogger("edgeship.store")
FOREIGN = "no manifest: made by another tool"
LATER = "made by a later Edgeship: its manifest is of a format that this one does not know"
_NOTHING_TO_COMPARE_WITH = (FOREIGN, LATER)
_ELSEWHERE = "choose another cache with `edgeship cache cd PATH`."
_OLD = "made before names left the package: its manifest, of format 1, states a name and what was measured"

_UNUSABLE = Complaint(PackageDamaged, "Build the package again; nothing was installed.")

Outcome = Literal["ok", "damaged", "unverified"]


@dataclass(frozen=True)
class Entry:
    """A package in the cache.

    package, record: None where there is no manifest, or none that can be read; `problem` says which.
    note: what else is to be said.
    """

    name: str
    version: int
    folder: Path
    package: Package | None
    record: Record | None
    size_bytes: int
    problem: str | None = None
    note: str | None = None

    @property
    def manifest(self) -> Manifest | None:
        """The package's."""
        return self.package.manifest if self.package else None

    @property
    def ref(self) -> str:
        """name:version."""
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class Verified:
    """A package, and what came of comparing every byte with its manifest.

    outcome: "unverified" where there is no manifest to compare with, which is neither good nor bad.
    faults: of a damaged one, a sentence each.
    note: what else is to be said of it.
    """

    entry: Entry
    outcome: Outcome
    faults: tuple[str, ...] = ()
    note: str | None = None


# --- reading -----------------------------------------------------------------------------------------


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
    found = next(_entry(name, version, folder), None)
    if found is None:
        raise NotFound("there is no such folder", where=str(folder), hint="Give the folder of a package.")
    return found


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


def verify(cache_dir: Path, ref: str | None = None) -> list[Verified]:
    """Each package (all, or what `ref` means) compared with its manifest, every byte and every file that is there."""
    chosen = select(cache_dir, ref) if ref else entries(cache_dir)
    return [result for entry in chosen if (result := _verify(entry))]


def _verify(entry: Entry) -> Verified | None:
    """What came of it; None where the package was removed meanwhile."""
    if entry.package is not None:
        faults = [*_refusal(entry.folder), *_faults(entry.package)]
        kept = record.kept(entry.folder)
        if kept is not None and kept.digest != entry.package.digest:
            faults.insert(0, "its manifest is not the one that was installed")
        if faults and _is_gone(entry.folder):
            return None
        note = _OLD if entry.package.stated else entry.note
        return Verified(entry, "damaged" if faults else "ok", tuple(faults), note)
    if entry.problem == FOREIGN and record.kept(entry.folder) is not None:
        return Verified(entry, "damaged", ("its manifest is missing",))
    if entry.problem in _NOTHING_TO_COMPARE_WITH:
        refused = tuple(_refusal(entry.folder))
        return Verified(entry, "damaged" if refused else "unverified", refused, note=entry.problem)
    return Verified(entry, "damaged", (str(entry.problem),))


def _refusal(folder: Path) -> list[str]:
    """Why no engine runs what lies in a folder, however whole it is; what else is wrong with it is not looked at."""
    try:
        genai_config.read(folder, _UNUSABLE)
    except PackageRefused as error:
        return [error.what]
    except PackageDamaged:
        pass
    return []


def _faults(package: Package) -> list[str]:
    """What is wrong with its files; versions that lie in a package's own folder, with their records, are none of it."""
    if names.version_of(package.folder.name):
        return manifests.verify(package)
    versions: set[str] = set()
    with contextlib.suppress(FileNotFoundError):  # removed a moment ago
        inside = [path.name for path in package.folder.glob("v*")]
        versions = {name for name in inside if names.version_of(name.removesuffix(".json"))}
    return manifests.verify(package, besides=versions)


def _subfolders(folder: Path) -> Iterator[Path]:
    """Folders inside, those of unfinished work and other hidden ones left out."""
    try:
        with os.scandir(folder) as found:
            names = [item.name for item in found if item.is_dir() and not item.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise NotWritable(f"the folder cannot be read: {error}", where=str(folder), hint=_ELSEWHERE) from error
    yield from (folder / name for name in names)


def _entries_under(folder: Path) -> Iterator[Entry]:
    """The versions of a name, and the folder itself where it is a package."""
    try:
        names.check_name(folder.name)
    except NameInvalid:
        return  # nothing could refer to it
    if (folder / MANIFEST_NAME).is_file() or (folder / genai_config.FILE_NAME).is_file():
        yield from _entry(folder.name, None, folder)
    for versioned in _subfolders(folder):
        version = names.version_of(versioned.name)
        if version is not None:
            yield from _entry(folder.name, version, versioned)


def _entry(name: str, version: int | None, folder: Path) -> Iterator[Entry]:
    """The package in a folder; none where it was removed meanwhile."""
    package, problem = _read(folder)
    size_bytes = _size_bytes(folder)
    if package is not None:
        version = version or (package.stated.version if package.stated else 1)
        kept, note = record.read(package, name, version)
        yield Entry(name, version, folder, package, kept, size_bytes, note=note)
    elif not _is_gone(folder):
        yield Entry(name, version or 1, folder, None, None, size_bytes, problem)


def _is_gone(folder: Path) -> bool:
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


# --- changing ----------------------------------------------------------------------------------------


def require_writable(cache_dir: Path) -> None:
    """Makes the cache folder and writes into it once. Raises NotWritable, DiskShort."""
    require_writable_folder(cache_dir, _ELSEWHERE)


def check_name(cache_dir: Path, name: str) -> str:
    """The name, if a package can be installed by it. Raises NameInvalid."""
    names.check_name(name)
    twins = sorted({entry.name for entry in entries(cache_dir) if entry.name.lower() == name.lower()} - {name})
    if twins:
        raise NameInvalid(
            f"{name!r} and the package {twins[0]!r} differ in case alone, and are one folder on Windows and macOS",
            where=str(cache_dir),
            hint=f"Use {twins[0]!r}, or another name.",
        )
    return name


def require_not_installed(folder: Path, cache_dir: Path) -> None:
    """Raises UsageError for a place of the cache, NAME/v<N>: only an install writes there."""
    place = folder.absolute()
    if names.version_of(place.name) is not None and place.parent.parent.resolve() == cache_dir.resolve():
        raise UsageError(
            "that is a package's place in the cache, and what is installed is never written over",
            where=str(folder),
            hint="Build into another folder; `edgeship cache add FOLDER` then installs it as the next version.",
        )


def install(
    folder: Path,
    cache_dir: Path,
    *,
    name: str | None = None,
    measurements: Mapping[str, Any] | None = None,
    verdict: Mapping[str, Any] | None = None,
    move: bool = False,
    progress: Progress = silent,
    wait_s: float = LOCK_WAIT_S,
) -> tuple[Entry, bool]:
    """Puts a package folder into the cache as the next version of its name: (what is installed, True).

    One that another tool made gets a manifest there; its files stay as they are.
    Where the latest version is undamaged and the same package, that one and False: nothing was installed, and what was
    measured anew is kept with it.
    name: by default what the folder is called, see Package.called.
    measurements, verdict: what the store's record is to keep of them.
    move: take the files instead of copying them; `folder` is of no use afterwards, also where the install fails.
    Raises NotFound, UsageError where `folder` is no package, NameInvalid, PackageDamaged, FormatUnknown, NotWritable,
    DiskShort, CacheBusy; then the cache is as it was.
    """
    _require_package(folder)
    source = _read_source(folder, cache_dir)
    genai_config.read(folder, _UNUSABLE)
    name = _checked_name(name, source)
    require_writable(cache_dir)
    with _owned(cache_dir, name, progress, wait_s) as scratch, disk_errors(cache_dir, _ELSEWHERE):
        check_name(cache_dir, name)
        latest = next((entry for entry in reversed(entries(cache_dir)) if entry.name == name), None)
        if latest is not None and _is_undamaged(latest, source):
            _log.info("%s is installed already", latest.ref)
            return _recorded(latest, measurements, verdict), False
        version = next_version(cache_dir, name)
        if not move:
            _require_disk(source.manifest.size_bytes, name, cache_dir / name)
        final = cache_dir / name / f"v{version}"
        with _record_withdrawn_on_failure(final), new_folder(final, at=scratch / final.name, durable=True) as temporary:
            _bring_files(source, temporary, move, progress)
            record.write(final, _first_record(source, name, version, measurements, verdict))
        _log.info("%s:%d is installed in %s", name, version, final)
        return next(_entry(name, version, final)), True


def _read_source(folder: Path, cache_dir: Path) -> Package:
    if (folder / MANIFEST_NAME).exists():
        return manifests.read(folder)
    # To be told that there is no room, nobody should wait until all files are digested.
    _require_disk(manifests.size_bytes(folder), folder.name, cache_dir)
    return manifests.adopt(folder)


def _require_package(folder: Path) -> None:
    """Raises NotFound, UsageError with what else it is, where a folder has no manifest."""
    if not folder.exists():
        raise NotFound("there is no such folder", where=str(folder), hint="Give a folder that `edgeship build` made.")
    if (folder / MANIFEST_NAME).exists() or (folder / genai_config.FILE_NAME).exists():
        return
    nothing = f"it holds no {MANIFEST_NAME}", "Give a folder that `edgeship build` made."
    what, hint = what_else(folder) or nothing
    raise UsageError(f"this is no package: {what}", where=str(folder), hint=hint)


def _checked_name(name: str | None, source: Package) -> str:
    if name is not None:
        return names.check_name(name)
    found = source.called[0]
    if not names.is_name(found):
        what = f"{found!r}, which the folder is called, cannot be a package name"
        raise NameInvalid(what, where=str(source.folder), hint="Give it one with --name.")
    return found


def _is_undamaged(entry: Entry, package: Package) -> bool:
    """Whether the entry is that very package, as it was made."""
    return entry.package is not None and entry.package.digest == package.digest and not _faults(entry.package)


@contextlib.contextmanager
def _record_withdrawn_on_failure(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        record.remove(folder)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
        raise


def _first_record(
    source: Package,
    name: str,
    version: int,
    measurements: Mapping[str, Any] | None,
    verdict: Mapping[str, Any] | None,
) -> Record:
    stated = source.stated
    return Record(
        name=name,
        version=version,
        digest=source.digest,
        installed=manifests.now(),
        measurements=dict(measurements) if measurements else stated.measurements if stated else None,
        verdict=dict(verdict) if verdict else stated.verdict if stated else None,
    )


def _recorded(entry: Entry, measurements: Mapping[str, Any] | None, verdict: Mapping[str, Any] | None) -> Entry:
    """The entry with what was measured anew, which its record keeps from now on."""
    given = {"measurements": measurements, "verdict": verdict}
    news = {key: dict(value) for key, value in given.items() if value is not None}
    if not news or entry.record is None:
        return entry
    kept = entry.record.model_copy(update=news)
    record.write(entry.folder, kept)
    return replace(entry, record=kept)


def remove(cache_dir: Path, ref: str, *, wait_s: float = LOCK_WAIT_S) -> list[Entry]:
    """Removes one version, or all where `ref` is a name alone; returns what was removed.

    Raises NameInvalid, PackageNotFound, NotWritable, CacheBusy.
    """
    name = select(cache_dir, ref)[0].name
    with _owned(cache_dir, name, silent, wait_s) as scratch, disk_errors(cache_dir, _ELSEWHERE):
        chosen = select(cache_dir, ref)
        # Versions before a package folder that holds them.
        for entry in sorted(chosen, key=lambda entry: len(entry.folder.parts), reverse=True):
            remove_folder(entry.folder, at=scratch / f"removed-v{entry.version}")
            record.remove(entry.folder)
            _log.info("%s is removed from %s", entry.ref, cache_dir)
        with contextlib.suppress(OSError):
            (cache_dir / name).rmdir()
    return chosen


def sweep(cache_dir: Path, *, dry_run: bool = False) -> list[tuple[Path, int]]:
    """Deletes what killed installs left in the cache; each folder with its size. dry_run: only says so."""
    found = []
    places = {scratch.name: scratch for scratch in (cache_dir / ".tmp").glob("*")}
    places |= {path.name.lower(): scratch for path in cache_dir.glob("*") if (scratch := _scratch(path))}
    for key, scratch in sorted(places.items()):
        if not scratch.is_dir():
            continue
        with contextlib.suppress(CacheBusy), locked(_lock(cache_dir, key), 0, silent):
            found.append((scratch, size_of(scratch)))
            if not dry_run:
                shutil.rmtree(scratch, ignore_errors=True)
    return found


def set_location(settings: Settings, path: Path) -> Path:
    """Makes `path` the cache from now on, for every command; returns it absolute. Raises NotWritable, DiskShort."""
    folder = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - links stay as the user wrote them
    require_writable(folder)
    write_config(settings.config_file, "cache_dir", str(folder))
    return folder


def _scratch(folder: Path) -> Path | None:
    """Where to work for a name that is a link: in what it leads to, which may lie on another disk."""
    return folder.resolve() / ".tmp" if folder.is_symlink() else None


def _lock(cache_dir: Path, key: str) -> Path:
    return cache_dir / ".locks" / f"{key}.lock"


@contextlib.contextmanager
def _owned(cache_dir: Path, name: str, progress: Progress, wait_s: float) -> Iterator[Path]:
    """Holds a name and gives an empty scratch folder for it. What lay there was left by a process that is gone."""
    key = name.lower()  # names that differ in case alone are one folder on some systems
    scratch = _scratch(cache_dir / name) or cache_dir / ".tmp" / key
    with disk_errors(cache_dir, _ELSEWHERE), locked(_lock(cache_dir, key), wait_s, progress):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _require_disk(size_bytes: int, name: str, cache_dir: Path) -> None:
    free = machine.free_disk_bytes(cache_dir)
    if free < size_bytes:
        raise DiskShort(
            f"{name} needs {size_bytes / 1e6:,.1f} MB of disk and {free / 1e6:,.1f} MB are free",
            where=str(cache_dir),
            hint=f"Free some space (`edgeship cache rm NAME`), or {_ELSEWHERE}",
        )


def _bring_files(source: Package, target: Path, move: bool, progress: Progress) -> None:
    """Brings over the files that the manifest lists, each checked against it."""
    done, total = 0, max(1, source.manifest.size_bytes)
    for name, expected in source.manifest.files.items():
        path = source.folder / name
        _require_readable(source, name)
        if path.stat().st_size != expected.size_bytes:  # so that nothing huge is copied for nothing
            raise _damaged(source, f"{name} differs from what the manifest says")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if bring(path, target / name, folder=source.folder, move=move) != expected:
            raise _damaged(source, f"{name} differs from what the manifest says")
        done += expected.size_bytes
        progress(f"installing {name}", done / total)
    if source.adopted:
        manifests.write(target, source.manifest)
    elif bring(source.folder / MANIFEST_NAME, target / MANIFEST_NAME, move=move).sha256 != source.digest:
        raise _damaged(source, f"{MANIFEST_NAME} was changed meanwhile")


def _require_readable(source: Package, name: str) -> None:
    try:
        foreign.require_readable(source.folder / name, folder=source.folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _damaged(source, f"{name} is missing") from error
    except OSError as error:
        raise _damaged(source, f"{name} cannot be read: {error.strerror or error}") from error


def _damaged(source: Package, what: str) -> PackageDamaged:
    return PackageDamaged(what, where=str(source.folder), hint="Build the package again; nothing was installed.")
