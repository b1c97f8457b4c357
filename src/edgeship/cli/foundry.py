"""`edgeship foundry ...`: packages as models of Foundry Local."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeship import settings
from edgeship.cli import doctor as doctors
from edgeship.cli import model_run
from edgeship.cli.options import (
    CacheDir,
    Json,
    MaxTokens,
    PackageArgument,
    Prompt,
    Schema,
    Stats,
    System,
    Temperature,
    Threads,
    as_path,
)
from edgeship.cli.output import note, print_facts, print_json, print_pairs, print_table, telling
from edgeship.cli.streams import show
from edgeship.system.shell import our_command

if TYPE_CHECKING:
    from edgeship.foundry.catalog import App, Registered
    from edgeship.foundry.command import Listing
    from edgeship.foundry.sdk import Registration

FoundryApp = Annotated[
    str | None,
    typer.Option(
        "--app", help="The application whose models are meant: its app_name for the SDK.", show_default="edgeship"
    ),
]
FoundryCacheDir = Annotated[
    Path | None,
    typer.Option(
        "--foundry-cache-dir",
        help="Foundry Local's own model cache, where the application sets model_cache_dir.",
        show_default="~/.APP/cache/models",
        parser=as_path,
    ),
]
RegistrationArgument = Annotated[
    str, typer.Argument(metavar="NAME[:VERSION]", help="A model registered in Foundry Local.")
]
NewName = Annotated[str | None, typer.Option("--name", help="Another name than the package's.", show_default=False)]
ContextTokens = Annotated[
    int | None,
    typer.Option(
        "--context-tokens",
        min=1,
        help="Prompt and answer together; Foundry Local takes memory for all of it at every request.",
        show_default="the package's",
    ),
]

app = typer.Typer(no_args_is_help=True, help="Microsoft's Foundry Local: put packages into it, and run them.")


@app.command()
def register(
    name: PackageArgument,
    app: FoundryApp = None,
    new_name: NewName = None,
    cache_dir: CacheDir = None,
    foundry_cache_dir: FoundryCacheDir = None,
    threads: Threads = None,
    context_tokens: ContextTokens = None,
    as_json: Json = False,
) -> int:
    """Make a package a model of Foundry Local, and prove that it answers there."""
    from edgeship import targets
    from edgeship.engine.tune import remembered
    from edgeship.foundry import catalog, checks, config
    from edgeship.store import listing
    from edgeship.system.machine import cores_to_use

    current = settings.resolve(
        cache_dir=cache_dir, threads=threads, foundry_app=app, foundry_cache_dir=foundry_cache_dir
    )
    folder = targets.resolve(name, current).package_folder()
    with telling(quiet=as_json) as progress:
        progress("checking the package", None)
        prepared = checks.check(folder, name=new_name)
        measured = remembered(current.home, folder)
        cores = current.threads or (measured.threads if measured else cores_to_use(None))
        provision = config.choose(prepared, threads=cores, context_tokens=context_tokens)
        done = catalog.register(prepared, _app(current), provision, progress=progress)
    if as_json:
        print_json(_registered_dict(done, current) | {"gate": listing.gate_of(folder)})
        return 0
    _print_registered(done, current, _run_command(done.id, app, foundry_cache_dir))
    for line in (*done.notes, *_unfit(folder)):
        note(f"note: {line}")
    return 0


@app.command()
def unregister(
    name: RegistrationArgument,
    app: FoundryApp = None,
    foundry_cache_dir: FoundryCacheDir = None,
    as_json: Json = False,
) -> int:
    """Take a model out of Foundry Local: one version, or all of a name. The package stays."""
    from edgeship import targets
    from edgeship.foundry import catalog

    current = settings.resolve(foundry_app=app, foundry_cache_dir=foundry_cache_dir)
    gone = [each.id for each in catalog.unregister(_app(current), targets.foundry(name, current).name)]
    facts = {"unregistered": gone, "app": current.foundry_app}
    return print_facts(facts, f"took {', '.join(gone)} out of Foundry Local", as_json=as_json)


@app.command()
def ls(app: FoundryApp = None, foundry_cache_dir: FoundryCacheDir = None, as_json: Json = False) -> int:
    """List the models that are registered, and what the foundry command lists where it is installed."""
    from edgeship.foundry import catalog, command

    current = settings.resolve(foundry_app=app, foundry_cache_dir=foundry_cache_dir)
    found = catalog.registrations(_app(current))
    gates = _gates(found, current.cache_dir)
    listing = command.cached()
    if as_json:
        print_json(
            {
                "app": current.foundry_app,
                "foundry_cache_dir": str(current.foundry_cache_dir),
                "models": [
                    asdict(each) | {"id": each.id, "fault": catalog.fault(each), "gate": gate}
                    for each, gate in zip(found, gates, strict=True)
                ],
                "foundry_command": asdict(listing) if listing else None,
            }
        )
        return 0
    if found:
        _print_registrations(found, gates)
    else:
        note(
            f"no models are registered for {current.foundry_app} in {current.foundry_cache_dir}; "
            "`edgeship foundry register NAME` registers a package"
        )
    if listing:
        _print_listing(listing)
    return 0


@app.command()
def run(
    name: RegistrationArgument,
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
    from edgeship import targets
    from edgeship.engine.api import Limits

    options = model_run.AnswerOptions(temperature=temperature, max_tokens=max_tokens, schema=schema)
    sampling = options.sampling()
    current = settings.resolve(foundry_app=app, foundry_cache_dir=foundry_cache_dir)
    target = targets.foundry(name, current)
    return model_run.answer(target, prompt, sampling, Limits(slots=1), system=system, stats=stats, as_json=as_json)


@app.command()
def doctor(app: FoundryApp = None, foundry_cache_dir: FoundryCacheDir = None, as_json: Json = False) -> int:
    """Check Foundry Local on this machine, and every model that is registered."""
    from edgeship.foundry import diagnosis
    from edgeship.system.machine import cores_to_use

    current = settings.resolve(foundry_app=app, foundry_cache_dir=foundry_cache_dir)
    return doctors.report(diagnosis.examine(_app(current), cores=cores_to_use(current.threads)), as_json=as_json)


@app.command()
def export(
    name: PackageArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A model cache of Foundry Local, or a new folder.", parser=as_path)
    ],
    publisher: Annotated[
        str, typer.Option("--publisher", help="The folder that models of one maker share.")
    ] = "edgeship",
    new_name: NewName = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Lay a package out as the cache of Foundry Local 1 and its command expect it."""
    from edgeship import targets
    from edgeship.foundry import checks, layout
    from edgeship.package.names import check_name
    from edgeship.store import listing
    from edgeship.system.machine import cores_to_use

    current = settings.resolve(cache_dir=cache_dir)
    source = targets.resolve(name, current).package_folder()
    prepared = checks.check(source, name=new_name)
    checks.require_undamaged(prepared)
    laid = layout.export(prepared, folder.absolute(), check_name(publisher), cores_to_use(current.threads))
    facts = {
        "exported": prepared.id,
        "folder": str(laid.folder),
        "linked_bytes": laid.linked_bytes,
        "copied_bytes": laid.copied_bytes,
        "gate": listing.gate_of(source),
    }
    print_facts(facts, f"laid out {prepared.id} in {laid.folder}", as_json=as_json)
    if not as_json:
        for line in _unfit(source):
            note(f"note: {line}")
        note(f"Foundry Local 1 finds it once its cache is that folder: foundry cache cd {folder.absolute()}")
    return 0


