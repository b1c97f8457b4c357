"""What a text means where something that answers is wanted: a package, a folder, Foundry Local, a server.

docs/targets.md says the same to users. Every command that takes a target asks here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeship.engine import address
from edgeship.engine.api import DEFAULT_LIMITS, Chat, Limits, check_settings
from edgeship.engine.isolated import IsolatedChat, IsolatedEngine
from edgeship.engine.opening import AUTO, load_chat
from edgeship.engine.remote import RemoteChat
from edgeship.errors import PackageNotFound, UsageError
from edgeship.package import genai_config
from edgeship.package.kinds import what_else
from edgeship.package.names import parse_ref
from edgeship.settings import Settings
from edgeship.store import listing

Kind = Literal["package", "folder", "foundry", "url"]

FOUNDRY = "foundry:"
"""What stands before the name of a model of Foundry Local."""
_VERSION = re.compile(r"v?[0-9]+")
# Two letters at least, since one is a drive of Windows; "http:/host" is meant as an address too.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# HOST:PORT reads like NAME:VERSION; no version has four digits in practice.
_ADDRESS = re.compile(r"(localhost(:[0-9]+)?|[A-Za-z0-9.-]+:[0-9]{4,5})(/.*)?")


@dataclass(frozen=True)
class Target:
    """Something that answers.

    name: by kind, a package as name or name:version, a folder, a model of Foundry Local as name or name:version, or
    the URL of an API like OpenAI's.
    """

    kind: Kind
    name: str
    settings: Settings

    def open(
        self,
        *,
        limits: Limits = DEFAULT_LIMITS,
        model: str | None = None,
        api_key: str | None = None,
        slots: int | None = None,
        strict: bool = False,
    ) -> Chat:
        """What answers, with the settings' threads, or what `edgeship tune` found best here.

        model, api_key: for a URL, which of its models is meant, and the key that it wants.
        slots: of a package, where the limits leave them open; see `engine.opening.load`.
        strict: whether an answer of a server's by another model than the one that is asked is an error.
        Raises PackageNotFound, UsageError, and what `engine.opening.load_chat` raises; for Foundry Local also
        RegistrationNotFound, FoundryFailed, DependencyMissing; for a URL RemoteFailed.
        """
        check_settings(limits=limits)
        if self.kind != "url" and (model is not None or api_key is not None):
            raise UsageError("only a server has a choice of models, and a key", where=self.name, hint="Leave them out.")
        if self.kind == "url":
            return RemoteChat(self.name, model, api_key, strict=strict)
        if self.kind == "foundry":
            folder, engine = self.registered_folder(), "foundry"
        else:
            folder, engine = self.package_folder(), AUTO
        here = self.settings
        return load_chat(
            folder,
            engine=engine,
            threads=here.threads,
            limits=limits,
            home=here.home,
            memory_bytes=here.memory_bytes,
            slots=slots,
        )

    def open_apart(self, limits: Limits = DEFAULT_LIMITS) -> IsolatedChat:
        """A package or a model of Foundry Local in a process of its own: what that holds and uses is the model's alone.

        Raises PackageNotFound for a server, and what `open` raises.
        """
        here = self.settings
        if self.kind == "foundry":
            return IsolatedChat(self.registered_folder(), engine="foundry", threads=here.threads, limits=limits)
        return IsolatedEngine(self.package_folder(), threads=here.threads, limits=limits, home=here.home)

    def package_folder(self) -> Path:
        """The folder of a package. Raises PackageNotFound where the target is none, or is not there."""
        if self.kind == "folder":
            return Path(self.name)
        if self.kind == "package":
            return self._installed_folder()
        what = "a model of Foundry Local" if self.kind == "foundry" else "the address of a server"
        raise PackageNotFound(
            f"that is {what}, and a package is wanted here",
            where=self.name,
            hint="`edgeship cache ls` lists the packages.",
        )

    def _installed_folder(self) -> Path:
        try:
            return listing.find(self.settings.cache_dir, self.name).folder
        except PackageNotFound as error:
            hint = f"{error.hint or ''}{_address_hint(self.name)}"
            if other := what_else(Path(self.name)):
                hint = f"Of the path {self.name}: {other[0]}. {other[1]}"
            raise PackageNotFound(error.what, where=error.where, hint=hint) from error

    def registered_folder(self) -> Path:
        """The folder of a model of Foundry Local. Raises RegistrationNotFound, FoundryFailed, DependencyMissing."""
        from edgeship.foundry.catalog import App, find

        folder = find(App(self.settings.foundry_app, self.settings.foundry_cache_dir), self.name).folder
        assert folder, "what has no folder is not found"
        return folder


def resolve(text: str | Path, settings: Settings) -> Target:
    """What a text means; a Path is always a folder. Whether a package or a model is there shows when it is opened.

    Raises NameInvalid, PackageNotFound for a folder that is no package, and UsageError for a faulty URL.
    """
    if isinstance(text, str) and _SCHEME.match(text):
        return Target("url", address.read(text), settings)
    if isinstance(text, Path) or _missing_at(text) is None:
        return Target("folder", str(_package_at(text)), settings)
    model = _foundry_model(text)
    if model is not None:
        return Target("foundry", model, settings)
    if _is_path(text):
        return Target("folder", str(_package_at(text)), settings)
    parse_ref(text)
    return Target("package", text, settings)


def foundry(text: str, settings: Settings) -> Target:
    """The model of Foundry Local that a text means where only those can be meant, so that "foundry:" can be left out.

    Raises NameInvalid.
    """
    return Target("foundry", _foundry_model(text) or text, settings)


def _foundry_model(text: str) -> str | None:
    model = text.removeprefix(FOUNDRY)
    # A package may be called "foundry", and "foundry:1" is its first version.
    if model == text or _VERSION.fullmatch(model):
        return None
    parse_ref(model)
    return model


def _is_path(text: str) -> bool:
    # A backslash on every system: "C:\\models\\x" is no package with an odd version.
    return "/" in text or "\\" in text or text in (".", "..")


def _package_at(path: str | Path) -> Path:
    missing = _missing_at(path)
    if missing is None:
        return Path(path)
    listed = f"`edgeship cache ls` lists what is installed.{_address_hint(str(path))}"
    what, hint = what_else(Path(path)) or (missing, listed)
    raise PackageNotFound(f"no package lies there: {what}", where=str(path), hint=hint)


def _missing_at(path: str | Path) -> str | None:
    """What keeps a path from being a package's folder; None where nothing does."""
    folder = Path(path)
    # What is too long for a path cannot be looked at.
    with suppress(OSError, ValueError):
        if path and (folder / genai_config.FILE_NAME).is_file():
            return None
        if folder.is_dir():
            return f"{genai_config.FILE_NAME} is missing"
        if folder.is_file():
            return "it is a file, and a package is a folder"
    return "there is no such folder"


def _address_hint(text: str) -> str:
    return f" The address of a server begins with http://: http://{text}" if _ADDRESS.fullmatch(text) else ""
