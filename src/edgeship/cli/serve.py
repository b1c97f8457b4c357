"""`edgeship serve`: the server."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeship import settings
from edgeship.cli.options import Context, KvMemory
from edgeship.cli.output import note

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME[:VERSION]]...",
        help="Packages in the cache, folders, foundry:NAME or URLs; all packages in the cache where none is given.",
        show_default=False,
    ),
]
Host = Annotated[str, typer.Option("--host", help="The address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The port to listen on; 0 takes a free one.")]
Aliases = Annotated[
    list[str] | None,
    typer.Option("--alias", metavar="ALIAS=NAME", help="Another name for a model; repeatable.", show_default=False),
]


def serve(
    names: Names = None,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    alias: Aliases = None,
    context: Context = None,
    kv_memory: KvMemory = None,
) -> int:
    """Answer over HTTP, by the APIs of OpenAI, Anthropic and Ollama."""
    import uvicorn

    from edgeship.engine.api import Limits
    from edgeship.serve import create_app

    limits = Limits(
        context_tokens=context, kv_bytes=settings.parse_bytes(kv_memory, "--kv-memory") if kv_memory else None
    )
    app = create_app(*names or (), limits=limits, aliases=alias or ())
    note(f"serving on http://{host}:{port}")
    uvicorn.run(app, host=host, port=port, log_config=None)
    return 0
