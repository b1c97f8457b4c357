"""Whether the packages of a cache are as they were made: every byte against the manifest."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgeship.errors import PackageDamaged, PackageRefused
from edgeship.package import genai_config, names
from edgeship.package import manifest as manifests
from edgeship.package.manifest import Package
from edgeship.store import attestations, record
from edgeship.store.listing import FOREIGN, LATER, Entry, entries, is_gone, select
from edgeship.system.json_file import Complaint

_NOTHING_TO_COMPARE_WITH = (FOREIGN, LATER)
_OLD = "made before names left the package: its manifest, of format 1, states a name and what was measured"
_UNUSABLE = Complaint(PackageDamaged, "Build the package again.")

Outcome = Literal["ok", "damaged", "unverified"]


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


def verify(cache_dir: Path, ref: str | None = None) -> list[Verified]:
    """Each package (all, or what `ref` means) compared with its manifest, every byte and every file that is there."""
    chosen = select(cache_dir, ref) if ref else entries(cache_dir)
    return [result for entry in chosen if (result := _verify(entry))]


def _verify(entry: Entry) -> Verified | None:
    """What came of it; None where the package was removed meanwhile."""
    if entry.package is not None:
        found = [*_refusal(entry.folder), *faults(entry.package)]
        kept = record.kept(entry.folder)
        if kept is not None and kept.digest != entry.package.digest:
            found.insert(0, "its manifest is not the one that was installed")
        if found and is_gone(entry.folder):
            return None
        note = _OLD if entry.package.stated else entry.note
        if found:  # what was said of it was said of other bytes
            return Verified(replace(entry, attestation=None), "damaged", tuple(found), note)
        return Verified(entry, "ok", note=note)
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


def faults(package: Package) -> list[str]:
    """What is wrong with its files."""
    return [*manifests.altered(package), *unlisted(package)]


def unlisted(package: Package) -> list[str]:
    """Files that its manifest does not list; versions in its own folder, and what is kept of them, are none of them."""
    if names.version_of(package.folder.name):
        return manifests.unlisted(package)
    versions: set[str] = set()
    with contextlib.suppress(FileNotFoundError):  # removed a moment ago
        inside = [path.name for path in package.folder.glob("v*")]
        versions = {name for name in inside if names.version_of(_without_suffix(name))}
    return manifests.unlisted(package, besides=versions)


def _without_suffix(name: str) -> str:
    return name.removesuffix(attestations.SUFFIX).removesuffix(".json")
