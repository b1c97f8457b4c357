"""Packages on disk by name:version. One lock a name, a temporary folder, one rename: what is listed is whole.

<cache>/<name>/v<version>/    installed
<cache>/<name>/               a package folder by itself, or one that another tool made
<cache>/.tmp/<name>/          unfinished work; <cache>/.locks/<name>.lock guards it
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeship.errors import DiskShort, NameInvalid, NotWritable, PackageDamaged, PackageNotFound
from edgeship.package import genai_config, inference_model, names
from edgeship.package import manifest as manifests
from edgeship.package.manifest import MANIFEST_NAME, Manifest, Package
from edgeship.progress import Progress, silent
from edgeship.settings import Settings, write_config
from edgeship.system import machine
from edgeship.system.storage import FileDigest, bring, disk_errors, locked, new_folder, remove_folder
from edgeship.system.storage import require_writable as require_writable_folder

LOCK_WAIT_S = 600.0
FOREIGN = "no manifest: made by another tool"
_ELSEWHERE = "choose another cache with `edgeship cache cd PATH`."
_VERSION = re.compile(r"v([1-9][0-9]{0,8})", re.ASCII)
# What an install writes anew: two packages that differ in nothing else have the same content.
_STAMPED = frozenset({inference_model.FILE_NAME, "README.md"})

Finish = Callable[[Path, int], Package]
"""Writes into the copied folder what depends on the version it gets, the manifest last."""


@dataclass(frozen=True)
class Entry:
    """A package in the cache.

    manifest: None where there is none or it cannot be read; `problem` says which.
    """

    name: str
    version: int
    folder: Path
    manifest: Manifest | None
    size_bytes: int
    problem: str | None = None

    @property
    def ref(self) -> str:
        """name:version."""
        return f"{self.name}:{self.version}"


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


def next_version(cache_dir: Path, name: str) -> int:
    """The version that the next install of this name gets."""
    return max((entry.version for entry in entries(cache_dir) if entry.name == name), default=0) + 1


def verify(cache_dir: Path, ref: str | None = None) -> list[tuple[Entry, list[str]]]:
    """Each package (all, or what `ref` means) with what is wrong with its files; every byte is read."""
    chosen = select(cache_dir, ref) if ref else entries(cache_dir)
    return [(entry, _faults(entry)) for entry in chosen]


def _faults(entry: Entry) -> list[str]:
    if entry.manifest is not None:
        return manifests.verify(Package(entry.folder, entry.manifest))
    return [] if entry.problem in (None, FOREIGN) else [entry.problem]


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
        yield _entry(folder.name, None, folder)
    for versioned in _subfolders(folder):
        match = _VERSION.fullmatch(versioned.name)
        if match:
            yield _entry(folder.name, int(match[1]), versioned)


def _entry(name: str, version: int | None, folder: Path) -> Entry:
    manifest, problem = None, None
    try:
        if (folder / MANIFEST_NAME).is_file():
            manifest = manifests.read(folder).manifest
        elif (folder / genai_config.FILE_NAME).is_file():
            problem = FOREIGN
        else:
            problem = f"no manifest and no {genai_config.FILE_NAME}: not a package"
    except PackageDamaged as error:
        problem = error.what
    number = version or (manifest.version if manifest else 1)
    return Entry(name, number, folder, manifest, _size_bytes(folder), problem)


def _size_bytes(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # removed a moment ago
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return 0


# --- changing ----------------------------------------------------------------------------------------


def require_writable(cache_dir: Path) -> None:
    """Makes the cache folder and writes into it once. Raises NotWritable, DiskShort."""
    require_writable_folder(cache_dir, _ELSEWHERE)


def install(
    folder: Path,
    cache_dir: Path,
    *,
    name: str | None = None,
    move: bool = False,
    finish: Finish | None = None,
    progress: Progress = silent,
    wait_s: float = LOCK_WAIT_S,
) -> tuple[Package, bool]:
    """Puts a package folder into the cache as the next version of its name: (what is installed, True).

    Where the latest version is undamaged and has the same content, that one and False: nothing was installed.
    move: take the files instead of copying them; `folder` is of no use afterwards, also where the install fails.
    finish: by default package.stamp.
    Raises NameInvalid, PackageDamaged, NotWritable, DiskShort, CacheBusy; then the cache is as it was.
    """
    source = manifests.read(folder)
    name = names.check_name(name or source.manifest.name)
    finish = finish or (lambda copied, version: _stamp(copied, name, version))
    require_writable(cache_dir)
    with _owned(cache_dir, name, progress, wait_s) as scratch, disk_errors(cache_dir, _ELSEWHERE):
        latest = next((entry for entry in reversed(entries(cache_dir)) if entry.name == name), None)
        if latest is not None and latest.manifest is not None and _same(source.manifest, latest.manifest):
            installed = Package(latest.folder, latest.manifest)
            if not manifests.verify(installed):
                return installed, False
        version = next_version(cache_dir, name)
        if not move:
            _require_disk(source.manifest, cache_dir)
        final = cache_dir / name / f"v{version}"
        with new_folder(final, at=scratch / final.name, durable=True) as temporary:
            _bring_files(source, temporary, move, progress)
            finished = finish(temporary, version)
        return Package(final, finished.manifest), True


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
        with contextlib.suppress(OSError):
            (cache_dir / name).rmdir()
    return chosen


def set_location(settings: Settings, path: Path) -> Path:
    """Makes `path` the cache from now on, for every command; returns it absolute. Raises NotWritable, DiskShort."""
    folder = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - links stay as the user wrote them
    require_writable(folder)
    write_config(settings.config_file, "cache_dir", str(folder))
    return folder


@contextlib.contextmanager
def _owned(cache_dir: Path, name: str, progress: Progress, wait_s: float) -> Iterator[Path]:
    """Holds a name and gives an empty scratch folder for it. What lay there was left by a process that is gone."""
    key = name.lower()  # names that differ in case alone are one folder on some systems
    scratch = cache_dir / ".tmp" / key
    with disk_errors(cache_dir, _ELSEWHERE), locked(cache_dir / ".locks" / f"{key}.lock", wait_s, progress):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _same(first: Manifest, second: Manifest) -> bool:
    def content(manifest: Manifest) -> dict[str, FileDigest]:
        return {name: digest for name, digest in manifest.files.items() if name not in _STAMPED}

    return first.recipe == second.recipe and content(first) == content(second)


def _require_disk(manifest: Manifest, cache_dir: Path) -> None:
    free = machine.free_disk_bytes(cache_dir)
    if free < manifest.size_bytes:
        raise DiskShort(
            f"{manifest.name} needs {manifest.size_bytes / 1e6:,.0f} MB of disk and {free / 1e6:,.0f} MB are free",
            where=str(cache_dir),
            hint=f"Free some space (`edgeship cache rm NAME`), or {_ELSEWHERE}",
        )


def _bring_files(source: Package, target: Path, move: bool, progress: Progress) -> None:
    """Brings over the files that the manifest lists, each checked against it."""
    done, total = 0, max(1, source.manifest.size_bytes)
    for name, expected in source.manifest.files.items():
        path = source.folder / name
        if not path.is_file():
            raise _damaged(source, f"{name} is missing")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if bring(path, target / name, move=move) != expected:
            raise _damaged(source, f"{name} differs from what the manifest says")
        done += expected.size_bytes
        progress(f"installing {name}", done / total)
    shutil.copyfile(source.folder / MANIFEST_NAME, target / MANIFEST_NAME)


def _damaged(source: Package, what: str) -> PackageDamaged:
    return PackageDamaged(what, where=str(source.folder), hint="Build the package again; nothing was installed.")


def _stamp(folder: Path, name: str, version: int) -> Package:
    from edgeship.builder import packaging

    return packaging.stamp(folder, version=version, name=name)