def _unfit(folder: Path) -> list[str]:
    """What is to be said of a package that is put where no list of ours shows it."""
    from edgeship.store import listing

    entry = listing.at(folder)
    return [f"the release gate found this package unfit ({entry.gate})"] if entry.is_unfit else []


def _app(current: settings.Settings) -> App:
    from edgeship.foundry.catalog import App

    return App(current.foundry_app, current.foundry_cache_dir)


def _run_command(model_id: str, app: str | None, foundry_cache_dir: Path | None) -> str:
    """How a model is asked; only `foundry run` takes another application, or another folder of it."""
    if app is None and foundry_cache_dir is None:
        return our_command("model", "run", f"foundry:{model_id}")
    where = ["--app", app] if app else []
    where += ["--foundry-cache-dir", str(foundry_cache_dir.absolute())] if foundry_cache_dir else []
    return our_command("foundry", "run", model_id, *where)


def _print_registered(done: Registered, current: settings.Settings, run: str) -> None:
    from edgeship.system.storage import megabytes

    proof = done.proof
    show(f"{'registered' if done.new else 'registered again'} {done.id} in Foundry Local")
    copied = f"{megabytes(done.laid.copied_bytes)} copied, {megabytes(done.laid.linked_bytes)} shared with the package"
    answered = f"{proof.usage.completion_tokens} tokens, the first after {1000 * proof.usage.ttft_s:.0f} ms"
    print_pairs(
        [
            ("application", current.foundry_app),
            ("folder", str(done.laid.folder)),
            ("disk", copied),
            ("threads", str(done.provision.threads)),
            ("context", f"{done.provision.context_tokens:,} tokens"),
            ("proof", f"asked {proof.question!r}: {answered}"),
            ("run it", run),
            ("in Python", f"catalog.get_model_variant({done.id!r})"),
        ]
    )


def _gates(found: Sequence[Registration], cache_dir: Path) -> list[str | None]:
    """What the release gate said of the package that each model was registered from, where it is in the cache.

    Of several names of one package that which it found unfit counts.
    """
    from edgeship.foundry import catalog, layout
    from edgeship.store import listing

    kept = [(entry, entry.manifest) for entry in listing.entries(cache_dir) if entry.manifest] if found else []
    gates = []
    for laid in map(catalog.manifest_of, found):
        entries = [entry for entry, manifest in kept if laid is not None and layout.is_copy(laid, manifest)]
        entry = max(entries, key=lambda entry: (entry.is_unfit, entry.gate is not None), default=None)
        gates.append(entry.gate if entry else None)
    return gates


def _print_registrations(found: Sequence[Registration], gates: Sequence[str | None]) -> None:
    from edgeship.foundry import catalog

    print_table(
        ["NAME", "VERSION", "CONTEXT", "SIZE", "GATE", "NOTE"],
        [
            [
                each.name,
                str(each.version),
                f"{each.context_tokens:,}" if each.context_tokens else "-",
                f"{each.size_mb:,} MB" if each.size_mb else "-",
                gate or "-",
                catalog.fault(each) or "",
            ]
            for each, gate in zip(found, gates, strict=True)
        ],
    )


def _print_listing(listing: Listing) -> None:
    show("\nthe foundry command lists:")
    if listing.problem:
        show(f"  nothing: {listing.problem}")
    for model in listing.models or ():
        show(f"  {model}")
    for line in listing.lines:
        show(f"  {line}")


def _registered_dict(done: Registered, current: settings.Settings) -> dict[str, Any]:
    return {
        "registered": done.id,
        "new": done.new,
        "app": current.foundry_app,
        "foundry_cache_dir": str(current.foundry_cache_dir),
        "folder": str(done.laid.folder),
        "tuning": asdict(done.provision),
        "linked_bytes": done.laid.linked_bytes,
        "copied_bytes": done.laid.copied_bytes,
        "proof": {"question": done.proof.question, "answer": done.proof.answer, "usage": done.proof.usage.to_dict()},
        "notes": list(done.notes),
    }
