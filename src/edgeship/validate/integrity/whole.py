"""Whether a package has the files that its manifest lists, each as it was made, and no others."""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.package import manifest
from edgeship.package.manifest import Package
from edgeship.progress import Progress
from edgeship.store import record, verification
from edgeship.system.storage import megabytes
from edgeship.validate.integrity.looked_at import LookedAt, judged
from edgeship.validate.verdict import Finding

_NO_MANIFEST = "Another tool made it: it has no manifest, so there is nothing to compare its files with."


def findings(looked: LookedAt, progress: Progress) -> Iterator[Finding]:
    """Of digests, and of files that are too many."""
    package = looked.package
    if package is None:
        yield Finding("digests", "skipped", _NO_MANIFEST)
        return
    count, size = len(package.manifest.files), megabytes(package.manifest.size_bytes)
    progress(f"reading {count} files, {size}", None)
    good = f"All {count} files ({size}) have the SHA-256 that the manifest states."
    yield judged("digests", manifest.altered(package), good)
    listed = "The manifest lists every file but those whose name begins with a dot."
    yield judged("manifest-complete", verification.unlisted(package), listed)
    yield from _installed(package)


def _installed(package: Package) -> Iterator[Finding]:
    """Of a package in the cache, whether its manifest is still the one that was installed."""
    kept = record.kept(package.folder)
    if kept is None:
        return
    faults = ["Its manifest is not the one that was installed"] if kept.digest != package.digest else []
    yield judged("as-installed", faults, "Its manifest is the one that was installed.")
