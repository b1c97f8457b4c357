"""`foundry ...`: packages as models of Foundry Local."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeship import settings
from edgeship.cli.look import report
from edgeship.cli.output import note, print_json, print_pairs, print_table, telling
from edgeship.cli.package import foundry_model, package_folder
from edgeship.engine.tune import remembered
from edgeship.foundry import catalog, checks, command, diagnosis, layout
from edgeship.foundry import config as tunings
from edgeship.foundry.catalog import App, Registered
from edgeship.foundry.sdk import Registration
from edgeship.package.names import check_name
from edgeship.system.machine import cores_to_use
from edgeship.system.storage import megabytes


def register(
    name: str,
    *,
    as_name: str | None,
    cache_dir: Path | None,
    threads: int | None,
    context_tokens: int | None,
    app: str | None,
    foundry_cache_dir: Path | None,
    as_json: bool,
) -> int:
    """Checks a package, lays it out for this machine, proves it and puts it into the catalog."""
    current = settings.resolve(
        cache_dir=cache_dir, threads=threads, foundry_app=app, foundry_cache_dir=foundry_cache_dir
    )
    folder = package_folder(name, current.cache_dir)
    with telling(quiet=as_json) as progress:
        progress("checking the package", None)
        candidate = checks.check(folder, name=as_name)
        measured = remembered(current.home, folder)
        cores = current.threads or (measured.threads if measured else cores_to_use(None))
        tuning = tunings.choose(candidate, threads=cores, context_tokens=context_tokens)
        done = catalog.register(candidate, _app(current), tuning, progress=progress)
    if as_json:
        print_json(_registered_dict(done, current))
        return 0
    _print_registered(done, current)
    for line in done.notes:
        note(f"note: {line}")
    return 0


def unregister(ref: str, *, app: str | None, foundry_cache_dir: Path | None, as_json: bool) -> int:
    """Takes one version, or all of a name, out of the catalog."""
    current = settings.resolve(foundry_app=app, foundry_cache_dir=foundry_cache_dir)
    gone = [each.id for each in catalog.unregister(_app(current), foundry_model(ref) or ref)]
    if as_json:
        print_json({"unregistered": gone, "app": current.foundry_app})
    else:
        print(f"took {', '.join(gone)} out of Foundry Local")
    return 0


def ls(*, app: str | None, foundry_cache_dir: Path | None, as_json: bool) -> int:
    """Lists what is registered, whoever registered it, and what the older command lists."""
    current = settings.resolve(foundry_app=app, foundry_cache_dir=foundry_cache_dir)
    found = catalog.registrations(_app(current))
    listing = command.cached()
    if as_json:
        print_json(
            {
                "app": current.foundry_app,
                "foundry_cache_dir": str(current.foundry_cache_dir),
                "models": [_registration_dict(each) for each in found],
                "foundry_command": asdict(listing) if listing else None,
            }
        )
        return 0
    if found:
        print_table(
            ["NAME", "VERSION", "CONTEXT", "SIZE", "NOTE"],
            [
                [
                    each.name,
                    str(each.version),
                    f"{each.context_tokens:,}" if each.context_tokens else "-",
                    f"{each.size_mb:,} MB" if each.size_mb else "-",
                    catalog.fault(each) or "",
                ]
                for each in found
            ],
        )
    else:
        note(
            f"no models are registered for {current.foundry_app} in {current.foundry_cache_dir}; "
            "`edgeship foundry register NAME` registers a package"
        )
    if listing:
        _print_listing(listing)
    return 0


def doctor(*, app: str | None, foundry_cache_dir: Path | None, as_json: bool) -> int:
    """Judges Foundry Local here and what is registered; exit 7 where something would stop the work."""
    current = settings.resolve(foundry_app=app, foundry_cache_dir=foundry_cache_dir)
    return report(diagnosis.examine(_app(current), cores=cores_to_use(current.threads)), as_json=as_json)


def export(
    name: str, folder: Path, *, publisher: str, as_name: str | None, cache_dir: Path | None, as_json: bool
) -> int:
    """Lays a package out as the cache of Foundry Local 1 has it."""
    package = package_folder(name, settings.resolve(cache_dir=cache_dir).cache_dir)
    candidate = checks.check(package, name=as_name)
    checks.require_undamaged(candidate)
    laid = layout.export(candidate, folder.absolute(), check_name(publisher))
    facts = {
        "exported": candidate.id,
        "folder": str(laid.folder),
        "linked_bytes": laid.linked_bytes,
        "copied_bytes": laid.copied_bytes,
    }
    if as_json:
        print_json(facts)
    else:
        print(f"laid out {candidate.id} in {laid.folder}")
        note(f"Foundry Local 1 finds it once its cache is that folder: foundry cache cd {folder.absolute()}")
    return 0


def _app(current: settings.Settings) -> App:
    return App(current.foundry_app, current.foundry_cache_dir)


def _print_registered(done: Registered, current: settings.Settings) -> None:
    proof = done.proof
    print(f"{'registered' if done.new else 'registered again'} {done.id} in Foundry Local")
    copied = f"{megabytes(done.laid.copied_bytes)} copied, {megabytes(done.laid.linked_bytes)} shared with the package"
    answered = f"{proof.usage.completion_tokens} tokens, the first after {1000 * proof.usage.ttft_s:.0f} ms"
    print_pairs(
        [
            ("application", current.foundry_app),
            ("folder", str(done.laid.folder)),
            ("disk", copied),
            ("threads", str(done.tuning.threads)),
            ("context", f"{done.tuning.context_tokens:,} tokens"),
            ("proof", f"asked {proof.question!r}: {answered}"),
            ("run it", f"edgeship model run foundry:{done.id}"),
            ("in Python", f"catalog.get_model_variant({done.id!r})"),
        ]
    )


def _print_listing(listing: command.Listing) -> None:
    print("\nthe foundry command lists:")
    if listing.problem:
        print(f"  nothing: {listing.problem}")
    for model in listing.models or ():
        print(f"  {model}")
    for line in listing.lines:
        print(f"  {line}")


def _registered_dict(done: Registered, current: settings.Settings) -> dict[str, Any]:
    return {
        "registered": done.id,
        "new": done.new,
        "app": current.foundry_app,
        "foundry_cache_dir": str(current.foundry_cache_dir),
        "folder": str(done.laid.folder),
        "tuning": asdict(done.tuning),
        "linked_bytes": done.laid.linked_bytes,
        "copied_bytes": done.laid.copied_bytes,
        "proof": {"question": done.proof.question, "answer": done.proof.answer, "usage": done.proof.usage.to_dict()},
        "notes": list(done.notes),
    }


def _registration_dict(each: Registration) -> dict[str, Any]:
    return asdict(each) | {"id": each.id, "fault": catalog.fault(each)}
