"""The gate file: which checks are made, and what each holds its figures to. It is read here, and written."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any

from edgeship.errors import GateInvalid
from edgeship.system import toml_file
from edgeship.system.fields import Fields, shown
from edgeship.system.text import is_visible, meant
from edgeship.validate.bounds import Bounds, bounds_of, held
from edgeship.validate.check import Check
from edgeship.validate.verdict import CheckName
from edgeship.version import __version__

VERSION = 1
"""The version of the file's form. It is not called `format`, since that is the name of a check."""
REASONS: Mapping[str, str] = {
    "why": "Why bounds of the check are not the defaults; required where one is not.",
    "off": "Turns the check off, and says why.",
}
"""What a check's part may hold besides its bounds: texts that every verdict repeats."""
_HINT = "`edgeship validate --write-gate FILE` writes one with every bound and what it means."
_LARGEST = 2**63 - 1
_WIDTH = 100


@dataclass(frozen=True)
class Gate:
    """bounds: of the checks that the file speaks of. why, off: the reasons in it, see REASONS.

    left_out: by check, the names of bounds that the file does not set.
    """

    bounds: Mapping[CheckName, Bounds] = field(default_factory=dict)
    off: Mapping[CheckName, str] = field(default_factory=dict)
    why: Mapping[CheckName, str] = field(default_factory=dict)
    left_out: Mapping[CheckName, Collection[str]] = field(default_factory=dict)

    def of(self, check: Check) -> Bounds:
        """What a check holds its figures to."""
        return self.bounds.get(check.name, check.bounds())

    def is_left_out(self, check: Check, name: str) -> bool:
        """Whether the file leaves a bound to its default."""
        return check.name not in self.bounds or name in self.left_out.get(check.name, ())


def read_gate(path: Path, checks: Sequence[Check]) -> Gate:
    """The gate of a file. Raises GateInvalid for what it cannot say, naming the field."""

    def refuse(what: str) -> GateInvalid:
        return GateInvalid(f"the gate {what}", where=str(path), hint=_HINT)

    try:
        table = toml_file.read_table(path)
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(f"cannot be read: {error}") from error
    except ValueError as error:
        raise refuse(f"is not valid TOML: {error}") from error
    if not table:
        raise refuse("says nothing: the file is empty, or a pipe that nobody writes to")
    whole = Fields(table, refuse)
    if whole.required_count("version") > VERSION:
        raise refuse(f"is of version {table['version']}, and this Edgeship reads up to {VERSION}")
    _require_known(whole, ["version", *(check.name for check in checks)], "check")
    there = [check for check in checks if check.name in table]
    given = {check.name: _bounds(whole.part(check.name), check) for check in there}
    bounds = {check.name: check.bounds(**given[check.name]) for check in there}
    left_out = {check.name: {one.name for one in bounds_of(check.bounds)} - given[check.name].keys() for check in there}
    why, off = ({check.name: _reason(whole.part(check.name), key) for check in there} for key in REASONS)
    found = Gate(bounds, _given(off), _given(why), left_out)
    _require_reasons(found, path)
    return found


def _require_reasons(gate: Gate, path: Path) -> None:
    """That whoever changed a bound says why; of a check that is turned off, its bounds are in force nowhere."""
    for name, bounds in gate.bounds.items():
        changed = next((one for one in held(bounds) if not one.is_default), None)
        if changed and name not in gate.why and name not in gate.off:
            raise GateInvalid(
                f"the gate sets {name}.{changed.name} to {changed.value:g}, where {changed.default:g} is the default, "
                "and gives no reason",
                where=str(path),
                hint=f'Add the reason below [{name}], as a line of its own: why = "...". All reports repeat it.',
            )


def _bounds(part: Fields, check: Check) -> dict[str, float]:
    known = bounds_of(check.bounds)
    _require_known(part, [*(one.name for one in known), *REASONS], "bound")
    return {one.name: value for one in known if (value := _value(part, one)) is not None}


def _value(part: Fields, one: Field[Any]) -> float | None:
    least, most = one.metadata["least"], one.metadata["most"]
    if isinstance(one.default, int):
        return part.count(one.name, least=math.ceil(least), most=_LARGEST if math.isinf(most) else int(most))
    return part.number(one.name, least=least, most=None if math.isinf(most) else most)


def _reason(part: Fields, key: str) -> str | None:
    reason = part.text(key)
    if reason is not None and not is_visible(reason):
        raise part.wrong(key, reason, "a reason that can be read")
    return reason


def _given(reasons: Mapping[CheckName, str | None]) -> dict[CheckName, str]:
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _require_known(part: Fields, known: Sequence[str], what: str) -> None:
    for key in part.values:
        if key not in known:
            near = meant(key, known)
            instead = f"{near} may be meant" if near else f"known are {', '.join(known)}"
            raise part.refuse(f"has {part.name}{shown(key)}, and there is no such {what}: {instead}")


def as_toml(checks: Sequence[Check]) -> str:
    """A gate file with every bound at its default, and what each means."""
    lines = [*_head(), "", f"version = {VERSION}", *(line for check in checks for line in _part(check)), ""]
    return "\n".join(lines)


def _head() -> Iterator[str]:
    yield from _comment("The release gate: what `edgeship validate --gate` looks at, and the bounds of figures.")
    yield "#"
    yield from _comment(
        f"Each value is the default of Edgeship {__version__}. What is left out follows the default of the version "
        "that runs. A check with another value than a default needs a reason, and so does one that is turned off. "
        "Every verdict shows bounds that are not the defaults, and repeats the reasons, which stand here:"
    )
    yield "#"
    yield "#     [leaks]"
    for key, said in REASONS.items():
        yield f'#     {key} = "..."  # {said}'


def _part(check: Check) -> Iterator[str]:
    yield ""
    yield from _comment(f"{check.title}.")
    yield f"[{check.name}]"
    for one in bounds_of(check.bounds):
        yield ""
        yield from _comment(f"{one.metadata['why']} {allowed(one)}.")
        yield f"{one.name} = {one.default!r}"


def allowed(one: Field[Any]) -> str:
    """What a gate file may set a bound to, in words."""
    kind = "A whole number" if isinstance(one.default, int) else "A number"
    least, most = one.metadata["least"], one.metadata["most"]
    return f"{kind} of at least {least:g}" if math.isinf(most) else f"{kind} from {least:g} to {most:g}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), _WIDTH, initial_indent="# ", subsequent_indent="# ")
