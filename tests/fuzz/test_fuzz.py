"""What strangers bring, damaged: a few of the mutations that `make fuzz` makes by the thousand, always the same."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz.harness import HANG_S, Tally, run
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import BY_NAME, FAULTY, READERS, Reader

QUICK = ("checkpoint", "eval", "settings")


def tally(reader: Reader, count: int, seed: str, hang_s: float = HANG_S) -> Tally:
    found = Tally()
    for result in run(reader, seed, count, hang_s=hang_s):
        found.add(result)
    return found


@pytest.mark.parametrize("name", QUICK)
def test_damage_is_taken_or_refused(name: str) -> None:
    found = tally(BY_NAME[name], 40, "quick")
    assert not found.faults, found.findings()
    assert found.counts[name].total() == 40
    assert found.counts[name]["refused"]


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_more_damage_is_taken_or_refused(reader: Reader) -> None:
    found = tally(reader, 40, "slow")
    assert not found.faults, found.findings()


def test_a_seed_always_makes_the_same_mutations(tmp_path: Path) -> None:
    def mutated(seed: int) -> tuple[str, bytes | None]:
        path = tmp_path / "a.json"
        path.write_text('{"a": [1, 2], "b": {"c": "text"}}', encoding="utf-8")
        said = mutate(path, Random(seed))
        content = (
            path.read_bytes() if path.is_file() and not path.is_symlink() and path.stat().st_size < 10**6 else None
        )
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        return said, content

    assert [mutated(seed) for seed in range(200)] == [mutated(seed) for seed in range(200)]


@pytest.mark.slow
def test_every_fault_is_found_and_what_follows_goes_on() -> None:
    found = tally(FAULTY, 20, "faults", hang_s=3)
    assert found.counts["faulty"].total() == 20
    assert {fault.outcome for fault in found.faults} >= {"hang", "memory", "exit 3"}
    assert found.counts["faulty"]["passed"]
    assert found.counts["faulty"]["refused"]
    assert found.faults[0].again in found.findings()
    assert [row.split()[0] for row in found.table().splitlines()] == ["reader", "faulty", "all"]
