"""Measurements that are kept as JSON: the head of each, and how one is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from edgeship.errors import DocumentInvalid
from edgeship.package.manifest import now
from edgeship.system.fields import Fields, shown
from edgeship.system.json_file import Complaint, fields_of, read_object
from edgeship.system.machine import this_machine
from edgeship.version import __version__

Kind = Literal["bench", "bench-pair", "eval", "fidelity", "verdict"]
VERSION = 1
"""Of all kinds; a document of a later one may hold what this version cannot read."""


def schema(kind: Kind) -> str:
    """What a document of this kind says of itself under "schema"."""
    return f"edgeship/{kind}/{VERSION}"


def head(kind: Kind, memory_limit_bytes: int | None = None) -> dict[str, Any]:
    """The first fields of a document: schema, edgeship (the version), created (UTC), machine."""
    return {
        "schema": schema(kind),
        "edgeship": __version__,
        "created": now(),
        "machine": asdict(this_machine(memory_limit_bytes)),
    }


SHIP = "ship"
"""The kind of a report of `edgeship ship`, whose head is older than the others'."""
_NAME = re.compile(r"edgeship/([a-z-]+)/([0-9]{1,9})")
_WHERE_FROM = "Name what `bench`, `eval`, `compare`, `validate` or `ship` wrote: their --json output, or report.json."
_COMPLAINT = Complaint(DocumentInvalid, _WHERE_FROM)
_MOST_BYTES = 1 << 27
"""With every record of a long run; values take many times as much memory as their text."""


@dataclass(frozen=True)
class Document:
    """A measurement that was read. kind: SHIP, or as its schema says. fields: all that it holds."""

    path: Path
    kind: str
    fields: Fields

    @property
    def created(self) -> str:
        """When it was measured (UTC); empty where it does not say."""
        return self.fields.text("created") or ""

    @property
    def name(self) -> str:
        """What it is called beside others: its file's name, or its folder's where that says more."""
        return self.path.parent.name if self.path.name == "report.json" else self.path.stem


def read(path: Path) -> Document:
    """The document in a file, or of the report in a folder.

    Raises DocumentInvalid for what is no JSON object, of no kind that is known, or of a later version.
    """
    file = path / "report.json" if path.is_dir() else path
    document = read_object(file, _COMPLAINT, named=True, most_bytes=_MOST_BYTES)
    kind, version = _schema(document, file)
    if version > VERSION:
        raise DocumentInvalid(
            f"{file.name} is of version {version} of its kind ({kind}), and this Edgeship reads up to {VERSION}",
            where=str(file),
            hint="Read it with the version that wrote it, or a later one: `pip install --upgrade edgeship`.",
        )
    return Document(file, kind, fields_of(document, file, _COMPLAINT))


def _schema(document: Mapping[str, Any], file: Path) -> tuple[str, int]:
    """The kind and version of a document."""
    version = document.get("schema_version")
    if "schema" not in document and type(version) is int and "candidates" in document:
        return SHIP, version
    stated = document.get("schema")
    found = _NAME.fullmatch(stated) if isinstance(stated, str) else None
    if found is None or found[1] not in get_args(Kind):
        said = f"says of itself that it is {shown(stated)}" if stated is not None else 'has no "schema"'
        said = "holds the error of a command that failed" if isinstance(document.get("error"), dict) else said
        known = ", ".join(f"edgeship/{kind}/{VERSION}" for kind in get_args(Kind))
        raise _COMPLAINT.about(file, f"is no measurement that can be shown: it {said}, and known are {known}")
    return found[1], int(found[2])
