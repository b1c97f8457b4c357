"""Names and versions of packages: what one may be called, and what a reference means."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from edgeship.errors import NameInvalid
from edgeship.system.fields import shown
from edgeship.system.text import alike

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
_Item = TypeVar("_Item", bound="Versioned")
_VERSION = re.compile(r"v([1-9][0-9]{0,8})", re.ASCII)
# What folders are called that hold a model of whatever name.
_PLAIN = frozenset({"build", "cpu", "dist", "model", "onnx", "out", "output", "package"})
_WINDOWS_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def is_name(name: str) -> bool:
    """Whether it can be a folder and a Foundry Local model on every system."""
    return bool(_NAME.fullmatch(name)) and ".." not in name and not _WINDOWS_DEVICES.fullmatch(name)


def check_name(name: str) -> str:
    """The name, if it can be one (see `is_name`). Raises NameInvalid."""
    if not is_name(name):
        raise NameInvalid(
            f"{shown(name)} cannot be a package name",
            hint="Use letters, digits, '.', '_' and '-', starting with a letter or digit; no '..', '/' or spaces.",
        )
    return name


def parse_ref(text: str) -> tuple[str, int | None]:
    """'name' or 'name:version' as its two parts. Raises NameInvalid."""
    name, colon, version = text.partition(":")
    check_name(name)
    if not colon:
        return name, None
    number = version.removeprefix("v")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", number, re.ASCII):
        raise NameInvalid(f"{version!r} is no version", where=text, hint="Versions are whole numbers: name:1.")
    return name, int(number)


def version_of(folder: str) -> int | None:
    """The version that a folder's name states, as v3 does; None where it states none."""
    match = _VERSION.fullmatch(folder)
    return int(match[1]) if match else None


def of_folder(folder: Path) -> tuple[str, int | None]:
    """What a package is called by where it lies: NAME, NAME/v3, or NAME/onnx and its like; it may be no valid name."""
    path = Path(os.path.abspath(folder))  # noqa: PTH100 - "." has no name, and links are called as the user calls them
    version = version_of(path.name)
    path = path if version is None else path.parent
    while path.name.lower() in _PLAIN and path.parent.name:
        path = path.parent
    return path.name, version


class Versioned(Protocol):
    """What has a name and a version."""

    @property
    def name(self) -> str:
        """See parse_ref."""

    @property
    def version(self) -> int:
        """See parse_ref."""


def select(known: Sequence[_Item], ref: str) -> tuple[list[_Item], str]:
    """What `ref` means among `known`, all versions of a name alone; where that is nothing, a hint at what there is.

    Raises NameInvalid.
    """
    name, version = parse_ref(ref)
    named = [item for item in known if item.name == name]
    chosen = [item for item in named if version in (None, item.version)]
    if named:
        return chosen, f"There is {', '.join(f'{item.name}:{item.version}' for item in named)}. "
    close = alike(name, sorted({item.name for item in known}))
    return [], f"Did you mean {' or '.join(close)}? " if close else ""
