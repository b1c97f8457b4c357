"""`edgeship stop`: ends a server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeship import settings
from edgeship.cli.options import Json
from edgeship.cli.output import note, print_facts
from edgeship.errors import NotFound, UsageError

if TYPE_CHECKING:
    from edgeship.serve.register import Entry

_LOOK_S = 0.1

Port = Annotated[
    int | None,
    typer.Argument(metavar="[PORT]", help="The server's port; it can be left out where one server runs.", min=1),
]


def stop(port: Port = None, as_json: Json = False) -> int:
    """End a server once its answers are complete, and wait for that."""
    from edgeship.serve import register

    home = settings.resolve().home
    server = _the_one(home, port)
    register.ask_to_stop(home, server)
    note(f"{server.url} ends once its answers are complete; Ctrl-C stops waiting for that")
    while register.is_running(server, home):
        time.sleep(_LOOK_S)
    return print_facts({"stopped": server.url, "pid": server.pid}, f"stopped {server.url}", as_json=as_json)


def _the_one(home: Path, port: int | None) -> Entry:
    from edgeship.serve import register

    servers = register.running(home)
    found = [server for server in servers if port in (None, server.port)]
    if not found:
        at = "" if port is None else f" at port {port}"
        raise NotFound(f"no server runs{at}", hint="`edgeship ps` lists those that run.")
    if len(found) > 1:
        ports = ", ".join(str(server.port) for server in found)
        raise UsageError("several servers run", hint=f"Say which by its port: {ports}.")
    return found[0]
