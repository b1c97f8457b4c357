"""What the release gate said of a package, kept beside it: an in-toto Statement of each verdict that still counts.

<cache>/<name>/v3.attestation.jsonl beside the folder <cache>/<name>/v3, a statement a line. Each is bound to that
package by the digest of its manifest, so that an altered package has none. A verdict may be of some checks alone, so
what counts is what was said last of each check. A statement is never written anew in other words: a copy of the package
brings the same bytes along, which a signature can be made over.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeship.package import names
from edgeship.package.manifest import Package
from edgeship.system import foreign
from edgeship.system.storage import write_file

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:edgeship:verdict:1"
"""The type of the predicate: the verdict as `edgeship validate --json` prints it."""
SUFFIX = ".attestation.jsonl"

Outcome = Literal["pass", "fail", "undecided"]
CheckOutcome = Literal["pass", "fail", "undecided", "skipped"]
_EFFORTS = ("quick", "default", "long")
_FORCED = "failed, forced"


class _Bound(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    value: float | None
    """None where a gate file says that it has no end, for which JSON has no number."""
    default: float | None

    @property
    def in_words(self) -> str:
        value, default = ("inf" if each is None else f"{each:g}" for each in (self.value, self.default))
        return f"{self.name} {value} instead of {default}"


class _Check(BaseModel):
    model_config = ConfigDict(frozen=True)

    outcome: CheckOutcome
    bounds: tuple[_Bound, ...] = ()
    why: str | None = None

    @property
    def changed(self) -> tuple[str, ...]:
        return tuple(one.in_words for one in self.bounds if one.value != one.default)


class _Verdict(BaseModel):
    """As much of a verdict as is shown where packages are listed."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    created: str
    effort: Literal["quick", "default", "long"] = "default"
    only: tuple[str, ...] = ()
    off: dict[str, str] = {}
    checks: dict[str, _Check]

    def outcome_of(self, check: str) -> CheckOutcome:
        return self.checks[check].outcome if check in self.checks else "skipped"

    def said_of(self, check: str) -> Said:
        """What it says of a check."""
        found = self.checks.get(check, _Check(outcome="skipped"))
        return Said(found.outcome, self.effort, self.created, found.changed, found.why if found.changed else None)

    def turns_off(self, check: str) -> bool:
        """Whether the gate file says that it is not wanted, where it would have been made."""
        return check in self.off and (not self.only or check in self.only)


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
class _Kept:
    """A statement as it stands in the file, and what was read of it."""

    line: bytes
    verdict: _Verdict = field(compare=False)


@dataclass(frozen=True)
class Said:
    """What counts of a check: what it came to, how closely it looked, and when (UTC).

    changed: its bounds that were not the defaults, in words. why: of these, in the words of the gate file.
    """

    outcome: CheckOutcome
    effort: str
    created: str
    changed: tuple[str, ...] = ()
    why: str | None = None


@dataclass(frozen=True)
class Attestation:
    """What the release gate said of a package, in one verdict or several.

    checks: what counts of each. only: those that were asked for, where all never were. off: those that a gate file
    turns off, with the reasons. created: when the last verdict was given (UTC).
    """

    checks: Mapping[str, Said]
    only: tuple[str, ...]
    off: Mapping[str, str]
    created: str
    kept: tuple[_Kept, ...] = field(repr=False)

    @property
    def outcome(self) -> Outcome:
        """The worst of its checks."""
        found = {said.outcome for said in self.checks.values()}
        if "fail" in found:
            return "fail"
        return "pass" if "pass" in found and "undecided" not in found else "undecided"

    @property
    def in_part(self) -> bool:
        """Whether somebody had checks left out, so that it is no verdict of the whole gate."""
        return bool(self.only or self.off)

    @property
    def effort(self) -> str:
        """How closely the checks looked that were made, in a word, or in several where they differ."""
        found = {said.effort for said in self.checks.values() if said.outcome != "skipped"}
        return " and ".join(effort for effort in _EFFORTS if effort in found)

    @property
    def content(self) -> bytes:
        """The bytes of its file."""
        return b"".join(kept.line + b"\n" for kept in self.kept)

    def of(self, outcome: CheckOutcome, *, besides: Container[str] = ()) -> tuple[str, ...]:
        """The checks that came to this, each with how closely it looked and when. besides: but for these."""
        return tuple(
            f"{name} ({said.effort} effort, {said.created})"
            for name, said in self.checks.items()
            if said.outcome == outcome and name not in besides
        )

    def in_words(self, *, forced: bool = False) -> str:
        """As lists show it. forced: the package was installed all the same."""
        if self.outcome == "fail":
            return _FORCED if forced else "fail"
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
    line = json.dumps(statement, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return _laid_over([_parse(line, digest)])


def together(attestations: Iterable[Attestation]) -> Attestation | None:
    """What all of them say of one package; None of none. Of two verdicts of one time the later given counts."""
    kept = dict.fromkeys(kept for attestation in attestations for kept in attestation.kept)
    return _laid_over(sorted(kept, key=lambda one: one.verdict.created)) if kept else None


def marked(name: str, gate: str | None) -> str:
    """A package's name where there is no column for the gate: it says so where the gate found the package unfit.

    gate: what it said, in the words of `Attestation.in_words`.
    """
    return f"{name} (release gate: {gate})" if gate in ("fail", _FORCED) else name


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
        lines = foreign.read_bytes(path_of(package.folder)).removesuffix(b"\n").split(b"\n")
        return _laid_over([_parse(line, package.digest) for line in lines]), None
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


def _parse(line: bytes, digest: str) -> _Kept:
    """Raises ValidationError where it is no statement of a verdict, _OfAnother."""
    statement = _Statement.model_validate_json(line)
    if statement.subject[0].digest.get("sha256") != digest:
        raise _OfAnother
    return _Kept(line, statement.predicate)


def _laid_over(statements: Sequence[_Kept]) -> Attestation:
    """What counts of them, the oldest first; those of which nothing counts any more are left out."""
    counts: dict[str, _Kept] = {}
    for one in statements:
        for check in (*one.verdict.checks, *one.verdict.off):
            if check not in counts or _goes_before(one.verdict, counts[check].verdict, check):
                counts[check] = one
    whole = [one for one in statements if not one.verdict.only][-1:]
    found = [(check, one.verdict) for check, one in counts.items()]
    return Attestation(
        checks={check: of.said_of(check) for check, of in found},
        only=() if whole else tuple(dict.fromkeys(name for one in statements for name in one.verdict.only)),
        off={check: of.off[check] for check, of in found if of.turns_off(check) and of.outcome_of(check) == "skipped"},
        created=max(one.verdict.created for one in statements),
        kept=tuple(one for one in statements if one in whole or one in counts.values()),
    )


def _goes_before(later: _Verdict, earlier: _Verdict, check: str) -> bool:
    """Whether what a later verdict says of a check counts, instead of what an earlier one says.

    What it did not look at says nothing, but where its gate file turns that off; and what looked less closely only
    where it fails.
    """
    if later.turns_off(check):
        return True
    if later.outcome_of(check) == "skipped":
        return earlier.outcome_of(check) == "skipped" and not earlier.turns_off(check)
    looked = earlier.outcome_of(check) != "skipped"
    as_closely = _EFFORTS.index(later.effort) >= _EFFORTS.index(earlier.effort)
    return not looked or as_closely or later.outcome_of(check) == "fail"


def _has_one(folder: Path) -> bool:
    """Beside any other folder, a file of that name would be somebody else's."""
    return names.version_of(folder.name) is not None
