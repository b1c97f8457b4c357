"""Other processes while they work: which one listens on a port, and what it and its children hold and use."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from edgeship.system import memory

if TYPE_CHECKING:
    from psutil import Process

_Address = IPv4Address | IPv6Address
_FORWARDERS = ("docker-proxy", "com.docker", "gvproxy", "pasta", "rootlessport", "slirp4netns", "ssh", "wslrelay")
"""How programs are called that hand a port on to somewhere else."""


class Unseen(Exception):
    """A process that cannot be seen from here; its text says why, in words."""


@dataclass(frozen=True)
class Held:
    """What processes hold: memory of their own, open files and sockets (handles, on Windows), threads.

    handles: None where the system does not tell them.
    """

    own_bytes: int
    handles: int | None
    threads: int


class Family:
    """Some processes with all that descend from them: what they hold now, and what they have used from now on.

    What one that has ended used is kept as it was last looked at.
    """

    def __init__(self, roots: Iterable[int]) -> None:
        import psutil

        self._roots: list[Process] = []
        for pid in roots:
            with suppress(psutil.Error):
                self._roots.append(psutil.Process(pid))
        self._members: dict[Process, float] = {}
        self._used_s: dict[Process, float] = {}
        self.search()
        # What they used before does not count; whoever comes later counts from its start.
        self._members = {process: used_s for process in self._members if (used_s := _cpu_s(process)) is not None}
        self._peaks_before = self._peaks()

    def search(self) -> None:
        """Looks for children that have come and for members that have gone: thousands of times as slow as `look`."""
        import psutil

        found: dict[Process, None] = {}
        for root in self._roots:
            with suppress(psutil.Error):
                if root.is_running():
                    found |= dict.fromkeys((root, *root.children(recursive=True)))
        self._members = {process: self._members.get(process, 0.0) for process in found}

    def look(self) -> int | None:
        """The physical memory that all of them hold together, in bytes; None where none of them is left.

        What several of them share is counted for each.
        """
        held = []
        for process, begun_s in self._members.items():
            resident, used_s = _resident_bytes(process), _cpu_s(process)
            if resident and used_s is not None:
                held.append(resident)
                self._used_s[process] = max(0.0, used_s - begun_s)
        return sum(held) or None

    def holds(self) -> Held | None:
        """What all of them together hold for themselves now; None where none of them is left."""
        found = [held for process in self._members if (held := _held(process))]
        if not found:
            return None
        handles = [held.handles for held in found if held.handles is not None]
        return Held(
            sum(held.own_bytes for held in found),
            sum(handles) if len(handles) == len(found) else None,
            sum(held.threads for held in found),
        )

    @property
    def count(self) -> int:
        """How many have been seen at work."""
        return len(self._used_s)

    def cpu_s(self, *, beside: int | None = None) -> float:
        """Seconds of a core that they have used, as they were last looked at; without those of one, by its number."""
        return sum(used_s for process, used_s in self._used_s.items() if process.pid != beside)

    def risen_peak_bytes(self) -> int | None:
        """The most that a family of one has held at once, where it was more than ever before, and the system tells."""
        peaks = self._peaks()
        if len(peaks) != 1 or self.count != 1:
            return None
        (process, peak), *_ = peaks.items()
        return peak if peak > self._peaks_before.get(process, 0) else None

    def _peaks(self) -> dict[Process, int]:
        found = {process: memory.peak_memory_bytes_of(process.pid) for process in self._members}
        return {process: peak for process, peak in found.items() if peak}


def listening(addresses: Iterable[str], port: int) -> frozenset[int]:
    """The processes that listen on a port at one of these addresses of this machine, parents before what they started.

    Raises Unseen where they cannot be told.
    """
    import psutil

    wanted = {ip_address(address) for address in addresses}
    try:
        holders = {connection.pid for connection in psutil.net_connections("tcp") if _is_at(connection, wanted, port)}
    except psutil.Error:  # macOS tells each process's own only
        holders = set(_holders_by_process(wanted, port))
    if not holders:
        raise Unseen(f"no process is seen to listen on port {port}: it may be another user's, or in a container")
    if None in holders:
        raise Unseen(f"what listens on port {port} is another user's, or in a container")
    roots = frozenset(_oldest_holder(pid, port) for pid in holders)
    for pid in roots:
        with suppress(psutil.Error):
            name = str(psutil.Process(pid).name())
            if name.lower().startswith(_FORWARDERS):
                raise Unseen(f"{name} listens on port {port}, and hands on what it is asked")
    return roots


def connections_to(port: int) -> int:
    """How many connections this process has open to servers at a port."""
    import psutil

    found = psutil.Process().net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)


def addresses_here() -> set[str]:
    """The addresses that this machine has, those of its loopback included, without their zones."""
    import psutil

    found = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    return {text for address in found if _is_address(text := address.partition("%")[0])}


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:  # that of a network card
        return False
    return True


def _is_at(connection: object, addresses: set[_Address], port: int) -> bool:
    import psutil

    where = getattr(connection, "laddr", None)
    if getattr(connection, "status", "") != psutil.CONN_LISTEN or not where or where.port != port:
        return False
    address = ip_address(where.ip.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_unspecified or mapped in addresses


def _holders_by_process(addresses: set[_Address], port: int) -> Iterator[int]:
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(_is_at(connection, addresses, port) for connection in process.net_connections("tcp")):
                yield process.pid


def _oldest_holder(pid: int, port: int) -> int:
    """Workers inherit the socket of the process that started them, and the system names any of them."""
    import psutil

    with suppress(psutil.Error):
        parent = psutil.Process(pid).parent()
        if parent and any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for connection in parent.net_connections("tcp")
        ):
            return _oldest_holder(parent.pid, port)
    return pid


def cpu_s(pid: int) -> float:
    """Seconds of processors' time that a process has used, with those that it started and that are still there."""
    import psutil

    try:
        root = psutil.Process(pid)
        return sum(used_s for process in (root, *root.children(recursive=True)) if (used_s := _cpu_s(process)))
    except psutil.Error:
        return 0.0


def _cpu_s(process: Process) -> float | None:
    import psutil

    try:
        times = process.cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def _held(process: Process) -> Held | None:
    import psutil

    try:
        own, threads = memory.own_bytes(process.pid), int(process.num_threads())
    except psutil.Error:
        return None
    handles: int | None = None
    with suppress(psutil.Error):  # another user's are not told
        handles = int(process.num_handles() if sys.platform == "win32" else process.num_fds())
    return None if own is None else Held(own, handles, threads)


def _resident_bytes(process: Process) -> int:
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def descendants(root: int, word: str) -> list[int]:
    """What a process has started, and those have in turn, whose command line has this word in it."""
    import psutil

    found = []
    with suppress(psutil.Error):
        for process in psutil.Process(root).children(recursive=True):
            with suppress(psutil.Error):
                if word in process.cmdline():
                    found.append(process.pid)
    return found


def kill(pid: int) -> None:
    """Ends a process as a system short of memory does, if it is there."""
    import psutil

    with suppress(psutil.Error):
        psutil.Process(pid).kill()
