"""The server's process: signals, its end, what it says of itself, addresses and certificates."""

from __future__ import annotations

import json
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from edgeship.cli import main
from edgeship.engine.api import Chat
from edgeship.errors import AddressUnusable, EngineFailed, UsageError
from edgeship.serve import ServeOptions, app, register, running
from edgeship.serve.models import ModelCard, Pool
from edgeship.serve.running import EXIT_AT_ONCE, Address
from edgeship.settings import resolve
from tests import waiting
from tests.serve.serving import card, connected, posted, scripted_app

PATH = "/v1/chat/completions"
SHORT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}], "stream": True}
LONG: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "long"}], "stream": True}
signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@dataclass
class Served:
    """A server's process."""

    process: subprocess.Popen[str]
    url: str

    def ended(self) -> int:
        return self.process.wait(60)


@contextmanager
def served(**options: Any) -> Iterator[Served]:
    command = [sys.executable, "-m", "tests.serve.served", json.dumps(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout
        try:
            yield Served(process, process.stdout.readline().strip())
        finally:
            process.kill()


def first_piece(lines: Iterator[str]) -> None:
    """Waits until an answer has begun."""
    while '"content": "' not in (line := next(lines)) or '"content": ""' in line:
        pass


@signals
@pytest.mark.slow
def test_the_first_signal_lets_answers_be_completed_and_takes_no_more() -> None:
    with served() as server:
        with httpx2.stream("POST", server.url + PATH, json=SHORT, timeout=60) as response:
            lines = response.iter_lines()
            first_piece(lines)
            server.process.send_signal(signal.SIGTERM)
            waiting.until(lambda: httpx2.get(f"{server.url}/health/ready").status_code == 503)
            refused = httpx2.post(server.url + PATH, json=SHORT)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_ending")
            assert refused.headers["retry-after"]
            assert httpx2.get(f"{server.url}/health/live").status_code == 200
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "stop"
        assert server.ended() == 0


@signals
@pytest.mark.slow
@pytest.mark.parametrize("sent", ["SIGTERM", "SIGINT"])
def test_an_answer_that_takes_too_long_ends_with_an_error_in_its_stream(sent: str) -> None:
    with served(drain_s=0.3) as server:
        with httpx2.stream("POST", server.url + PATH, json=LONG, timeout=60) as response:
            lines = response.iter_lines()
            first_piece(lines)
            server.process.send_signal(getattr(signal, sent))
            rest = [line.removeprefix("data: ") for line in lines if line]
        assert rest[-1] == "[DONE]"
        assert json.loads(rest[-2])["error"]["code"] == "server_ending"
        assert server.ended() == 0


@signals
@pytest.mark.slow
def test_a_client_that_sends_no_more_keeps_the_end_waiting_for_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with served() as server, connected(server.url) as client:
        client.sendall(posted(PATH, LONG)[:-5])
        waiting.until(lambda: httpx2.get(f"{server.url}/health/ready").status_code == 200)
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0
        with suppress(ConnectionError):
            assert client.recv(100) == b""
    assert "Traceback" not in capfd.readouterr().err


@signals
@pytest.mark.slow
def test_the_second_signal_ends_it_at_once(own_home: Path) -> None:
    with served() as server, connected(server.url) as client:
        client.sendall(posted(PATH, LONG))
        assert client.recv(100)
        server.process.send_signal(signal.SIGTERM)
        waiting.until(lambda: httpx2.get(f"{server.url}/health/ready").status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == EXIT_AT_ONCE
    assert register.running(own_home) == []


@pytest.mark.slow
def test_servers_are_listed_and_stopped(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served() as one, served() as other:
        waiting.until(lambda: [entry.models for entry in register.running(own_home)] == [("scripted",)] * 2)
        assert main(["ps", "--json"]) == 0
        listed = {entry["pid"]: entry for entry in json.loads(capsys.readouterr().out)["servers"]}
        assert listed[one.process.pid].items() >= {"url": one.url, "state": "ready", "models": ["scripted"]}.items()
        assert listed[one.process.pid]["memory_bytes"] > 1 << 20
        assert main(["stop"]) == 2
        assert "several servers run" in capsys.readouterr().err
        for server in (one, other):
            port = server.url.rpartition(":")[2]
            assert main(["stop", port]) == 0
            assert server.ended() == 0
        assert not list((own_home / "servers").iterdir())


@pytest.mark.slow
def test_a_server_that_was_killed_is_listed_no_more(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served() as server:
        waiting.until(lambda: len(register.running(own_home)) == 1)
        server.process.kill()
        server.ended()
    assert main(["ps"]) == 0
    assert "no server runs" in capsys.readouterr().err
    assert not list((own_home / "servers").iterdir())


@pytest.mark.slow
def test_connections_that_say_nothing_are_closed() -> None:
    with served(body_s=1) as server, connected(server.url) as silent, connected(server.url) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        assert silent.recv(100) == b""
        assert slow.recv(100) == b""
        assert httpx2.get(f"{server.url}/health").status_code == 200


def test_https(own_home: Path) -> None:
    pem = Path(__file__).parent / "localhost.pem"
    urls: queue.SimpleQueue[str] = queue.SimpleQueue()
    address = Address("127.0.0.1", 0, pem, pem)
    codes: list[int] = []

    def serve() -> None:
        codes.append(running.run(scripted_app(), address, home=own_home, ready=urls.put))

    thread = threading.Thread(target=serve)
    thread.start()
    url = urls.get(timeout=60)
    assert url.startswith("https://127.0.0.1:")
    assert httpx2.get(f"{url}/health", verify=ssl.create_default_context(cafile=str(pem))).status_code == 200
    waiting.until(lambda: len(register.running(own_home)) == 1)
    register.ask_to_stop(own_home, register.running(own_home)[0])
    thread.join(60)
    assert codes == [0]
    assert register.running(own_home) == []


def test_a_model_that_cannot_be_loaded_ends_it_with_that_error(own_home: Path) -> None:
    def broken(_: ModelCard) -> Chat:
        raise EngineFailed("it is broken")

    made = app.over(Pool([card("broken")], settings=resolve(), open_chat=broken), ServeOptions())
    with pytest.raises(EngineFailed, match="it is broken"):
        running.run(made, Address("127.0.0.1", 0), home=own_home, ready=lambda _: pytest.fail("it is not ready"))
    assert register.running(own_home) == []


def test_an_address_that_another_has(own_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(AddressUnusable, match=f"cannot listen at 127.0.0.1, port {address.port}: it is taken"):
            running.run(scripted_app(), address, home=own_home, ready=print)


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid", "ö" * 100])
def test_an_address_that_this_machine_does_not_have(host: str, own_home: Path) -> None:
    with pytest.raises(AddressUnusable, match="cannot listen"):
        running.run(scripted_app(), Address(host, 0), home=own_home, ready=print)


def test_a_certificate_that_cannot_be_used(own_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    for content in (None, b"", b"no certificate"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UsageError, match="certificate"):
            running.run(scripted_app(), Address("127.0.0.1", 0, path, path), home=own_home, ready=print)
    with pytest.raises(UsageError, match="the certificate that the key is for"):
        running.run(scripted_app(), Address("127.0.0.1", 0, None, path), home=own_home, ready=print)
