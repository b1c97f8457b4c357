"""What a level of load cost: memory, CPU and energy of the processes that answered, looked at meanwhile.

It distrusts the one who measures, too: how late the client's threads woke, how much it used itself, and how much other
programs did.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from edgeship.measure.load.doubts import Doubt
from edgeship.system.energy import Energy, EnergyUnknown
from edgeship.system.machine import BUSY, CoreTime, OthersWork, core_times, granted_cores
from edgeship.system.processes import Family, Unseen, addresses_here, listening

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeship.engine.api import Chat
    from edgeship.targets import Target

WAKE_S = 0.02
"""How often the watching thread wakes; how late it is then, any thread of this process might have been."""
_LOOK_S, _SEARCH_S = 0.25, 5.0
_MOST_OF_TIME = 1 / 200
"""What looking may take of the time; where it takes longer than expected, it is done less often."""
_MOST_POINTS = 120
_TOUCHES = 0.05
"""A client that was late by more than this part of a time cannot be trusted with that time.

How late it usually was touches all figures; how late it was now and then, those of the longest times."""
_MOST_OF_A_CORE = 0.8
"""Python runs one thread at a time: a client that uses more of a core than this may be what holds up the answers."""
_MOST_BESIDE = 0.1
"""Of the cores that the target needs as well."""
_OWN_PROCESS = "the engine runs in the client's own process, whose CPU cannot be told apart"


@dataclass(frozen=True)
class Place:
    """Where a target does its work.

    pids: the processes that do it, or that started those which do; none where they cannot be seen.
    here: whether it is on this machine. why: why the processes cannot be seen.
    """

    pids: tuple[int, ...] = ()
    here: bool = True
    why: str = ""


def place_of(target: Target, chat: Chat) -> Place:
    """Where a target works that was opened as this chat."""
    if target.kind == "url":
        return place_of_server(target.name)
    # An engine in a process of its own tells which.
    return Place((getattr(chat, "pid", os.getpid()),))


def port_of(url: str) -> int:
    """The port of a server, by its URL."""
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


def place_of_server(url: str) -> Place:
    """Where a server works, by its URL."""
    parts, port = urlsplit(url), port_of(url)
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(parts.hostname, port)}
    except (OSError, UnicodeError) as error:
        return Place(here=False, why=f"{parts.hostname} cannot be looked up: {error}")
    try:
        if not found & addresses_here():
            return Place(here=False, why="the server runs on another machine")
        return Place(tuple(sorted(listening(found, port))))
    except (Unseen, OSError) as error:
        return Place(why=str(error))


@dataclass(frozen=True)
class Cost:
    """What a level of load cost. What could not be told is None, and `unknown` says why, by the field's name.

    wall_s: how long it was watched.
    processes: how many were the target's. cpu_s: seconds of a core that they used.
    rss_begin_bytes, rss_peak_bytes, rss_end_bytes, rss_over_time: their physical memory; the latter as (seconds,
    bytes), thinned. What several processes share counts for each.
    joules: taken by the processors of this machine, by all programs and at rest.
    cores: the part of the time that each core of this machine worked, for whatever program, by its number.
    others: the part of the cores granted to this process that other programs used.
    client_cpu_s: seconds of a core that this process used. lateness_s: how late its watching thread woke each time.
    here: whether the target works on this machine.
    """

    wall_s: float
    here: bool
    processes: int | None = None
    rss_begin_bytes: int | None = None
    rss_peak_bytes: int | None = None
    rss_end_bytes: int | None = None
    rss_over_time: tuple[tuple[float, int], ...] = ()
    cpu_s: float | None = None
    joules: float | None = None
    cores: tuple[float, ...] = ()
    others: float | None = None
    client_cpu_s: float | None = None
    lateness_s: tuple[float, ...] = field(default=(), repr=False)
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def client_late_p50_s(self) -> float:
        """How late the client was every other time; 0 where it was not looked at."""
        return _part(self.lateness_s, 0.5)

    @property
    def client_late_p99_s(self) -> float:
        """How late it was once in a hundred times."""
        return _part(self.lateness_s, 0.99)

    def to_dict(self, tokens: int) -> dict[str, Any]:
        """The cost as `--json` prints it, also for each of so many tokens that came out."""

        def each(value: float | None) -> float | None:
            return value / tokens if value is not None and tokens else None

        told = asdict(replace(self, lateness_s=()))
        del told["lateness_s"]
        return told | {
            "cpu_s_per_token": each(self.cpu_s),
            "joules_per_token": each(self.joules),
            "client_late_p50_s": self.client_late_p50_s,
            "client_late_p99_s": self.client_late_p99_s,
        }


class Watch:
    """Watches a target's processes and this one while its block runs; `cost` says what that cost, once it is over."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._over = threading.Event()
        self._late = array("d")
        self._memory = Series(_MOST_POINTS)
        self._cost: Cost | None = None

    @property
    def cost(self) -> Cost:
        """What the block cost; it must have ended."""
        assert self._cost, "the block runs"
        return self._cost

    def __enter__(self) -> Self:
        self._family = Family(self._place.pids) if self._place.pids else None
        self._unknown: dict[str, str] = {}
        self._energy = self._counters()
        self._others = OthersWork(self._beside_s)
        self._cores = core_times()
        self._begun_s, self._begun_cpu_s = time.perf_counter(), time.process_time()
        self._look()
        self._thread = threading.Thread(target=self._watch, name="edgeship watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        wall_s, client_s = time.perf_counter() - self._begun_s, time.process_time() - self._begun_cpu_s
        cores = core_times()
        self._over.set()
        self._thread.join()
        self._search()
        self._look()
        self._cost = self._summary(wall_s, client_s, cores)

    def _watch(self) -> None:
        rounds = (_Round(self._look, _LOOK_S), _Round(self._search, _SEARCH_S))
        while True:
            wake_at = time.perf_counter() + WAKE_S
            if self._over.wait(WAKE_S):
                return
            self._late.append(max(0.0, time.perf_counter() - wake_at))
            for each in rounds:
                each.go()

    def _look(self) -> None:
        if self._family and (held := self._family.look()):
            self._memory.add(time.perf_counter() - self._begun_s, held)

    def _search(self) -> None:
        if self._family:
            self._family.search()
        if self._energy:
            with suppress(EnergyUnknown):  # said at the end, when it is asked again
                self._energy.joules()

    def _counters(self) -> Energy | None:
        if not self._place.here:
            self._unknown["joules"] = self._place.why
            return None
        try:
            return Energy()
        except EnergyUnknown as error:
            self._unknown["joules"] = str(error)
            return None

    def _beside_s(self) -> float:
        """Used by the target's processes beside this one."""
        return self._family.cpu_s(beside=os.getpid()) if self._family else 0.0

    def _summary(self, wall_s: float, client_s: float, cores: Sequence[CoreTime]) -> Cost:
        memory, family = self._memory, self._family
        why = self._place.why or "the target's processes have ended"
        seen = family is not None and bool(memory.points)
        if not seen:
            names = ("processes", "rss_begin_bytes", "rss_peak_bytes", "rss_end_bytes", "cpu_s")
            self._unknown |= dict.fromkeys(names, why)
        blind = self._place.here and not seen
        if blind:
            self._unknown["others"] = f"{why}, so its work cannot be told from that of other programs"
        own = os.getpid() in self._place.pids
        if own:
            self._unknown["client_cpu_s"] = _OWN_PROCESS
        return Cost(
            wall_s=wall_s,
            here=self._place.here,
            processes=family.count if family and seen else None,
            rss_begin_bytes=memory.first,
            rss_peak_bytes=max(memory.most, family.risen_peak_bytes() or 0) if family and memory.most else None,
            rss_end_bytes=memory.last,
            rss_over_time=memory.points,
            cpu_s=family.cpu_s() if family and seen else None,
            joules=self._joules(),
            cores=tuple(map(_use, self._cores, cores)),
            others=None if blind else self._others.share(),
            client_cpu_s=None if own else client_s,
            lateness_s=tuple(self._late),
            unknown=self._unknown,
        )

    def _joules(self) -> float | None:
        if self._energy is None:
            return None
        try:
            return self._energy.joules()
        except EnergyUnknown as error:
            self._unknown["joules"] = str(error)
            return None


def together(costs: Sequence[Cost]) -> Cost:
    """What several repeats of a level cost in all, one after another. What is unknown of one is unknown of all."""
    memory, before_s = Series(_MOST_POINTS), 0.0
    for cost in costs:
        for at_s, held in cost.rss_over_time:
            memory.add(before_s + at_s, held)
        before_s += cost.wall_s

    def of_all(name: str, work_out: Callable[[list[Any]], Any]) -> Any:
        values = [getattr(cost, name) for cost in costs]
        return None if None in values else work_out(values)

    def on_average(values: Sequence[float]) -> float:
        return sum(value * cost.wall_s for value, cost in zip(values, costs, strict=True)) / before_s

    return Cost(
        wall_s=before_s,
        here=costs[0].here,
        processes=of_all("processes", max),
        rss_begin_bytes=costs[0].rss_begin_bytes,
        rss_peak_bytes=of_all("rss_peak_bytes", max),
        rss_end_bytes=costs[-1].rss_end_bytes,
        rss_over_time=memory.points,
        cpu_s=of_all("cpu_s", sum),
        joules=of_all("joules", sum),
        cores=tuple(map(on_average, zip(*(cost.cores for cost in costs), strict=True))),
        others=of_all("others", on_average),
        client_cpu_s=of_all("client_cpu_s", sum),
        lateness_s=tuple(late_s for cost in costs for late_s in cost.lateness_s),
        unknown={name: why for cost in costs for name, why in cost.unknown.items()},
    )


def doubts(cost: Cost, *, ttft_s: float | None = None, itl_s: float | None = None) -> Iterator[Doubt]:
    """What of the one who measures, and of this machine, may have spoilt figures.

    ttft_s, itl_s: the times that were measured, as they usually were.
    """
    cores = len(granted_cores())
    for name, usual_s in (("TTFT", ttft_s), ("ITL", itl_s)):
        if not usual_s:
            continue
        if cost.client_late_p50_s > _TOUCHES * usual_s:
            how, spoilt = f"{_ms(cost.client_late_p50_s)} every other time", "figures"
        elif cost.client_late_p99_s > _TOUCHES * usual_s:
            how, spoilt = f"{_ms(cost.client_late_p99_s)} once in a hundred times", "95th and 99th percentiles"
        else:
            continue
        what = (
            f"the client was late by {how}, and {name} is {_ms(usual_s)}: the {spoilt} of {name} are not to be trusted"
        )
        yield Doubt("client-late", what)
    if cost.client_cpu_s is not None and cost.wall_s:
        used = cost.client_cpu_s / cost.wall_s
        if used > _MOST_OF_A_CORE:
            yield Doubt("client-busy", f"the client itself used {used:.0%} of a core: it may have held answers up")
        elif cost.here and used > _MOST_BESIDE * cores:
            yield Doubt(
                "client-busy",
                f"the client itself used {used / cores:.0%} of the cores that the target needs: ask from another "
                "machine, or read the target's speed as that much too low",
            )
    if cost.others is not None and cost.others > BUSY:
        yield Doubt(
            "machine-busy",
            f"other programs used {cost.others:.0%} of the cores meanwhile; measure again when they are done",
        )


class Series:
    """Values over time, thinned: never more than twice `most` points, whose values are the largest of their time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._points: list[tuple[float, int]] = []
        self._together = 1
        self._waiting: list[tuple[float, int]] = []
        self.first: int | None = None
        self.most: int | None = None
        self.last: int | None = None

    def add(self, at_s: float, value: int) -> None:
        """One more value."""
        self.first = value if self.first is None else self.first
        self.most, self.last = max(self.most or 0, value), value
        self._waiting.append((at_s, value))
        if len(self._waiting) == self._together:
            self._points.append(_largest(self._waiting))
            self._waiting = []
        if len(self._points) == 2 * self._most:
            self._points = [_largest(self._points[place : place + 2]) for place in range(0, 2 * self._most, 2)]
            self._together *= 2

    @property
    def points(self) -> tuple[tuple[float, int], ...]:
        """(seconds, value), in their order."""
        return tuple(self._points + ([_largest(self._waiting)] if self._waiting else []))


def _largest(points: Sequence[tuple[float, int]]) -> tuple[float, int]:
    return points[0][0], max(value for _, value in points)


class _Round:
    """Work that comes round every so often, or less often where it takes long."""

    def __init__(self, work: Callable[[], None], every_s: float) -> None:
        self._work, self._every_s = work, every_s
        self._next_s = time.perf_counter() + every_s

    def go(self) -> None:
        begun_s = time.perf_counter()
        if begun_s >= self._next_s:
            self._work()
            took_s = time.perf_counter() - begun_s
            self._next_s = begun_s + max(self._every_s, took_s / _MOST_OF_TIME)


def _use(before: CoreTime, after: CoreTime) -> float:
    free, used = after.free - before.free, after.used - before.used
    return used / (free + used) if free + used > 0 else 0.0


def _part(values: Sequence[float], part: float) -> float:
    """The value that so large a part of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
