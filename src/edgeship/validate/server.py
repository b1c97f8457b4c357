"""A server over HTTP for what is validated: `edgeship serve` over a package, in a process that ends when ours does."""

from __future__ import annotations

import importlib.util
import json
import queue
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from urllib.request import ProxyHandler, build_opener

from edgeship import settings
from edgeship.errors import DependencyMissing, EngineFailed
from edgeship.system import border, child
from edgeship.targets import FOUNDRY, Target
from edgeship.validate.over_http import Place, place_of

READY_S = 120.0
"""A server that is not ready after so long is given up."""
_END_S = 15.0
# Nobody waits for answers any more when it is ended.
_DRAIN = "1s"
_ADDRESS = re.compile(r'\s*"url": "(.+)",')
_NEEDED = ("fastapi", "uvicorn")


@dataclass(frozen=True)
class Server:
    """url: of its API, or its root where that is at /v1. model: what to ask it for. api_key: that it wants.

    pid: of the process, where it was started here.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    pid: int | None = None

    @property
    def place(self) -> Place:
        """Where it listens."""
        return place_of(self.url, self.api_key)


def why_none(target: Target) -> str | None:
    """Why a target cannot be asked over HTTP; None where it can."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if target.kind == "url" or not missing:
        return None
    return f"it is asked over HTTP, and the server needs {missing[0]}: pip install edgeship[serve]"


@contextmanager
def served(target: Target, *options: str) -> Iterator[Server]:
    """`edgeship serve` over a package or a model of Foundry Local, until the block ends or this process does.

    options: more of that command's. Raises DependencyMissing where the server is not installed, EngineFailed where it
    does not begin.
    """
    name = f"{FOUNDRY}{target.name}" if target.kind == "foundry" else target.name
    words = ["serve", name, "--port", "0", "--drain", _DRAIN, "--json", *options]
    told: queue.SimpleQueue[object] = queue.SimpleQueue()

    def heard(line: str) -> None:
        if address := _ADDRESS.fullmatch(line):
            told.put(address[1])

    process = child.Child(
        [sys.executable, "-m", "edgeship.system.tether", "edgeship", *words],
        told.put,
        heard,
        child.environment_with(_environment(target.settings)),
        foreign=True,
    )
    try:
        url = _ready(told)
        yield Server(url, _only_model(url), pid=process.pid)
    finally:
        process.end(_END_S)


def _environment(here: settings.Settings) -> dict[str, str]:
    """The target's settings, whatever gave them, for a process that resolves its own."""
    return {settings.variable(key): str(value) for key, value, _ in settings.described(here) if value is not None}


def _ready(told: queue.SimpleQueue[object]) -> str:
    """The address, once the server tells it."""
    try:
        found = border.take(told, time.monotonic() + READY_S)
    except border.TookTooLong as error:
        raise EngineFailed(f"the server that was started to be validated was not ready in {READY_S:.0f} s") from error
    if isinstance(found, child.Died):
        kind = DependencyMissing if "pip install" in found.last else EngineFailed
        raise found.as_error(kind, "the server that was started to be validated") from found
    if isinstance(found, BaseException):
        raise found
    return str(found)


def _only_model(url: str) -> str:
    """What the server calls what it serves: of a folder not its path. Raises EngineFailed."""
    try:
        # Whatever proxies a user has, this is here.
        with build_opener(ProxyHandler({})).open(f"{url}/v1/models", timeout=READY_S) as said:
            return str(json.loads(said.read())["data"][0]["id"])
    except (OSError, HTTPException, LookupError, TypeError, ValueError) as error:
        raise EngineFailed(
            f"the server that was started to be validated does not say which model it serves: {error}"
        ) from error
