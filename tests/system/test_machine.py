from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from edgeship.system import machine


def test_granted_cores_are_cores_of_this_machine() -> None:
    granted = machine.granted_cores()
    assert granted == sorted(set(granted))
    assert set(granted) <= set(range(os.cpu_count() or 1))


@pytest.mark.skipif(not hasattr(psutil.Process(), "cpu_affinity"), reason="this system has no affinity")
def test_granted_cores_where_python_cannot_tell_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    expected = psutil.Process().cpu_affinity()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert machine.granted_cores() == expected


def test_granted_cores_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
    assert machine.granted_cores() == list(range(os.cpu_count() or 1))


def test_usable_cores_are_cut_by_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "granted_cores", lambda: [0, 1, 2, 3])
    for quota, cores in ((None, 4), (1.5, 2), (0.1, 1), (16.0, 4)):
        monkeypatch.setattr(machine, "_cgroup_cpu_quota", lambda quota=quota: quota)
        assert machine.usable_cores() == cores


@pytest.mark.parametrize(
    ("own", "cores", "memory_bytes"),
    [
        ("0::/system.slice/edgeship.service", 1.5, 2000),
        ("0::/system.slice", 3.0, 5000),
        ("0::/", None, 5000),
        ("1:cpu:/x\n0::/user.slice", None, 5000),
        ("1:cpu:/x", None, 5000),
        (None, None, 5000),
    ],
)
def test_limits_of_a_service_and_of_what_it_lies_in(
    own: str | None, cores: float | None, memory_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = tmp_path / "system.slice" / "edgeship.service"
    service.mkdir(parents=True)
    for folder, quota, limit in (
        (tmp_path, "max 100000", "5000"),
        (service.parent, "300000 100000", "max"),
        (service, "150000 100000", "2000"),
    ):
        (folder / "cpu.max").write_text(f"{quota}\n", encoding="utf-8")
        (folder / "memory.max").write_text(f"{limit}\n", encoding="utf-8")
    if own is not None:
        (tmp_path / "own").write_text(f"{own}\n", encoding="utf-8")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_CGROUP", tmp_path / "own")
    assert machine._cgroup_cpu_quota() == cores
    assert machine._cgroup_memory_bytes() == memory_bytes


@pytest.mark.parametrize(
    ("free", "own", "usable", "share"),
    [(10.0, 10.0, 2, 0.0), (5.0, 10.0, 2, 0.25), (0.0, 0.0, 2, 1.0), (30.0, 5.0, 2, 0.0)],
)
def test_what_others_use_is_what_is_neither_free_nor_our_own(
    free: float, own: float, usable: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([(100.0, 7.0, 3.0), (110.0, 7.0 + free, 3.0 + own)])
    monkeypatch.setattr(machine, "_seconds", lambda: next(moments))
    monkeypatch.setattr(machine, "usable_cores", lambda: usable)
    assert machine.OthersWork().share() == share


def test_time_is_counted_on_the_cores_that_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "granted_cores", lambda: [0])
    alone = machine._seconds()[1]
    monkeypatch.undo()
    assert 0 < alone <= machine._seconds()[1]


def test_what_helpers_use_is_not_the_work_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([(100.0, 7.0, 3.0), (110.0, 12.0, 8.0)])
    monkeypatch.setattr(machine, "_seconds", lambda: next(moments))
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    used = iter([4.0, 9.0])
    assert machine.OthersWork(lambda: next(used)).share() == 0.25


def test_a_core_is_free_or_used() -> None:
    before = machine.core_times()
    assert len(before) == psutil.cpu_count()
    for then, now, told in zip(before, machine.core_times(), psutil.cpu_times(percpu=True), strict=True):
        assert then.free <= now.free <= told.idle + getattr(told, "iowait", 0.0)
        assert 0 < then.used <= now.used
