"""Whether Foundry Local works here, and what is wrong with what is registered in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeship.doctor import (
    FOUNDRY_RUNTIME,
    FOUNDRY_SDK,
    TESTED,
    Check,
    Examination,
    Versions,
    check_disk,
    installed_version,
)
from edgeship.errors import EdgeshipError
from edgeship.foundry import command, layout
from edgeship.foundry.catalog import App, fault, registrations, remedy
from edgeship.foundry.checks import PROVIDER_WORDS
from edgeship.foundry.sdk import INDEX_NAME, Local, Registration
from edgeship.package import DAMAGED, genai_config, template, tokenizer
from edgeship.system.shell import our_install
from edgeship.system.storage import TemporaryFolder


def examine(app: App, *, cores: int, versions: Versions = installed_version) -> Examination:
    """Looks at the SDK, the application's catalog and each model in it. cores: that this machine has for a model."""
    checks = [check_versions(versions), *check_disk({"Foundry Local": app.cache_dir})]
    if checks[0].status != "failed":
        checks += [check_opens(), *check_catalog(app, cores)]
    path = command.where()
    checks.append(Check("foundry command", "ok", path or "not installed (optional; Foundry Local 2 needs none)"))
    checks.append(Check("telemetry", "ok", "off: the SDK runs as in continuous integration, so that it sends nothing"))
    return Examination(tuple(checks))


def check_opens() -> Check:
    """Whether the library loads and starts, with a catalog of its own."""
    try:
        with TemporaryFolder("edgeship-foundry") as folder, Local(Path(folder)):
            return Check("library", "ok", "loads and starts")
    except EdgeshipError as error:
        return Check("library", "failed", error.what, error.hint)


def check_catalog(app: App, cores: int) -> list[Check]:
    """The application's catalog, and each model in it."""
    try:
        found = registrations(app)
    except EdgeshipError as error:
        index = app.cache_dir / INDEX_NAME
        return [Check("catalog", "failed", error.what, f"Remove {index}, then register what was in it again.")]
    count = f"{len(found)} model{'' if len(found) == 1 else 's'}"
    models = [check_model(each, cores) for each in found]
    where = Check("catalog", "ok", f"{count} for {app.name} in {app.cache_dir}")
    return [where, *models, *check_orphans(app.cache_dir, found)]


def check_versions(versions: Versions) -> Check:
    """Whether the SDK is there, and the one runtime that it works with."""
    sdk, runtime = versions(FOUNDRY_SDK), versions("onnxruntime")
    if sdk is None:
        return Check("SDK", "failed", f"{FOUNDRY_SDK} is not installed", our_install("foundry"))
    detail = f"{FOUNDRY_SDK} {sdk}, onnxruntime {runtime or 'not installed'}"
    if runtime != FOUNDRY_RUNTIME:
        return Check("SDK", "failed", f"{detail}; it works with {FOUNDRY_RUNTIME} alone", our_install("foundry"))
    if sdk != TESTED[FOUNDRY_SDK]:
        return Check(
            "SDK", "warning", f"{detail}; Edgeship is tested with {TESTED[FOUNDRY_SDK]}", our_install("foundry")
        )
    return Check("SDK", "ok", detail)


def check_model(model: Registration, cores: int) -> Check:
    """A registered model: its folder, its name, its template, its threads."""
    again = f"Register the package again: `edgeship foundry register {model.id}`."
    gone = fault(model)
    if gone:
        return Check(model.id, "failed", gone, remedy(model))
    assert model.folder
    words = [word for word in PROVIDER_WORDS if word in model.name]
    if words:
        return Check(
            model.id,
            "warning",
            f"{words[0]!r} in its name makes Foundry Local run it on another provider than the CPU",
            "Register it under another name (--name), and take this one out.",
        )
    try:
        config = tokenizer.read(model.folder, DAMAGED).config
        chat_template = template.find(model.folder, config, named=False)
        threads = genai_config.read(model.folder, DAMAGED).threads
    except EdgeshipError as error:
        return Check(model.id, "failed", error.what, again)
    if chat_template is None:
        return Check(model.id, "failed", "it has no chat template, so every request fails", again)
    if threads is None:
        what = f"its threads are left to onnxruntime, which may use fewer than the {cores} cores that are there"
        return Check(model.id, "warning", what, again)
    if threads > cores:
        what = f"it runs with {threads} threads on {cores} cores, which is slower than with {cores}"
        return Check(model.id, "warning", what, again)
    # Fewer may be what `tune` found or the user wants.
    return Check(model.id, "ok", f"{threads} threads on {cores} cores, {model.folder}")


def check_orphans(cache_dir: Path, found: Sequence[Registration]) -> list[Check]:
    """Folders that were laid out and are in no catalog: a registration was cut short, or taken out by another tool."""
    known = {each.folder.resolve() for each in found if each.folder is not None}
    laid = sorted((cache_dir / layout.PUBLISHER).glob("*/v*"))
    return [
        Check("not registered", "warning", str(folder), "Delete it, or register its package again.")
        for folder in laid
        if folder.resolve() not in known
    ]
