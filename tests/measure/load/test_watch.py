from __future__ import annotations

import os
import re
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.api import Chat
from edgeship.measure.load import watch
from edgeship.measure.load.watch import Cost, Place, Series, Watch, doubts, place_of, together
from edgeship.settings import Settings
from edgeship.system import energy
from edgeship.system.processes import Unseen
from edgeship.targets import Target
from tests.chat_server import models, serving
from tests.obedient import MIB, obedient

HERE = Place((os.getpid(),))
QUIET = Cost(wall_s=10.0, here=True, others=0.0, client_cpu_s=0.1)


def opened(**facts: object) -> Chat:
    """What `place_of` wants to know of a chat."""
    return cast(Chat, SimpleNamespace(**facts))


def target(kind: Any, name: str, tmp_path: Path) -> Target:
    return Target(kind, name, Settings(home=tmp_path, cache_dir=tmp_path, config_file=tmp_path / "config.toml"))


# --- where a target works ---------------------------------------------------------------------------------------------


def test_an_engine_works_in_this_process_or_in_its_own(tmp_path: Path) -> None:
    package = target("package", "triage", tmp_path)
    assert place_of(package, opened()) == HERE
    assert place_of(package, opened(pid=4711)) == Place((4711,))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_here_is_found_by_its_port(host: str, tmp_path: Path) -> None:
    with serving(models("x")) as server:
        url = target("url", f"http://{host}:{server.server_port}/v1", tmp_path)
        assert place_of(url, opened()) == HERE


def test_a_server_elsewhere_is_not_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = place_of(target("url", "http://192.0.2.1:8080/v1", tmp_path), opened())
    assert found == Place(here=False, why="the server runs on another machine")

    def lost(*_: object) -> None:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", lost)
    found = place_of(target("url", "https://models.example/v1", tmp_path), opened())
    assert (found.here, found.why) == (False, "models.example cannot be looked up: no such name")


def test_the_port_of_an_address_without_one_is_its_scheme_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()

    def listening(_: object, port: int) -> frozenset[int]:
        asked.append(port)
        raise Unseen("it hides")

    monkeypatch.setattr(watch, "listening", listening)
    for scheme in ("http", "https"):
        found = place_of(target("url", f"{scheme}://127.0.0.1/v1", tmp_path), opened())
        assert found == Place(why="it hides")
    assert asked == [80, 443]


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_a_child_s_memory_and_work_are_told() -> None:
    with obedient() as one:
        with Watch(Place((one.pid,))) as watching:
            used = one.does(f"hold {64 * MIB}") + one.does("work 0.2")
        cost = watching.cost
    assert cost.processes == 1
    assert cost.cpu_s == pytest.approx(used, rel=0.25)
    assert cost.rss_begin_bytes
    assert cost.rss_peak_bytes
    assert cost.rss_end_bytes
    assert cost.rss_end_bytes - cost.rss_begin_bytes > 60 * MIB
    assert cost.rss_peak_bytes >= cost.rss_end_bytes
    assert cost.rss_over_time[0][1] == cost.rss_begin_bytes
    assert all(at_s <= cost.wall_s + 1 for at_s, _ in cost.rss_over_time)
    assert len(cost.cores) == os.cpu_count()
    assert 0.2 * 0.5 / cost.wall_s < sum(cost.cores) <= len(cost.cores)
    assert cost.client_cpu_s is not None
    assert set(cost.unknown) <= {"joules"}
    assert cost.cpu_s is not None
    assert cost.to_dict(4)["cpu_s_per_token"] == cost.cpu_s / 4
    assert cost.to_dict(0)["cpu_s_per_token"] is None


def test_a_child_that_starts_later_counts() -> None:
    with obedient() as one:
        with Watch(Place((one.pid,))) as watching:
            one.does("start 0")
            one.does(f"tell hold_{64 * MIB}")
            one.does("tell work_0.1")
        one.does("end 0")
    cost = watching.cost
    assert cost.processes == 2
    assert cost.cpu_s
    assert cost.rss_end_bytes
    assert cost.rss_begin_bytes
    assert cost.cpu_s > 0.1
    assert cost.rss_end_bytes - cost.rss_begin_bytes > 64 * MIB


def test_in_one_process_the_client_s_own_work_cannot_be_told_apart() -> None:
    with Watch(HERE) as watching:
        assert sum(range(100_000))
    assert watching.cost.client_cpu_s is None
    assert (
        watching.cost.unknown["client_cpu_s"]
        == "the engine runs in the client's own process, whose CPU cannot be told apart"
    )


def test_of_a_server_elsewhere_only_the_client_is_told() -> None:
    with Watch(Place(here=False, why="far away")) as watching:
        pass
    cost = watching.cost
    assert (cost.rss_peak_bytes, cost.cpu_s, cost.joules, cost.processes) == (None, None, None, None)
    assert set(cost.unknown.values()) == {"far away"}
    assert cost.others is not None
    assert cost.client_cpu_s is not None


def test_what_hides_here_is_not_taken_for_other_programs() -> None:
    with Watch(Place(why="it hides")) as watching:
        pass
    assert watching.cost.others is None
    assert watching.cost.unknown["others"].startswith("it hides, so its work cannot be told")


def test_a_target_that_ends_meanwhile_keeps_what_was_seen() -> None:
    with obedient() as one, Watch(Place((one.pid,))) as watching:
        one.process.kill()
        one.process.wait()
    assert watching.cost.rss_begin_bytes
    assert watching.cost.processes == 1


def test_a_target_that_is_gone_already_is_told() -> None:
    with obedient() as one:
        pass
    with Watch(Place((one.pid,))) as watching:
        pass
    assert watching.cost.cpu_s is None
    assert watching.cost.unknown["cpu_s"] == "the target's processes have ended"


