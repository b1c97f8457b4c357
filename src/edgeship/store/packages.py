"""Packages on disk by name:version. One lock a name, a temporary folder, one rename: what is listed is whole.

<cache>/<name>/v<version>/    installed, byte for byte as it was made; beside it v<version>.json, its record, and
                              v<version>.attestation.jsonl, what the release gate said of it
<cache>/<name>/               a package folder by itself, or one that another tool made
<cache>/.tmp/<name>/          unfinished work; <cache>/.locks/<name>.lock guards it
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeship.errors import (
    CacheBusy,
    DiskShort,
    GateFailed,
    NameInvalid,
    NotFound,
    PackageDamaged,
    UsageError,
)
from edgeship.package import genai_config, names
from edgeship.package import manifest as manifests
from edgeship.package.kinds import what_else
from edgeship.package.manifest import MANIFEST_NAME, Package
from edgeship.progress import Progress, silent
from edgeship.settings import Settings, write_config
from edgeship.store import attestations, record
from edgeship.store.attestations import Attestation
from edgeship.store.listing import ELSEWHERE, Entry, entries, next_version, read_entry, select
from edgeship.store.record import Record
from edgeship.store.verification import faults
from edgeship.system import foreign, machine
from edgeship.system.json_file import Complaint
from edgeship.system.storage import bring, disk_errors, locked, new_folder, remove_folder, size_of
from edgeship.system.storage import require_writable as require_writable_folder

LOCK_WAIT_S = 600.0
_log = logging.getLogger("edgeship.store")

_UNUSABLE = Complaint(PackageDamaged, "Build the package again; nothing was installed.")


def require_writable(cache_dir: Path) -> None:
    """Makes the cache folder and writes into it once. Raises NotWritable, DiskShort."""
    require_writable_folder(cache_dir, ELSEWHERE)


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
    if _is_place_of(folder, cache_dir):
        raise UsageError(
            "that is a package's place in the cache, and what is installed is never written over",
            where=str(folder),
            hint="Build into another folder; `edgeship cache add FOLDER` then installs it as the next version.",
        )


def _is_place_of(folder: Path, cache_dir: Path) -> bool:
    """Whether a folder is where a version of a package is installed, or would be."""
    place = folder.absolute()
    return names.version_of(place.name) is not None and place.parent.parent.resolve() == cache_dir.resolve()


def install(
    folder: Path,
    cache_dir: Path,
    *,
    name: str | None = None,
    measurements: Mapping[str, Any] | None = None,
    verdict: Mapping[str, Any] | None = None,
    gate: Mapping[str, Any] | None = None,
    force: bool = False,
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
    gate: the release gate's verdict, as `validate.document.verdict_document` makes it. It is laid over what is kept of
    this very package, where that lies or anywhere in the cache. force: install it although a check fails.
    move: take the files instead of copying them; `folder` is of no use afterwards, also where the install fails.
    Raises NotFound, UsageError where `folder` is no package, NameInvalid, PackageDamaged, FormatUnknown, GateFailed,
    NotWritable, DiskShort, CacheBusy; then the cache is as it was.
    """
    _require_package(folder)
    source = _read_source(folder, cache_dir)
    genai_config.read(folder, _UNUSABLE)
    name = _checked_name(name, source)
    require_writable(cache_dir)
    with _owned(cache_dir, name, progress, wait_s) as scratch, disk_errors(cache_dir, ELSEWHERE):
        check_name(cache_dir, name)
        there = entries(cache_dir)
        twins = _undamaged(there, source)
        attested = _attested(source, twins, name, gate)
        if twins or (attested and attested.outcome == "fail"):  # else they are compared as they are copied
            _require_undamaged(source)
        _require_not_failed(attested, name, force)
        news = _news(measurements, verdict, attested)
        latest = next((entry for entry in reversed(there) if entry.name == name), None)
        if latest is not None and latest in twins:
            _log.info("%s is installed already", latest.ref)
            return _recorded(latest, news, attested), False
        version = next_version(cache_dir, name)
        if not move:
            _require_disk(source.manifest.size_bytes, name, cache_dir / name)
        final = cache_dir / name / f"v{version}"
        with _withdrawn_on_failure(final), new_folder(final, at=scratch / final.name, durable=True) as temporary:
            _bring_files(source, temporary, move, progress)
            record.write(final, _first_record(source, name, version, news))
            _attest(final, attested)
        _log.info("%s:%d is installed in %s", name, version, final)
        return next(read_entry(name, version, final)), True


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


def _undamaged(there: Sequence[Entry], package: Package) -> list[Entry]:
    """The entries that are that very package, as it was made: what is known of one is true of the others' bytes."""
    same = (entry for entry in there if entry.package is not None and entry.package.digest == package.digest)
    return [entry for entry in same if entry.package and not faults(entry.package)]


def _require_undamaged(source: Package) -> None:
    """Raises PackageDamaged for a file that the manifest lists and that is not as it was made."""
    if found := manifests.altered(source):
        raise _damaged(source, "; ".join(found))


