"""`edgeship serve`: the server."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgeship import settings
from edgeship.cli.options import CacheDir, Context, Json, KvMemory, Threads, as_path, grouped
from edgeship.cli.output import note, print_json
from edgeship.errors import DependencyMissing, UsageError

if TYPE_CHECKING:
    from edgeship.serve.models import Pool
    from edgeship.serve.options import ServeOptions

_NAMES_TOLD = 5
_log = logging.getLogger("edgeship.serve")

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME[:VERSION]]...",
        help="Packages in the cache, folders, foundry:NAME or URLs; all packages in the cache where none is given.",
        show_default=False,
    ),
]
Aliases = Annotated[
    list[str] | None,
    typer.Option("--alias", metavar="ALIAS=NAME", help="Another name for a model; repeatable.", show_default=False),
]


@dataclass(frozen=True)
class ListenOptions:
    """Where the server listens, and who may ask it."""

    host: Annotated[str, typer.Option("--host", help="The address to listen at; 0.0.0.0 for all of this machine.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8080
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            help="Only who has a key in this file may ask: `edgeship key add` makes it. It is followed as it changes.",
            show_default=False,
            parser=as_path,
        ),
    ] = None
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen at an address that others reach without asking for keys.")
    ] = False
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", help="Serve HTTPS with this certificate (PEM).", show_default=False, parser=as_path),
    ] = None
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", help="The certificate's key (PEM).", show_default=False, parser=as_path),
    ] = None
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="A name that the server goes by besides --host; '*' for any. Repeatable.",
            show_default="any with keys; else localhost, addresses and this machine's name",
        ),
    ] = None
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin",
            metavar="ORIGIN",
            help="Web pages from there may ask, e.g. https://app.example; '*' for all. Repeatable.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class ModelsOptions:
    """What the models may take."""

    context: Context = None
    kv_memory: KvMemory = None
    slots: Annotated[
        int | None,
        typer.Option(
            "--slots", min=1, help="Answers that a model makes side by side.", show_default="what `tune` found, or 4"
        ),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            help="What all models together may take, e.g. 8GB.",
            show_default="seven eighths of what the machine has free",
        ),
    ] = None
    idle_timeout: Annotated[
        str | None,
        typer.Option(
            "--idle-timeout",
            metavar="DURATION",
            help="Unload a model that nobody has asked for so long, e.g. 5m; seconds without a unit.",
            show_default="never",
        ),
    ] = None
    threads: Threads = None


@dataclass(frozen=True)
class LoadOptions:
    """How much the server takes on."""

    max_waiting: Annotated[
        int,
        typer.Option("--max-waiting", min=1, help="Requests that may wait; more get status 429 and a time to retry."),
    ] = 256
    max_body: Annotated[str, typer.Option("--max-body", help="The longest request that is read.")] = "4MiB"
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="DURATION",
            help="An answer that takes longer is cut.",
            show_default="no limit",
        ),
    ] = None
    drain: Annotated[
        str,
        typer.Option(
            "--drain", metavar="DURATION", help="How long running answers may go on when the server is to end."
        ),
    ] = "30s"


@dataclass(frozen=True)
class TellOptions:
    """What the server tells of itself."""

    metrics_names: Annotated[
        Literal["edgeship", "vllm"],
        typer.Option("--metrics-names", help="Whose names the numbers at /metrics have, for dashboards made for vLLM."),
    ] = "edgeship"
    log_json: Annotated[
        bool,
        typer.Option("--log-json", help="Log each request, and what else is logged, as a line of JSON on stderr."),
    ] = False
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Log what is asked, too. It may hold what is nobody's business.")
    ] = False


@grouped
def serve(
    *,
    names: Names = None,
    alias: Aliases = None,
    listen: ListenOptions,
    models: ModelsOptions,
    load: LoadOptions,
    tell: TellOptions,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Answer over HTTP, by the APIs of OpenAI, Anthropic and Ollama, until Ctrl-C or `edgeship stop`."""
    from edgeship.serve import create_app
    from edgeship.serve.access import is_loopback
    from edgeship.system import log, supervisor

    if not (is_loopback(listen.host) or listen.api_key_file or listen.insecure):
        raise UsageError(
            f"others can reach {listen.host}, and no keys are asked for",
            hint="Give --api-key-file (`edgeship key add NAME --file FILE` makes one), or --insecure.",
        )
    if tell.log_json or tell.log_prompts:
        log.show(log.Level.INFO, as_json=tell.log_json)
    elif not log.is_shown():  # what goes wrong in a server is told nowhere else
        log.show(log.Level.WARNING)
    try:
        from edgeship.serve import running, tracing
    except ModuleNotFoundError as error:
        raise DependencyMissing(f"the server needs {error.name}", hint="Install edgeship[serve].") from error
    # Whoever reads lines of JSON is told nothing between them.
    tell_all = _log.info if tell.log_json else note

    def ready(url: str) -> None:
        if as_json:
            print_json({"url": url, "pid": os.getpid()})
        supervisor.tell("READY=1")
        tell_all(f"serving {_in_words(app.state.server.pool)} at {url}, with a page to chat; Ctrl-C ends it")

    def ending() -> None:
        supervisor.tell("STOPPING=1")
        tell_all("ending once the answers that run are complete; Ctrl-C once more ends at once")

    address = running.Address(listen.host, listen.port, listen.tls_cert, listen.tls_key)
    with tracing.exporting(os.environ) as tracer_provider:
        options = replace(
            _options(listen, models, load, tell, alias or ()), tracer_provider=tracer_provider, cache_dir=cache_dir
        )
        app = create_app(*names or (), options=options)
        return running.run(app, address, home=settings.resolve().home, ready=ready, ending=ending)


def _in_words(pool: Pool) -> str:
    """What is served, for a person."""
    from edgeship.store.attestations import marked

    cards = pool.cards()
    if not cards:
        return "nothing yet (the cache is empty: `edgeship ship` fills it, and what it installs is served at once)"
    names = [marked(card.id, card.gate) for card in cards[:_NAMES_TOLD]]
    more = len(cards) - _NAMES_TOLD
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _options(
    listen: ListenOptions, models: ModelsOptions, load: LoadOptions, tell: TellOptions, aliases: Sequence[str]
) -> ServeOptions:
    from edgeship.engine.api import Limits
    from edgeship.serve.options import ServeOptions

    def size(text: str | None, option: str) -> int | None:
        return settings.parse_bytes(text, option) if text else None

    def seconds(text: str | None, option: str) -> float | None:
        return None if text is None else settings.parse_seconds(text, option)

    deadline_s = seconds(load.deadline, "--deadline")
    if deadline_s == 0:
        raise UsageError("--deadline is 0, and every answer would be cut", hint="Leave it out for no limit.")
    return ServeOptions(
        aliases=aliases,
        limits=Limits(models.slots, models.context, size(models.kv_memory, "--kv-memory")),
        memory_bytes=size(models.memory, "--memory"),
        threads=models.threads,
        idle_timeout_s=seconds(models.idle_timeout, "--idle-timeout"),
        most_body_bytes=settings.parse_bytes(load.max_body, "--max-body"),
        most_waiting=load.max_waiting,
        deadline_s=deadline_s,
        drain_s=settings.parse_seconds(load.drain, "--drain"),
        api_key_file=listen.api_key_file,
        host=listen.host,
        allowed_hosts=listen.allowed_host or (),
        cors_origins=listen.cors_origin or (),
        metrics_names=tell.metrics_names,
        log_prompts=tell.log_prompts,
    )
