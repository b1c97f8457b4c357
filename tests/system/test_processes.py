from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from edgeship.system import processes
from edgeship.system.processes import Family, Unseen, addresses_here, listening
from tests.obedient import MIB, obedient

HOST = "127.0.0.1"


def test_a_family_holds_what_its_members_hold() -> None:
    with obedient() as one:
        family = Family([one.pid])
        before = family.look()
        one.does(f"hold {64 * MIB}")
        after = family.look()
        one.does("start 0")
        one.does(f"tell hold_{32 * MIB}")
        family.search()
        together = family.look()
        assert before
        assert after
        assert together
        assert after - before == pytest.approx(64 * MIB, abs=4 * MIB)
        assert together - after > 32 * MIB
        assert family.count == 2
        one.does("end 0")
    family.search()
    assert family.look() is None


def test_what_a_member_used_counts_from_the_beginning_and_after_its_end() -> None:
    with obedient() as one:
        one.does("work 0.2")
        family = Family([one.pid])
        used = one.does("work 0.1")
        family.look()
        assert family.cpu_s() == pytest.approx(used, abs=0.03)
        one.does("start 0")
        one.does("tell work_0.1")
        family.search()
        family.look()
        with_child = family.cpu_s()
        assert with_child > family.cpu_s(beside=one.pid) >= 0.1
        assert with_child > used + 0.07
        one.does("end 0")
        family.search()
        family.look()
        assert family.cpu_s() >= with_child


@pytest.mark.skipif(sys.platform not in ("linux", "win32"), reason="this system tells no peak of another process")
def test_a_peak_that_nobody_saw_is_told_by_the_system() -> None:
    with obedient() as one:
        family = Family([one.pid])
        seen = family.look()
        assert family.risen_peak_bytes() is None or family.risen_peak_bytes() < seen + 8 * MIB  # type: ignore[operator]
        one.does(f"touch {64 * MIB}")
        peak = family.risen_peak_bytes()
        assert seen
        assert peak
        assert peak - seen > 48 * MIB


def test_what_a_family_holds_for_itself_is_told() -> None:
    with obedient() as one:
        family = Family([one.pid])
        before = family.holds()
        one.does(f"hold {64 * MIB}")
        after = family.holds()
        one.does("start 0")
        family.search()
        together = family.holds()
        one.does("end 0")
    assert before
    assert after
    assert together
    assert after.own_bytes - before.own_bytes == pytest.approx(64 * MIB, abs=4 * MIB)
    assert after.threads == before.threads >= 1
    assert after.handles == before.handles is not None
    assert together.threads > after.threads
    family.search()
    assert family.holds() is None


def test_our_own_connections_are_counted() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        assert processes.connections_to(port) == 0
        with socket.create_connection((HOST, port)):
            assert processes.connections_to(port) == 1
            assert processes.connections_to(port + 1) == 0


def test_no_family_without_processes() -> None:
    family = Family([2**22 + 1])
    assert (family.look(), family.cpu_s(), family.count, family.risen_peak_bytes()) == (None, 0.0, 0, None)


@contextmanager
def listener(host: str = HOST) -> Iterator[socket.socket]:
    with socket.create_server((host, 0)) as found:
        yield found


@pytest.mark.parametrize("host", [HOST, "0.0.0.0"])
def test_who_listens_is_found_by_the_port(host: str) -> None:
    with listener(host) as server:
        assert listening([HOST], server.getsockname()[1]) == {os.getpid()}


def test_who_listens_is_found_where_only_each_process_tells_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""

    def refuse(*_: object) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refuse)
    monkeypatch.setattr(psutil, "process_iter", lambda: [psutil.Process(os.getppid()), psutil.Process()])
    with listener() as server:
        assert listening([HOST], server.getsockname()[1]) == {os.getpid()}


def test_nobody_listens() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        with pytest.raises(Unseen, match="no process is seen"):
            listening(["127.0.0.2"], port)
    with pytest.raises(Unseen, match=f"port {port}"):
        listening([HOST], port)


def test_a_process_of_another_user_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = psutil.net_connections
    with listener() as server:
        monkeypatch.setattr(
            psutil, "net_connections", lambda kind: [one._replace(pid=None) for one in everything(kind)]
        )
        with pytest.raises(Unseen, match="another user's"):
            listening([HOST], server.getsockname()[1])


@pytest.mark.skipif(sys.platform == "win32", reason="sockets are inherited as file descriptors")
def test_of_workers_that_share_a_socket_the_one_that_opened_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = psutil.net_connections
    with listener() as server:
        words = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=[server.fileno()]) as worker:

            def of_the_worker(kind: str) -> list[Any]:
                return [one._replace(pid=worker.pid) for one in everything(kind)]

            monkeypatch.setattr(psutil, "net_connections", of_the_worker)
            assert listening([HOST], server.getsockname()[1]) == {os.getpid()}


@pytest.mark.parametrize("name", ["docker-proxy", "ssh", "com.docker.backend"])
def test_who_hands_on_what_it_is_asked_is_not_who_answers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil.Process, "name", lambda _: name)
    with listener() as server, pytest.raises(Unseen, match=f"{name} listens on port"):
        listening([HOST], server.getsockname()[1])


def test_addresses_of_this_machine() -> None:
    assert HOST in addresses_here()
    assert all(processes._is_address(address) for address in addresses_here())
