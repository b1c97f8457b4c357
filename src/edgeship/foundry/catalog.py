"""Foundry Local's catalog of local models: what is in it, putting a package in, taking it out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edgeship.errors import EdgeshipError, FoundryFailed, RegistrationNotFound
from edgeship.foundry import config as provisions
from edgeship.foundry import layout
from edgeship.foundry.checks import Prepared, require_undamaged
from edgeship.foundry.config import Provision
from edgeship.foundry.proof import Proof, prove
from edgeship.foundry.sdk import INDEX_NAME, Local, Registration
from edgeship.package import genai_config, names
from edgeship.package import manifest as manifests
from edgeship.package.manifest import Manifest
from edgeship.progress import Progress, silent
from edgeship.system.storage import locked, require_writable

CHAT_TASKS = ("chat-completion", "coding")
"""Tasks of Foundry Local's catalog whose models answer conversations of text."""
_LOCK_WAIT_S = 600.0
_log = logging.getLogger("edgeship.foundry")
_ELSEWHERE = "name another with --foundry-cache-dir."


@dataclass(frozen=True)
class App:
    """An application that uses Foundry Local: its name, and its model cache, which holds its catalog."""

    name: str
    cache_dir: Path

    @property
    def has_catalog(self) -> bool:
        """Whether anything was ever registered; asked so that looking makes no folder."""
        return (self.cache_dir / INDEX_NAME).is_file()

    def open(self) -> Local:
        """The catalog. Raises DependencyMissing, FoundryFailed."""
        return Local(self.cache_dir, app=self.name)


@dataclass(frozen=True)
class Registered:
    """A package that is now a model of Foundry Local. new: False where the same was registered already."""

    id: str
    laid: layout.Laid
    provision: Provision
    new: bool
    proof: Proof
    notes: tuple[str, ...]


def registrations(app: App) -> list[Registration]:
    """Every model in the catalog; nothing is made where there is none yet. Raises as App.open does."""
    if not app.has_catalog:
        return []
    with app.open() as local:
        return local.registrations()


def fault(registration: Registration) -> str | None:
    """Why a model in the catalog cannot be run; None where nothing speaks against it."""
    folder = registration.folder
    if folder is None or not folder.is_dir():
        return f"its folder is gone{f': {folder}' if folder else ''}"
    if not (folder / genai_config.FILE_NAME).is_file():
        return f"its folder holds no {genai_config.FILE_NAME}"
    if not any(".onnx" in path.name for path in folder.iterdir()):
        return "its folder holds no ONNX model"
    if registration.task not in CHAT_TASKS:
        return f"its task is {registration.task}, and no chat"
    return None


def manifest_of(registration: Registration) -> Manifest | None:
    """The manifest in the folder of a model in the catalog; None where there is none that can be read."""
    try:
        return manifests.read(registration.folder).manifest if registration.folder else None
    except EdgeshipError:
        return None


def remedy(registration: Registration) -> str:
    """What to do about one that has a fault."""
    return f"Register it again, or take it out: `edgeship foundry unregister {registration.id}`."


def find(app: App, ref: str) -> Registration:
    """The model called name or name:version, the latest version by default.

    Raises RegistrationNotFound, NameInvalid, FoundryFailed where its folder is gone, and as App.open does.
    """
    found = max(_select(app, registrations(app), ref), key=lambda each: each.version)
    problem = fault(found)
    if problem:
        raise FoundryFailed(
            f"{found.id} cannot be run: {problem}",
            where=str(app.cache_dir),
            hint=remedy(found),
        )
    return found


