from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from edgeship.system import supervisor


def test_what_listens_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no such sockets in Python")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        supervisor.tell("READY=1")
        assert line.recv(100) == b"READY=1"


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no files are Linux's")
def test_what_listens_by_a_name_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no such sockets in Python")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind("\0edgeship-test")
        monkeypatch.setenv("NOTIFY_SOCKET", "@edgeship-test")
        supervisor.tell("STOPPING=1")
        assert line.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/no/such/socket"])
def test_nobody_needs_to_listen(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    supervisor.tell("READY=1")
