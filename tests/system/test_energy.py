from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeship.system import energy
from edgeship.system.energy import Energy, EnergyUnknown

RANGE_UJ = 1_000_000_000


@pytest.fixture(autouse=True)
def zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as Linux shows it, on every system."""
    monkeypatch.setattr(energy, "_ZONES", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


def zone(zones: Path, folder: str, name: str, energy_uj: int) -> None:
    place = zones / folder
    place.mkdir(exist_ok=True)
    facts = {"name": name, "energy_uj": energy_uj, "max_energy_range_uj": RANGE_UJ}
    for fact, value in facts.items():
        (place / fact).write_text(f"{value}\n", encoding="ascii")


def test_the_processors_are_added_and_nothing_twice(zones: Path) -> None:
    everything = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    for folder, name in everything.items():
        zone(zones, folder, name, 5_000_000)
    taken = Energy()
    assert taken.joules() == 0.0
    for folder, name in everything.items():
        zone(zones, folder, name, 7_500_000)
    assert taken.joules() == 5.0


def test_a_counter_that_begins_anew_loses_nothing(zones: Path) -> None:
    zone(zones, "intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    taken = Energy()
    zone(zones, "intel-rapl:0", "package-0", 500_000)
    assert taken.joules() == 1.5
    zone(zones, "intel-rapl:0", "package-0", 1_000_000)
    assert taken.joules() == 2.0


def test_a_machine_that_does_not_tell(zones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(zones, "intel-rapl:2", "psys", 1)
    with pytest.raises(EnergyUnknown, match="does not tell how much energy it takes"):
        Energy()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(EnergyUnknown, match="only Linux"):
        Energy()


def test_a_counter_that_only_root_may_read_says_how_to_allow_it(zones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(zones, "intel-rapl:0", "package-0", 1)
    read = Path.read_text

    def refuse(path: Path, *, encoding: str) -> str:
        if path.name == "energy_uj":
            raise PermissionError
        return read(path, encoding=encoding)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(EnergyUnknown, match=r"root only; `sudo chmod a\+r .*energy_uj`"):
        Energy()


@pytest.mark.parametrize("damage", ["gone", "no number", "no text"])
def test_a_counter_that_cannot_be_read_is_told(damage: str, zones: Path) -> None:
    zone(zones, "intel-rapl:0", "package-0", 1)
    taken = Energy()
    counter = zones / "intel-rapl:0" / "energy_uj"
    match damage:
        case "gone":
            counter.unlink()
        case "no number":
            counter.write_text("many", encoding="ascii")
        case _:
            counter.write_bytes(b"\xff")
    with pytest.raises(EnergyUnknown, match="energy_uj"):
        taken.joules()
