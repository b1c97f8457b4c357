"""Runs the application with uvicorn: from an address that is free to an end that cuts no answer short.

uvicorn closes its connections at the first signal. Ours first lets the application drain, which refuses what comes
meanwhile; the second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
import uvicorn.server
from fastapi import FastAPI

from edgeship.errors import AddressUnusable, UsageError
from edgeship.serve.connections import Connection
from edgeship.serve.register import Record
from edgeship.serve.server import Server

EXIT_AT_ONCE = 130
_LAST_S = 5
"""What is still open after the drain, such as a client that does not read, is closed after so long."""
_TICKS_PER_LOOK, _LOOK_S = 5, 0.5


@dataclass(frozen=True)
class Address:
    """Where to listen. port: 0 takes a free one. tls_cert, tls_key: files; both or none."""

    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None


def run(
    app: FastAPI,
    address: Address,
    *,
    home: Path,
    ready: Callable[[str], object],
    ending: Callable[[], object] = lambda: None,
) -> int:
    """Serves until somebody ends it; the exit code.

    ready: is given the URL once the models are loaded that are to be; whoever asks before that is answered, too.
    ending: is called when the server has been told to end.
    Raises AddressUnusable, UsageError for certificates, and what loading the models raises.
    """
    with _listening(address) as listener:
        url = _url(address, listener)
        record = Record(home, url, listener.getsockname()[1])
        server = _Running(_config(app, address), app.state.server, record, ending)
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            try:
                record.write("starting", {})
                runner.run(_whole(app, server, listener, lambda: ready(url)))
            except asyncio.CancelledError:
                return 0  # ended while it started
            finally:
                record.remove()
    return 0


async def _whole(app: FastAPI, server: _Running, listener: socket.socket, ready: Callable[[], object]) -> None:
    server.begin()
    with server.capture_signals():
        # Not as uvicorn does it, which would tell nobody why an application did not start.
        async with app.router.lifespan_context(app):
            serving, loading = asyncio.create_task(server.serve(sockets=[listener])), app.state.server.loading
            await asyncio.wait((serving, loading), return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                if loading.exception():
                    server.should_exit = True
                else:
                    ready()
            await serving
            if loading.done() and not loading.cancelled():
                loading.result()


class _Running(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: Server, record: Record, ending: Callable[[], object]) -> None:
        super().__init__(config)
        self._app, self._record, self._tell_ending = app, record, ending
        self._ending: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """From now on signals end it."""
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_LOOK == 0:
            self._look()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's, it raises no signal again when all is over: to be ended is no failure."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in uvicorn.server.HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """The first time all ends in order, the second time at once; models' processes end with this one."""
        if self._captured_signals:
            self._record.remove()
            os._exit(EXIT_AT_ONCE)
        self._captured_signals.append(sig)
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self.started:
            if self._main:
                self._main.cancel()
        elif self._ending is None:
            self._tell_ending()
            self._ending = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        await self._app.drain()
        for connection in self._connections():
            connection.cut()
        self.should_exit = True

    def _connections(self) -> list[Connection]:
        return [each for each in self.server_state.connections if isinstance(each, Connection)]

    def _look(self) -> None:
        """Tells how the server is, hears whether it is to end, and ends connections that nobody uses.

        A client that sends a header's letters one by one holds a connection no longer than one that sends a body so.
        """
        state = "ready" if self._app.ready else "ending" if self._app.line.ending else "starting"
        self._record.write(state, {model.card.id: model.card.folder for model in self._app.pool.loaded()})
        if self._record.is_asked_to_stop():
            self._end()
        for connection in self._connections():
            connection.look(_LOOK_S, self._app.options.body_s)


def _config(app: FastAPI, address: Address) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        lifespan="off",
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_LAST_S,
        ssl_certfile=address.tls_cert,
        ssl_keyfile=address.tls_key,
        ssl_keyfile_password="-",  # a key that has one is refused: nobody may be there to be asked for it
    )
    if address.tls_key and not address.tls_cert:
        raise UsageError("the certificate that the key is for is not given", hint="Give both.")
    try:
        config.load()
    except OSError as error:  # no such file, or none that TLS can use
        raise UsageError(
            f"the certificate or its key cannot be used: {error}",
            where=str(address.tls_cert),
            hint="Both are PEM files, and the key has no password.",
        ) from error
    return config


@contextmanager
def _listening(address: Address) -> Iterator[socket.socket]:
    try:
        family, *_, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(place[:2], family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise AddressUnusable(
            f"the server cannot listen at {address.host}, port {address.port}: {'it is taken' if taken else error}",
            hint="`edgeship ps` lists the servers that run; port 0 takes a free one.",
        ) from error
    with listener:
        yield listener


def _url(address: Address, listener: socket.socket) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{'https' if address.tls_cert else 'http'}://{host}:{listener.getsockname()[1]}"
