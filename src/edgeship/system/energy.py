"""The energy that this machine's processors take, where it tells: RAPL's counters, which Linux shows as files."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

_ZONES = Path("/sys/class/powercap")
# One for each processor. What lies within it is part of it, and intel-rapl-mmio shows the same ones again.
_ZONE = re.compile(r"intel-rapl:[0-9]+")
_PROCESSOR = "package-"


class EnergyUnknown(Exception):
    """This machine, or its administrator, does not tell; the text says why, in words."""


class _Zone(NamedTuple):
    counter: Path
    range_uj: int


class Energy:
    """Joules that all processors of this machine have taken since this was made, by whatever program.

    The counters begin anew after some minutes of full load at the earliest: `joules` is to be called more often.
    Raises EnergyUnknown.
    """

    def __init__(self) -> None:
        self._zones = [_Zone(zone / "energy_uj", _number(zone / "max_energy_range_uj")) for zone in _processors()]
        self._last = self._read()
        self._taken_uj = 0

    def joules(self) -> float:
        """Until now. Raises EnergyUnknown where the counters cannot be read any more."""
        now = self._read()
        for zone, before, after in zip(self._zones, self._last, now, strict=True):
            self._taken_uj += after - before + (zone.range_uj if after < before else 0)
        self._last = now
        return self._taken_uj / 1e6

    def _read(self) -> list[int]:
        return [_number(zone.counter) for zone in self._zones]


def _processors() -> list[Path]:
    if sys.platform != "linux":
        raise EnergyUnknown("only Linux tells how much energy is taken")
    zones = sorted(zone for zone in _ZONES.glob("*") if _ZONE.fullmatch(zone.name))
    found = [zone for zone in zones if _text(zone / "name").startswith(_PROCESSOR)]
    if not found:
        raise EnergyUnknown("this machine does not tell how much energy it takes, as most virtual ones do not")
    return found


def _number(path: Path) -> int:
    try:
        return int(_text(path))
    except ValueError as error:
        raise EnergyUnknown(f"{path} holds no number") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError as error:
        raise EnergyUnknown(f"{path} may be read by root only; `sudo chmod a+r {path}` lets everybody") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EnergyUnknown(f"{path} cannot be read: {error}") from error