def test_joules_are_told_where_the_machine_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    read = iter([1.0, 3.5])

    class Told:
        def joules(self) -> float:
            return next(read)

    monkeypatch.setattr(watch, "Energy", Told)
    with Watch(HERE) as watching:
        pass
    assert watching.cost.joules == 3.5
    assert watching.cost.to_dict(5)["joules_per_token"] == 0.7


def test_joules_that_are_refused_meanwhile_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused:
        def joules(self) -> float:
            raise energy.EnergyUnknown("no more")

    monkeypatch.setattr(watch, "Energy", Refused)
    with Watch(HERE) as watching:
        pass
    assert watching.cost.joules is None
    assert watching.cost.unknown["joules"] == "no more"


def test_a_client_that_is_held_up_knows_it() -> None:
    slow = re.compile("(a|a)*b")  # keeps all other threads of this process waiting
    with Watch(HERE) as watching:
        begun = os.times().elapsed
        while os.times().elapsed - begun < 0.1:
            slow.match("a" * 20)
    assert watching.cost.client_late_p99_s > 0.005
    assert watching.cost.client_late_p99_s >= watching.cost.client_late_p50_s


# --- what is doubtful -------------------------------------------------------------------------------------------------


def doubted(cost: Cost, **usual: float) -> list[str]:
    return [str(doubt) for doubt in doubts(cost, **usual)]


def test_a_quiet_level_leaves_no_doubt() -> None:
    assert doubted(QUIET, ttft_s=0.1, itl_s=0.01) == []
    assert doubted(replace(QUIET, lateness_s=(1.0,))) == []


def test_a_late_client_spoils_the_times_that_it_touches() -> None:
    late = replace(QUIET, lateness_s=(0.0001,) * 98 + (0.012,) * 2)
    assert doubted(late, ttft_s=1.0, itl_s=0.25) == []
    assert doubted(late, ttft_s=1.0, itl_s=0.02) == [
        "client-late: the client was late by 12.0 ms once in a hundred times, and ITL is 20.0 ms: the 95th and 99th "
        "percentiles of ITL are not to be trusted."
    ]
    assert doubted(replace(late, lateness_s=(0.0011,)), ttft_s=1.0, itl_s=0.02) == [
        "client-late: the client was late by 1.1 ms every other time, and ITL is 20.0 ms: the figures of ITL are not "
        "to be trusted."
    ]
    assert [found.split(" of ")[-1] for found in doubted(late, ttft_s=0.06, itl_s=0.02)] == [
        "TTFT are not to be trusted.",
        "ITL are not to be trusted.",
    ]


def test_a_client_that_works_much_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "granted_cores", lambda: [0, 1])
    [found] = doubted(replace(QUIET, client_cpu_s=9.0))
    assert found == "client-busy: the client itself used 90% of a core: it may have held answers up."
    [found] = doubted(replace(QUIET, client_cpu_s=4.0))
    assert found.startswith("client-busy: the client itself used 20% of the cores that the target needs")
    assert doubted(replace(QUIET, client_cpu_s=4.0, here=False)) == []
    assert doubted(replace(QUIET, client_cpu_s=None)) == []


def test_a_busy_machine_is_told() -> None:
    [found] = doubted(replace(QUIET, others=0.4))
    assert found.startswith("machine-busy: other programs used 40% of the cores meanwhile")
    assert doubted(replace(QUIET, others=None)) == []


def test_repeats_cost_together_what_each_of_them_did() -> None:
    first = replace(QUIET, cpu_s=4.0, joules=2.0, cores=(0.5, 1.0), others=0.1, rss_begin_bytes=7, rss_peak_bytes=9)
    first = replace(first, rss_end_bytes=8, rss_over_time=((0.0, 7), (5.0, 9)), processes=1, lateness_s=(0.5, 0.1))
    other = replace(first, wall_s=30.0, cpu_s=8.0, joules=None, cores=(0.1, 1.0), others=0.5, rss_peak_bytes=12)
    other = replace(other, rss_begin_bytes=8, rss_end_bytes=10, processes=2, lateness_s=(0.25,))
    found = together([first, replace(other, unknown={"joules": "refused"})])
    assert (found.wall_s, found.cpu_s, found.joules, found.client_cpu_s) == (40.0, 12.0, None, 0.2)
    assert list(found.cores) == pytest.approx([0.2, 1.0])
    assert found.others == pytest.approx(0.4)
    assert (found.rss_begin_bytes, found.rss_peak_bytes, found.rss_end_bytes) == (7, 12, 10)
    assert found.rss_over_time == ((0.0, 7), (5.0, 9), (10.0, 7), (15.0, 9))
    assert (found.processes, found.lateness_s, found.unknown) == (2, (0.5, 0.1, 0.25), {"joules": "refused"})
    assert together([first]) == first


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=500))
def test_a_thinned_series_keeps_its_ends_and_its_largest(values: list[int]) -> None:
    series = Series(8)
    for at_s, value in enumerate(values):
        series.add(at_s, value)
    times = [at_s for at_s, _ in series.points]
    assert (series.first, series.most, series.last) == (values[0], max(values), values[-1])
    assert max(value for _, value in series.points) == max(values)
    assert times[0] == 0
    assert times == sorted(set(times))
    assert len(times) <= 16
    assert len(values) < 16 or len(times) >= 8
    for (since, value), until in zip(series.points, [*map(int, times[1:]), len(values)], strict=True):
        assert value == max(values[int(since) : until])


def test_no_values_make_no_series() -> None:
    assert (Series(8).points, Series(8).first, Series(8).most) == ((), None, None)