def register(prepared: Prepared, app: App, provision: Provision, *, progress: Progress = silent) -> Registered:
    """Makes a checked package a model of Foundry Local: laid out for this machine, proven, and in the catalog.

    Where anything fails, nothing is registered and what was there stays.
    Raises PackageDamaged, EngineFailed where it does not answer, TemplateMismatch where Foundry Local reads another
    prompt, CacheBusy, and as App.open does.
    """
    target = layout.place(app.cache_dir, prepared.name, prepared.version)
    with _owned(app, progress), app.open() as local:
        before = _registered(local, prepared.id)
        progress("laying out", None)
        with layout.laid_out(prepared, target, partial(provisions.apply, provision=provision)) as laid:
            progress("proving that it answers", None)
            proof = _proven(prepared, laid.folder)
        progress("registering", None)
        local.register(target, prepared.id, *_facts(prepared, provision, laid))
        _require_registered(local, prepared, target)
    _log.info("%s is registered for %s, from %s", prepared.id, app.name, target)
    notes = provisions.notes(prepared, provision)
    if before is not None and before.folder != target:
        notes.insert(0, f"{prepared.id} was registered before, from {before.folder or 'a folder that is gone'}")
    return Registered(prepared.id, replace(laid, folder=target), provision, before is None, proof, tuple(notes))


def unregister(app: App, ref: str) -> list[Registration]:
    """Takes one version, or all of a name, out of the catalog; what was.

    Folders that `register` laid out are deleted, others stay. Raises RegistrationNotFound, NameInvalid, CacheBusy, and
    as App.open does.
    """
    if not app.has_catalog:
        _select(app, [], ref)
    with _owned(app, silent), app.open() as local:
        chosen = _select(app, local.registrations(), ref)
        for each in chosen:
            local.unregister(each.id)
            _log.info("%s is no longer registered for %s", each.id, app.name)
    for each in chosen:
        if each.folder == layout.place(app.cache_dir, each.name, each.version):
            layout.remove(each.folder)
    return chosen


def _proven(prepared: Prepared, folder: Path) -> Proof:
    """The proof of a package that is undamaged too: what takes longest of both is done side by side."""
    with ThreadPoolExecutor(1) as pool:
        undamaged = pool.submit(require_undamaged, prepared)
        try:
            return prove(folder, [each.messages for each in prepared.conversations])
        finally:
            undamaged.result()  # says more than what a damaged model fails with


@contextmanager
def _owned(app: App, progress: Progress) -> Iterator[None]:
    """Holds an application's catalog against other processes of ours."""
    require_writable(app.cache_dir, _ELSEWHERE)
    lock = app.cache_dir / f".{layout.PUBLISHER}.lock"
    with locked(lock, _LOCK_WAIT_S, progress, what=f"Foundry Local's catalog of {app.name}"):
        yield


def _select(app: App, known: list[Registration], ref: str) -> list[Registration]:
    chosen, hint = names.select(known, ref)
    if not chosen:
        raise RegistrationNotFound(
            f"no model called {ref!r} is registered for the application {app.name!r}",
            where=str(app.cache_dir),
            hint=f"{hint}`edgeship foundry ls` lists all.",
        )
    return chosen


def _facts(prepared: Prepared, provision: Provision, laid: layout.Laid) -> tuple[dict[str, str], dict[str, int]]:
    """Metadata for the catalog: texts and numbers."""
    texts = {"display_name": prepared.name, "publisher": layout.PUBLISHER}
    licence = prepared.package.manifest.checkpoint.get("licence") if prepared.package else None
    if licence:
        texts["license"] = str(licence)
    size = laid.linked_bytes + laid.copied_bytes
    return texts, {"filesize_mb": -(-size // 10**6), "context_length": provision.context_tokens}


def _registered(local: Local, model_id: str) -> Registration | None:
    return next((each for each in local.registrations() if each.id == model_id), None)


def _require_registered(local: Local, prepared: Prepared, target: Path) -> None:
    """That the catalog, read anew, has the model where it was put."""
    found = _registered(local, prepared.id)
    if found is None or found.folder is None or not found.folder.samefile(target):
        raise FoundryFailed(
            f"Foundry Local took {prepared.id} and does not list it",
            where=str(local.cache_dir),
            hint="See `edgeship foundry doctor`.",
        )
