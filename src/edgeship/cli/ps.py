"""`edgeship ps`: the servers that run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship import settings
from edgeship.cli.options import Json
from edgeship.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from edgeship.serve.register import Entry


def ps(as_json: Json = False) -> int:
    """List the servers that run on this machine, and the models that each has loaded."""
    from edgeship.serve import register
    from edgeship.store.attestations import marked
    from edgeship.system.storage import megabytes

    servers = register.running(settings.resolve().home)
    gates = {server.pid: _gates(server) for server in servers}
    if as_json:
        print_json({"servers": [asdict(server) | {"gates": gates[server.pid]} for server in servers]})
    elif not servers:
        note("no server runs; `edgeship serve` starts one")
    else:
        rows = [
            [
                str(server.pid),
                server.url,
                server.state,
                ", ".join(marked(name, gates[server.pid].get(name)) for name in server.models) or "-",
                megabytes(server.memory_bytes),
            ]
            for server in servers
        ]
        print_table(["PID", "URL", "STATE", "LOADED", "MEMORY"], rows)
    return 0


def _gates(server: Entry) -> dict[str, str | None]:
    """What the release gate has said until now of the packages that a server has loaded."""
    from edgeship.store import listing

    return {name: listing.gate_of(Path(folder)) for name, folder in server.folders.items()}
