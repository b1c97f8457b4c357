"""The commands of `edgeship foundry` and their options; see `parser`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeship.cli.options import (
    CacheDir,
    ForeignName,
    FoundryApp,
    FoundryCacheDir,
    Json,
    MaxTokens,
    PackageArgument,
    Prompt,
    Registration,
    Schema,
    Stats,
    System,
    Temperature,
    Threads,
)

foundry_app = typer.Typer(no_args_is_help=True, help="Microsoft's Foundry Local: put packages into it, and run them.")


@foundry_app.command("register")
def register(
    name: PackageArgument,
    app: FoundryApp = None,
    as_name: ForeignName = None,
    cache_dir: CacheDir = None,
    foundry_cache_dir: FoundryCacheDir = None,
    threads: Threads = None,
    context_tokens: Annotated[
        int | None,
        typer.Option(
            "--context-tokens",
            min=1,
            help="Prompt and answer together; Foundry Local takes memory for all of it at every request.",
            show_default="the package's",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Make a package a model of Foundry Local, and prove that it answers there."""
    from edgeship.cli import foundry

    return foundry.register(
        name,
        as_name=as_name,
        cache_dir=cache_dir,
        threads=threads,
        context_tokens=context_tokens,
        app=app,
        foundry_cache_dir=foundry_cache_dir,
        as_json=as_json,
    )


@foundry_app.command("unregister")
def unregister(
    name: Registration,
    app: FoundryApp = None,
    foundry_cache_dir: FoundryCacheDir = None,
    as_json: Json = False,
) -> int:
    """Take a model out of Foundry Local: one version, or all of a name. The package stays."""
    from edgeship.cli import foundry

    return foundry.unregister(name, app=app, foundry_cache_dir=foundry_cache_dir, as_json=as_json)


@foundry_app.command("ls")
def ls(app: FoundryApp = None, foundry_cache_dir: FoundryCacheDir = None, as_json: Json = False) -> int:
    """List the models that are registered, and what the foundry command lists where it is installed."""
    from edgeship.cli import foundry

    return foundry.ls(app=app, foundry_cache_dir=foundry_cache_dir, as_json=as_json)


@foundry_app.command("run")
def run(
    name: Registration,
    prompt: Prompt = None,
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    schema: Schema = None,
    stats: Stats = False,
    app: FoundryApp = None,
    foundry_cache_dir: FoundryCacheDir = None,
    as_json: Json = False,
) -> int:
    """Chat with a registered model, or ask it once; `model run foundry:NAME` does the same and has more options."""
    from edgeship.cli import run as running
    from edgeship.cli.package import FOUNDRY, foundry_model
    from edgeship.engine.api import Sampling

    return running.run(
        running.RunRequest(
            name=FOUNDRY + (foundry_model(name) or name),
            prompt=prompt,
            system=system,
            sampling=Sampling(
                temperature=temperature,
                max_tokens=max_tokens,
                constraint=running.constraint(schema=schema, regex=None, grammar=None),
            ),
        ),
        cache_dir=None,
        threads=None,
        stats=stats,
        as_json=as_json,
        foundry_app=app,
        foundry_cache_dir=foundry_cache_dir,
    )


@foundry_app.command("doctor")
def doctor(app: FoundryApp = None, foundry_cache_dir: FoundryCacheDir = None, as_json: Json = False) -> int:
    """Check Foundry Local on this machine, and every model that is registered."""
    from edgeship.cli import foundry

    return foundry.doctor(app=app, foundry_cache_dir=foundry_cache_dir, as_json=as_json)


@foundry_app.command("export")
def export(
    name: PackageArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model cache of Foundry Local, or a new folder.")],
    publisher: Annotated[str, typer.Option("--publisher", help="The folder that models of one maker share.")] = (
        "edgeship"
    ),
    as_name: ForeignName = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Lay a package out as the cache of Foundry Local 1 and its command expect it."""
    from edgeship.cli import foundry

    return foundry.export(name, folder, publisher=publisher, as_name=as_name, cache_dir=cache_dir, as_json=as_json)
