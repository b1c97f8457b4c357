"""How commands name a package."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeship.engine.opening import AUTO
from edgeship.errors import PackageNotFound
from edgeship.package import genai_config
from edgeship.settings import Settings
from edgeship.store import packages

FOUNDRY = "foundry:"
"""What stands before the name of a model of Foundry Local."""


@dataclass(frozen=True)
class Runnable:
    """A package's folder, and the engine that is to run it."""

    folder: Path
    engine: str = AUTO


def runnable(name: str, current: Settings) -> Runnable:
    """What a name means: a package, or with "foundry:" before it, what is registered in Foundry Local, run there.

    Raises NameInvalid, PackageNotFound; for Foundry Local RegistrationNotFound, FoundryFailed, DependencyMissing.
    """
    model = foundry_model(name)
    if model is None:
        return Runnable(package_folder(name, current.cache_dir))
    from edgeship.foundry.catalog import App, find

    folder = find(App(current.foundry_app, current.foundry_cache_dir), model).folder
    assert folder, "what has no folder is not found"
    return Runnable(folder, "foundry")


def foundry_model(name: str) -> str | None:
    """The model of Foundry Local that a name means; None where it means a package."""
    model = name.removeprefix(FOUNDRY)
    # A package may be called "foundry", and "foundry:1" is its first version.
    return None if model == name or re.fullmatch(r"v?[0-9]+", model) else model


def package_folder(name: str, cache_dir: Path) -> Path:
    """A package's folder: a path that holds one, or a name in the cache. Raises NameInvalid, PackageNotFound."""
    path = Path(name)
    if (path / genai_config.FILE_NAME).is_file():
        return path
    if path.name != name:  # a path, which no name in the cache is
        missing = f"{genai_config.FILE_NAME} is missing" if path.is_dir() else "there is no such folder"
        raise PackageNotFound(
            f"no package lies there: {missing}",
            where=name,
            hint="`edgeship cache ls` lists what is installed.",
        )
    if foundry_model(name):
        raise PackageNotFound(
            "that is a model of Foundry Local, and a package is wanted here",
            where=name,
            hint="`edgeship cache ls` lists the packages.",
        )
    return packages.find(cache_dir, name).folder
