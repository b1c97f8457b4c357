"""What all models may hold together, and what one of them needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeship.engine.api import Limits
from edgeship.errors import MemoryShort
from edgeship.serve.budget import Budget
from edgeship.serve.catalog import ModelCard
from edgeship.serve.footprint import ENGINE_BYTES, Footprint
from edgeship.settings import Settings
from edgeship.system import machine
from edgeship.targets import Target

GB = 10**9
HERE = Settings(home=Path("home"), cache_dir=Path("home/models"), config_file=Path("home/config.toml"))
CARD = ModelCard("a", Target("package", "a:1", HERE), (), 0, GB // 2, Path("a"))
URL = replace(CARD, id="url", size_bytes=None, folder=None)
# Keys and values of all that it could use take 7 GB, those of the usual slots 0.5 GB.
FOOTPRINT = Footprint(GB, 20_000, 8, 32768)


def test_a_budget_that_was_given_is_that() -> None:
    budget = Budget(HERE, Limits(), 3 * GB)
    assert (budget.most_bytes, budget.usable_bytes(0), budget.usable_bytes(5 * GB)) == (3 * GB, 3 * GB, 3 * GB)


def test_another_is_what_is_available_but_for_a_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    available = 8 * GB
    monkeypatch.setattr(machine, "memory_bytes", lambda limit: (16 * GB, min(limit or available, available)))
    budget = Budget(HERE, Limits(), None)
    assert budget.most_bytes == 7 * GB
    # The models took three, and others two more than before; then others let go of much.
    available = 3 * GB
    assert budget.usable_bytes(3 * GB) == 3 * GB * 7 // 8 + 3 * GB
    available = 12 * GB
    assert budget.usable_bytes(3 * GB) == 7 * GB
    assert Budget(replace(HERE, memory_bytes=4 * GB), Limits(), None).most_bytes == 4 * GB * 7 // 8


def test_keys_and_values_are_dealt_out_among_those_that_have_files() -> None:
    budget = Budget(HERE, Limits(slots=8), 20 * GB)
    alone = budget.need(CARD, FOOTPRINT, [CARD, URL])
    assert alone.limits == Limits(slots=8, kv_bytes=5 * GB)
    assert alone.size_bytes == 6 * GB
    among = budget.need(CARD, FOOTPRINT, [CARD] * 10)
    assert among.limits.kv_bytes == (20 * GB - 10 * (GB // 2 + ENGINE_BYTES)) // 10


def test_limits_that_were_given_stay() -> None:
    need = Budget(HERE, Limits(kv_bytes=GB), 4 * GB).need(CARD, FOOTPRINT, [CARD])
    assert (need.size_bytes, need.limits) == (2 * GB, Limits(kv_bytes=GB))


def test_what_has_no_files_needs_nothing() -> None:
    budget = Budget(HERE, Limits(), GB)
    need = budget.need(URL, budget.footprint(URL), [URL])
    assert (need.size_bytes, need.limits) == (0, Limits())


def test_what_is_more_than_there_ever_is_is_refused() -> None:
    with pytest.raises(MemoryShort) as caught:
        Budget(HERE, Limits(kv_bytes=GB), GB).need(CARD, FOOTPRINT, [CARD])
    assert caught.value.what == "a needs about 2.00 GB of memory, and all models together may have 1.00 GB"
