"""The gate file: which checks are made, and what each holds its figures to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship.errors import GateInvalid
from edgeship.system import toml_file
from edgeship.system.fields import Fields, shown
from edgeship.validate.bounds import Bounds, bounds_of
from edgeship.validate.check import Check
from edgeship.validate.verdict import CheckName

FORMAT = 1
_HINT = "`edgeship validate --write-gate FILE` writes one with every bound and what it means."


@dataclass(frozen=True)
class Gate:
    """bounds: those that are not the defaults. off: why checks are not made, in the words of who turned them off."""

    bounds: Mapping[CheckName, Bounds] = field(default_factory=dict)
    off: Mapping[CheckName, str] = field(default_factory=dict)

    def of(self, check: Check) -> Bounds:
        """What a check holds its figures to."""
        return self.bounds.get(check.name) or check.bounds()


def read_gate(path: Path, checks: Sequence[Check]) -> Gate:
    """The gate of a file. Raises GateInvalid for what it cannot say, naming the field."""
    try:
        table = toml_file.read_table(path)
    except (OSError, ValueError) as error:
        raise GateInvalid(f"the gate cannot be read: {error}", where=str(path), hint=_HINT) from error

    def refuse(what: str) -> GateInvalid:
        return GateInvalid(f"the gate {what}", where=str(path), hint=_HINT)

    whole = Fields(table, refuse)
    if whole.required_count("format") != FORMAT:
        raise whole.wrong("format", table["format"], f"{FORMAT}, the format that this Edgeship reads")
    known = {check.name: check for check in checks}
    _require_known(whole, {"format", *known}, "there is no such check")
    bounds: dict[CheckName, Bounds] = {}
    off: dict[CheckName, str] = {}
    for name, check in known.items():
        part = whole.part(name)
        _require_known(part, {"off", *(one.name for one in bounds_of(check.bounds))}, "it has no such bound")
        bounds[name] = check.bounds(
            **{one.name: found for one in bounds_of(check.bounds) if (found := _value(part, one)) is not None}
        )
        if (reason := part.text("off")) is not None:
            if not reason.strip():
                raise part.wrong("off", reason, "the reason why it is turned off")
            off[name] = reason
    return Gate(bounds, off)


def _value(part: Fields, one: Any) -> float | None:
    least, most = one.metadata["least"], one.metadata["most"]
    if isinstance(one.default, int):
        return part.count(one.name, least=int(least), **({} if most == float("inf") else {"most": int(most)}))
    return part.number(one.name, least=least, most=None if most == float("inf") else most)


def _require_known(part: Fields, known: set[str], what: str) -> None:
    for key in part.values:
        if key not in known:
            raise part.refuse(
                f"has {part.name}{key}, and {what}: known are {', '.join(sorted(known))}, not {shown(key)}"
            )
