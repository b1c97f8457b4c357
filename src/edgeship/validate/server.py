"""A server over HTTP for what is validated: the target's own, or `edgeship serve` over a package, in a process."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import urlopen

from edgeship.errors import DependencyMissing, EngineFailed
from edgeship.targets import Target

MODEL = "validated"
"""What the package is called by the server that was started for it."""
_READY_S, _POLL_S, _END_S = 120.0, 0.1, 20.0


@dataclass(frozen=True)
class Server:
    """url: its root, without /v1. model: what to ask it for. pid: of the process, where it was started here."""

    url: str
    model: str | None
    pid: int | None = None


@contextmanager
def served(target: Target, *options: str) -> Iterator[Server]:
    """`edgeship serve` over a package or a model of Foundry Local, until the block ends.

    options: more of that command's. Raises DependencyMissing where the server is not installed, EngineFailed where it
    does not begin.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = f"foundry:{target.name}" if target.kind == "foundry" else target.name
    here = target.settings
    words = ["serve", name, "--alias", f"{MODEL}={name}", "--port", str(port), "--cache-dir", str(here.cache_dir)]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeship", *words, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url)
        yield Server(url, MODEL, process.pid)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        process.kill()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + _READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            said = (process.stderr.read() if process.stderr else b"").decode("utf-8", "replace").strip()
            kind = DependencyMissing if "pip install" in said else EngineFailed
            raise kind("the server that was started to be validated ended at once", where=url, hint=said[-500:])
        with suppress(URLError, OSError), urlopen(f"{url}/health", timeout=_POLL_S * 10):
            return
        time.sleep(_POLL_S)
    raise EngineFailed(f"the server that was started to be validated was not ready within {_READY_S:.0f} s", where=url)