@contextlib.contextmanager
def _withdrawn_on_failure(folder: Path) -> Iterator[None]:
    """What is kept beside a package goes where the package does not come."""
    try:
        yield
    except BaseException:
        record.remove(folder)
        attestations.remove(folder)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
        raise


def _attested(source: Package, twins: Sequence[Entry], name: str, gate: Mapping[str, Any] | None) -> Attestation | None:
    """What is kept of a package where it lies, or of the same one in the cache, with a verdict that was given now."""
    same = (entry.attestation for entry in twins)
    given = attestations.of_verdict(name, source.digest, gate) if gate else None
    return attestations.together(found for found in (attestations.read(source)[0], *same, given) if found)


def _require_not_failed(attested: Attestation | None, name: str, force: bool) -> None:
    if attested is None or attested.outcome != "fail" or force:
        return
    raise GateFailed(
        f"the release gate found {name} unfit: {', '.join(attested.of('fail'))}",
        hint="Mend it and build it again; --force installs it all the same, marked as failed.",
    )


def failed_before(package: Package, cache_dir: Path, verdict: Mapping[str, Any]) -> tuple[str, ...]:
    """The checks that failed of this very package where it is installed, and that a new verdict does not undo."""
    attested = _attested(package, _undamaged(entries(cache_dir), package), package.called[0], verdict)
    now = {check for check, found in verdict["checks"].items() if found["outcome"] == "fail"}
    return attested.of("fail", besides=now) if attested else ()


def _news(
    measurements: Mapping[str, Any] | None, verdict: Mapping[str, Any] | None, attested: Attestation | None
) -> dict[str, Any]:
    """What a record is to say from now on."""
    given = {"measurements": measurements, "verdict": verdict}
    news: dict[str, Any] = {key: dict(value) for key, value in given.items() if value}
    return news | ({"forced": attested.outcome == "fail"} if attested else {})


def _first_record(source: Package, name: str, version: int, news: Mapping[str, Any]) -> Record:
    stated = source.stated
    old = {"measurements": stated.measurements, "verdict": stated.verdict} if stated else {}
    fields = {"name": name, "version": version, "digest": source.digest, "installed": manifests.now()}
    return Record(**{**fields, **old, **news})


def _recorded(entry: Entry, news: Mapping[str, Any], attested: Attestation | None) -> Entry:
    """The entry with what became known anew, which is kept beside it from now on."""
    if attested is not None:
        _attest(entry.folder, attested)
        entry = replace(entry, attestation=attested)
    if not news or entry.record is None:
        return entry
    kept = entry.record.model_copy(update=news)
    record.write(entry.folder, kept)
    return replace(entry, record=kept)


def _attest(folder: Path, attested: Attestation | None) -> None:
    """Keeps it beside the package in `folder`; without one, what a killed install left there goes."""
    if attested is None:
        attestations.remove(folder)
    else:
        attestations.write(folder, attested)


def attest(
    cache_dir: Path, folder: Path, digest: str, verdict: Mapping[str, Any], *, wait_s: float = LOCK_WAIT_S
) -> Entry | None:
    """Keeps a verdict of the release gate beside the package that it is of, laid over earlier ones check by check.

    folder, digest: of what was looked at. None where it is not installed in this cache, or is another package by now,
    or where nothing was looked at. Raises NotWritable, DiskShort, CacheBusy.
    """
    if not _is_place_of(folder, cache_dir):
        return None
    name = folder.absolute().parent.name
    with _owned(cache_dir, name, silent, wait_s), disk_errors(cache_dir, ELSEWHERE):
        entry = next((one for one in entries(cache_dir) if one.folder.resolve() == folder.resolve()), None)
        if entry is None or entry.package is None or entry.package.digest != digest:
            return None
        given = attestations.of_verdict(entry.name, digest, verdict)
        if given is None:
            return None
        kept = [entry.attestation] if entry.attestation else []
        return _recorded(entry, {}, attestations.together([*kept, given]))


def remove(cache_dir: Path, ref: str, *, wait_s: float = LOCK_WAIT_S) -> list[Entry]:
    """Removes one version, or all where `ref` is a name alone; returns what was removed.

    Raises NameInvalid, PackageNotFound, NotWritable, CacheBusy.
    """
    name = select(cache_dir, ref)[0].name
    with _owned(cache_dir, name, silent, wait_s) as scratch, disk_errors(cache_dir, ELSEWHERE):
        chosen = select(cache_dir, ref)
        # Versions before a package folder that holds them.
        for entry in sorted(chosen, key=lambda entry: len(entry.folder.parts), reverse=True):
            remove_folder(entry.folder, at=scratch / f"removed-v{entry.version}")
            record.remove(entry.folder)
            attestations.remove(entry.folder)
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
    with disk_errors(cache_dir, ELSEWHERE), locked(_lock(cache_dir, key), wait_s, progress):
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
            hint=f"Free some space (`edgeship cache rm NAME`), or {ELSEWHERE}",
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
