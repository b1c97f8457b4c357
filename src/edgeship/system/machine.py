"""What this machine grants us: cores, memory, disk. Facts only; doctor.py judges them."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

GIB = 1024**3
_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
BUSY = 0.25
"""Where others use more of the cores meanwhile, how fast something is says little of this machine."""


@dataclass(frozen=True)
class Machine:
    """A machine as a process on it may use it (affinity and container limits applied)."""

    cores_total: int
    cores_usable: int
    memory_total_bytes: int
    memory_available_bytes: int
    cpu: str
    system: str


def this_machine(memory_limit_bytes: int | None = None) -> Machine:
    """Reads the machine. `memory_limit_bytes` pretends that it has no more than that."""
    total, available = memory_bytes(memory_limit_bytes)
    return Machine(
        cores_total=os.cpu_count() or 1,
        cores_usable=usable_cores(),
        memory_total_bytes=total,
        memory_available_bytes=available,
        cpu=_cpu_name(),
        system=f"{platform.system()} {platform.machine()}",
    )


def memory_bytes(limit_bytes: int | None = None) -> tuple[int, int]:
    """All memory, and what of it is available; `limit_bytes` pretends that there is no more than that."""
    import psutil

    memory = psutil.virtual_memory()
    limits = [limit for limit in (_cgroup_memory_bytes(), limit_bytes) if limit is not None]
    return min([int(memory.total), *limits]), min([int(memory.available), *limits])


def usable_cores() -> int:
    """Cores this process may use: the affinity mask, cut by a container's quota; at least 1."""
    cores = len(granted_cores())
    quota = _cgroup_cpu_quota()
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def granted_cores() -> list[int]:
    """The numbers of the cores that this process may run on, whatever a container's quota leaves of them."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    import psutil

    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # Windows; macOS has none
        return sorted(process.cpu_affinity())
    return list(range(os.cpu_count() or 1))


def cores_to_use(asked: int | None) -> int:
    """The cores asked for; by default all that this process may use."""
    return asked or usable_cores()


class OthersWork:
    """What other processes use of the cores that this one may use, from now on.

    helpers_s: the seconds of a core that processes have used which count as this one, whenever it is called.
    """

    def __init__(self, helpers_s: Callable[[], float] = float) -> None:
        self._helpers_s = helpers_s
        self._begun = self._seconds()

    def share(self) -> float:
        """The part of the cores, from 0 to 1, on average."""
        wall, free, own = (now - then for now, then in zip(self._seconds(), self._begun, strict=True))
        # A quota grants fewer cores than there are, and any that are free.
        return max(0.0, 1 - (free + own) / (wall * usable_cores())) if wall > 0 else 0.0

    def _seconds(self) -> tuple[float, float, float]:
        """Of a clock, free on the cores that are granted to this process, and used by it and its helpers."""
        wall, free, own = _seconds()
        return wall, free, own + self._helpers_s()


def _seconds() -> tuple[float, float, float]:
    """Of a clock, free on the cores that are granted to this process, and used by it."""
    granted = granted_cores()
    free = sum(core.free for number, core in enumerate(core_times()) if number in granted)
    return time.perf_counter(), free, time.process_time()


class CoreTime(NamedTuple):
    """Seconds of a core since the machine was started: without work, and with."""

    free: float
    used: float


def core_times() -> list[CoreTime]:
    """Of each core of this machine."""
    import psutil

    # Linux counts a guest's time as its user's too.
    counted_twice = {"guest", "guest_nice"}
    cores = []
    for core in psutil.cpu_times(percpu=True):
        free = core.idle + getattr(core, "iowait", 0.0)
        every = sum(value for name, value in core._asdict().items() if name not in counted_twice)
        cores.append(CoreTime(free, every - free))
    return cores


def free_disk_bytes(folder: Path) -> int:
    """Free space where `folder` is or would be made."""
    import shutil

    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def _cgroup_cpu_quota() -> float | None:
    limits = (text.split() for text in _cgroup_limits("cpu.max"))
    return min((int(quota) / int(period) for quota, period in limits), default=None)


def _cgroup_memory_bytes() -> int | None:
    return min(map(int, _cgroup_limits("memory.max")), default=None)


def _cgroup_limits(name: str) -> list[str]:
    """Those of the control groups (v2) that this process is in: a service's own lies within others.

    A container sees its own as the outermost.
    """
    own = (line.removeprefix("0::/") for line in (_read(_OWN_CGROUP) or "").splitlines() if line.startswith("0::/"))
    inmost = _CGROUPS / next(own, "")
    folders = (folder for folder in (inmost, *inmost.parents) if folder.is_relative_to(_CGROUPS))
    texts = (_read(folder / name) for folder in folders)
    return [text for text in texts if text and not text.startswith("max")]


def _cpu_name() -> str:
    for line in (_read(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
