"""What the release gate said of a package, kept beside it: an in-toto Statement of the whole verdict.

<cache>/<name>/v3.attestation.json beside the folder <cache>/<name>/v3, bound to that package by the digest of its
manifest, so that an altered package has none. The last verdict counts. What is written is never written anew in other
words: a copy of the package brings the same bytes along, which a signature can be made over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeship.package import names
from edgeship.package.manifest import Package
from edgeship.system import foreign
from edgeship.system.json_file import as_text
from edgeship.system.storage import write_file

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:edgeship:verdict:1"
"""The type of the predicate: the verdict as `edgeship validate --json` prints it."""
SUFFIX = ".attestation.json"

Outcome = Literal["pass", "fail", "undecided"]


class _Check(BaseModel):
    model_config = ConfigDict(frozen=True)

    outcome: Literal["pass", "fail", "undecided", "skipped"]


class _Verdict(BaseModel):
    """As much of a verdict as is shown where packages are listed."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    created: str
    effort: str = "default"
    only: tuple[str, ...] = ()
    off: dict[str, str] = {}
    checks: dict[str, _Check]


class _Subject(BaseModel):
    model_config = ConfigDict(frozen=True)

    digest: dict[str, str]


class _Statement(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[_Subject, ...], Field(min_length=1, max_length=1)]
    predicate_type: Literal["urn:edgeship:verdict:1"] = Field(alias="predicateType")
    predicate: _Verdict


@dataclass(frozen=True)
class Attestation:
    """A verdict that was kept.

    created: when it was given (UTC). effort: how long the gate looked. checks: what each came to.
    only: the checks that were asked for, where not all were. off: those that were turned off, with the reasons.
    content: the bytes of its file.
    """

    outcome: Outcome
    created: str
    effort: str
    checks: Mapping[str, str]
    only: tuple[str, ...]
    off: Mapping[str, str]
    content: bytes = field(repr=False)

    @property
    def in_part(self) -> bool:
        """Whether somebody had checks left out, so that it is no verdict of the whole gate."""
        return bool(self.only or self.off)

    def in_words(self, *, forced: bool = False) -> str:
        """As lists show it. forced: the package was installed all the same."""
        if self.outcome == "fail":
            return "failed, forced" if forced else "fail"
        return f"{self.outcome}, in part" if self.in_part else self.outcome


def of_verdict(name: str, digest: str, verdict: Mapping[str, Any]) -> Attestation | None:
    """The attestation of a verdict, as `validate.document.verdict_document` makes it; None where nothing was looked at.

    name, digest: of the package.
    """
    if all(check["outcome"] == "skipped" for check in verdict["checks"].values()):
        return None
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}}],
        "predicateType": PREDICATE,
        "predicate": dict(verdict),
    }
    return _parse(as_text(statement).encode(), digest)


def write(folder: Path, attestation: Attestation) -> None:
    """Keeps it for the package in `folder`, where that is the folder of a version: only these have one."""
    if _has_one(folder):
        write_file(path_of(folder), attestation.content)


def remove(folder: Path) -> None:
    """Deletes what is kept for the package in `folder`."""
    if _has_one(folder):
        path_of(folder).unlink(missing_ok=True)


def read(package: Package) -> tuple[Attestation | None, str | None]:
    """What is kept for the package, and what is to be said where it cannot be used."""
    if not _has_one(package.folder):
        return None, None
    try:
        return _parse(foreign.read_bytes(path_of(package.folder)), package.digest), None
    except FileNotFoundError:
        return None, None
    except _OfAnother:
        return None, "its attestation is of another package and is ignored"
    except (OSError, ValidationError):
        return None, "its attestation cannot be read and is ignored"


def path_of(folder: Path) -> Path:
    """Where the attestation of the package in `folder` lies."""
    return folder.with_name(f"{folder.name}{SUFFIX}")


class _OfAnother(Exception):
    """It names another digest."""


def _parse(content: bytes, digest: str) -> Attestation:
    """Raises ValidationError where it is no statement of a verdict, _OfAnother."""
    statement = _Statement.model_validate_json(content)
    if statement.subject[0].digest.get("sha256") != digest:
        raise _OfAnother
    found = statement.predicate
    checks = {name: check.outcome for name, check in found.checks.items()}
    return Attestation(found.outcome, found.created, found.effort, checks, found.only, found.off, content)


def _has_one(folder: Path) -> bool:
    """Beside any other folder, a file of that name would be somebody else's."""
    return names.version_of(folder.name) is not None
