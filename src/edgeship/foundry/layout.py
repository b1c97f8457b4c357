"""A package as a folder of a Foundry Local cache: <publisher>/<name>-<version>/v<version>/.

The models themselves are hard links where the file system allows, so nothing is copied and the package may go; what is
written differently here is written anew, so the package stays as it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeship.errors import NotSupported, PackageDamaged, UsageError
from edgeship.foundry.checks import DAMAGED_HINT, Prepared
from edgeship.package import genai_config, inference_model
from edgeship.package import manifest as manifests
from edgeship.package.genai_config import GenaiConfig
from edgeship.package.manifest import MANIFEST_NAME, Manifest
from edgeship.package.prompt_parts import NoParts
from edgeship.system import foreign
from edgeship.system.json_file import write_object
from edgeship.system.storage import bring, digest_file, disk_errors, new_folder, require_writable

PUBLISHER = "edgeship"
# What the copy states otherwise than the package.
_WRITTEN = (genai_config.FILE_NAME, inference_model.FILE_NAME)
_ELSEWHERE = "choose another folder."


@dataclass(frozen=True)
class Laid:
    """A folder that was laid out, and how many bytes of it share the package's disk space or take their own."""

    folder: Path
    linked_bytes: int
    copied_bytes: int


def place(root: Path, name: str, version: int, publisher: str = PUBLISHER) -> Path:
    """Where a model belongs in a cache folder."""
    return root / publisher / f"{name}-{version}" / f"v{version}"


@contextmanager
def laid_out(
    prepared: Prepared,
    target: Path,
    tune: Callable[[GenaiConfig], Mapping[str, Any]] | None = None,
) -> Iterator[Laid]:
    """The folder under a temporary name, for checks; it gets its place where they raise nothing, and is gone otherwise.

    tune: changes genai_config.json. What was at `target` is replaced. Raises NotWritable, DiskShort.
    """
    try:
        require_writable(target.parent, _ELSEWHERE)
        with new_folder(target) as temporary:
            with disk_errors(target, _ELSEWHERE):
                laid = _bring(prepared, temporary, tune)
            yield laid
    except BaseException:
        remove_empty(target.parent)
        raise


def export(prepared: Prepared, root: Path, publisher: str, threads: int) -> Laid:
    """The package in its place under `root`, as it is but for its name and the threads, which Foundry Local needs.

    Raises NotSupported for a package without prompt parts, which Foundry Local 1 needs; UsageError where something else
    than a package lies there, NotWritable, DiskShort.
    """
    if isinstance(prepared.parts, NoParts):
        raise NotSupported(
            "Foundry Local 1 writes prompts from parts, which cannot be derived from this chat template: "
            f"{prepared.parts.why}",
            where=str(prepared.folder),
            hint="Foundry Local 2 renders the template itself: `edgeship foundry register`.",
        )
    target = place(root, prepared.name, prepared.version, publisher)
    if target.exists() and not (target / MANIFEST_NAME).is_file():
        raise UsageError(
            "something else lies where the package would go, and is not replaced",
            where=str(target),
            hint="Remove it, or choose another folder, --name or --publisher.",
        )

    def tune(config: GenaiConfig) -> Mapping[str, Any]:
        return genai_config.with_threads(config.document, threads)

    with laid_out(prepared, target, tune) as laid:
        pass
    return replace(laid, folder=target)


def link_with_threads(config: GenaiConfig, target: Path, threads: int) -> None:
    """Makes `target` a package's folder but for the threads, by links. Raises OSError where they cannot be had."""
    target.mkdir()
    for source in config.folder.absolute().iterdir():
        if source.is_file() and source.name != genai_config.FILE_NAME:
            (target / source.name).symlink_to(source)
    write_object(target / genai_config.FILE_NAME, genai_config.with_threads(config.document, threads))


def remove(folder: Path) -> None:
    """Deletes a folder that was laid out, and its parents where nothing else is in them."""
    shutil.rmtree(folder, ignore_errors=True)
    remove_empty(folder.parent)


def remove_empty(folder: Path) -> None:
    """Deletes the folders of a name and of a publisher where they are empty."""
    for parent in (folder, folder.parent):
        try:
            parent.rmdir()
        except OSError:
            return


def _bring(prepared: Prepared, target: Path, tune: Callable[[GenaiConfig], Mapping[str, Any]] | None) -> Laid:
    linked = copied = 0
    for name in _files(prepared):
        source = prepared.folder / name
        _require_readable(source, prepared.folder)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        # Small files are copied: what is edited here must not change there.
        if ".onnx" in source.name and _link(source, target / name):
            linked += source.stat().st_size
        else:
            copied += bring(source, target / name, folder=prepared.folder).size_bytes
    config = prepared.config
    write_object(target / genai_config.FILE_NAME, tune(config) if tune else config.document)
    write_object(
        target / inference_model.FILE_NAME,
        inference_model.document(prepared.id, prepared.parts),
    )
    if prepared.package is not None:
        _write_manifest(target, prepared.package.manifest)
    return Laid(target, linked, copied)


def _files(prepared: Prepared) -> list[str]:
    """What is brought: the files that the manifest lists, and no others; of another tool's folder, all in it."""
    if prepared.package is not None:
        names = list(prepared.package.manifest.files)
    else:
        names = [path.name for path in prepared.folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    return sorted(name for name in names if name not in (*_WRITTEN, MANIFEST_NAME))


def _require_readable(source: Path, folder: Path) -> None:
    try:
        foreign.require_readable(source, folder=folder)
    except OSError as error:
        raise PackageDamaged(
            f"{source.relative_to(folder)} cannot be read: {error}", where=str(folder), hint=DAMAGED_HINT
        ) from error


def _write_manifest(target: Path, manifest: Manifest) -> None:
    """The package's manifest, with the files that differ here: what is laid out can be verified like a package."""
    changed = {name: digest_file(target / name) for name in _WRITTEN}
    manifests.write(target, manifest.model_copy(update={"files": manifest.files | changed}))


def is_copy(laid: Manifest, manifest: Manifest) -> bool:
    """Whether this is the manifest of a folder that was laid out from the package of that one."""
    changed = {name: laid.files[name] for name in _WRITTEN if name in laid.files}
    return laid == manifest.model_copy(update={"files": manifest.files | changed})


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without
        return False
    return True
