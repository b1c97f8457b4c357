"""`edgeship ps`: the servers that run."""

from __future__ import annotations

from dataclasses import asdict

from edgeship import settings
from edgeship.cli.options import Json
from edgeship.cli.output import note, print_json, print_table


def ps(as_json: Json = False) -> int:
    """List the servers that run on this machine, and the models that each has loaded."""
    from edgeship.serve import register
    from edgeship.system.storage import megabytes

    servers = register.running(settings.resolve().home)
    if as_json:
        print_json({"servers": [asdict(server) for server in servers]})
    elif not servers:
        note("no server runs; `edgeship serve` starts one")
    else:
        rows = [
            [
                str(server.pid),
                server.url,
                server.state,
                ", ".join(server.models) or "-",
                megabytes(server.memory_bytes),
            ]
            for server in servers
        ]
        print_table(["PID", "URL", "STATE", "LOADED", "MEMORY"], rows)
    return 0
