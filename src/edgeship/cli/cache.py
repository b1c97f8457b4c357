"""`edgeship cache ...`: the folder where packages live."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeship import settings
from edgeship.cli.config import tell_if_overridden
from edgeship.cli.options import CacheDir, Json, Reference, as_path
from edgeship.cli.output import note, print_facts, print_json, print_table
from edgeship.cli.streams import show
from edgeship.errors import PackageDamaged
from edgeship.system.shell import our_command

if TYPE_CHECKING:
    from edgeship.store.listing import Entry
    from edgeship.store.verification import Verified

EXIT_DAMAGED = PackageDamaged.exit_code
EXIT_UNVERIFIED = 1
_KINDS = {
    "package": ("package is", "packages are"),
    "step": ("finished build step", "finished build steps"),
    "partial work": ("piece of unfinished work", "pieces of unfinished work"),
    "log": ("log", "logs"),
}

CacheFolder = Annotated[Path, typer.Argument(metavar="PATH", parser=as_path)]

app = typer.Typer(no_args_is_help=True, help="The folder where packages live.")


@app.command()
def cd(folder: CacheFolder, as_json: Json = False) -> int:
    """Use this folder as the cache from now on."""
    from edgeship.store import listing, packages

    before = settings.resolve().cache_dir
    found = packages.set_location(settings.resolve(), folder)
    tell_if_overridden("cache_dir")
    left = listing.entries(before) if found != before else []
    if left:
        back = our_command("cache", "cd", str(before))
        note(f"note: {_counted(len(left), 'package')} left in {before}; back to there: {back}")
    return print_facts({"cache_dir": str(found)}, f"the cache is now {found}", as_json=as_json)


@app.command()
def location(cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """Print the cache folder."""
    # Alone on its line, so that scripts can use it.
    folder = str(settings.resolve(cache_dir=cache_dir).cache_dir)
    return print_facts({"cache_dir": folder}, folder, as_json=as_json)


@app.command()
def ls(cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """List the packages in the cache."""
    from edgeship.store import listing
    from edgeship.system.storage import megabytes

    folder = settings.resolve(cache_dir=cache_dir).cache_dir
    entries, found = listing.entries(folder), listing.found_below(folder)
    if as_json:
        facts = {"cache_dir": str(folder), "packages": [entry_dict(entry) for entry in entries]}
        print_json(facts | {"found": list(map(str, found))})
    elif not entries and not found:
        note(f"no packages in {folder}; `edgeship ship CHECKPOINT` makes and installs one")
    elif entries:
        rows = [
            [
                entry.name,
                str(entry.version),
                str(entry.manifest.recipe.get("precision", "")) if entry.manifest else "",
                megabytes(entry.size_bytes),
                (entry.record.installed or "-") if entry.record else "",
                entry.gate or "-",
                entry.problem or entry.note or "",
            ]
            for entry in entries
        ]
        columns = ["NAME", "VERSION", "PRECISION", "SIZE", "INSTALLED", "GATE", "NOTE"]
        if not any(row[-1] for row in rows):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        print_table(columns, rows)
    if found and not as_json:
        show("found beside them, not installed:")
        for path in found:
            show(f"  {path}\n    {our_command('cache', 'add', str(path))}")
    return 0


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(parser=as_path)],
    name: Annotated[
        str | None, typer.Option("--name", help="Install under this name.", show_default="the folder's")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Install it although the release gate found it unfit; it is marked so.")
    ] = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Install a package folder that `build` made, or one of onnxruntime-genai's that another tool made."""
    from edgeship.store import packages

    # Its files are copied, so the folder can go.
    target = settings.resolve(cache_dir=cache_dir).cache_dir
    installed, new = packages.install(folder, target, name=name, force=force)
    said = f"installed {installed.ref}" if new else f"{installed.ref} is installed already, with the same content"
    said += f"; the release gate said: {installed.gate}" if installed.gate else ""
    facts = {
        "installed": installed.ref,
        "new": new,
        "folder": str(installed.folder),
        "gate": gate_dict(installed),
    }
    return print_facts(facts, said, as_json=as_json)


@app.command()
def rm(name: Reference, cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """Remove a package: one version, or all of a name."""
    from edgeship.store import packages

    removed = packages.remove(settings.resolve(cache_dir=cache_dir).cache_dir, name)
    refs = [f"{entry.name}:{entry.version}" for entry in removed]
    return print_facts({"removed": refs}, f"removed {', '.join(refs)}", as_json=as_json)


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME[:VERSION]]", help="A package in the cache; all by default.")
    ] = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Compare packages with their manifests, byte for byte.

    Exit 6 where one is damaged, 1 where the one that is named has no manifest to be compared with.
    """
    from edgeship.store import verification

    results = verification.verify(settings.resolve(cache_dir=cache_dir).cache_dir, name)
    if as_json:
        print_json({"packages": [_verified_dict(result) for result in results]})
    else:
        for result in results:
            show(f"{result.entry.marked_ref}  {_in_words(result)}")
    outcomes = {result.outcome for result in results}
    if "damaged" in outcomes:
        note("try: install the damaged packages again (`edgeship cache rm NAME:VERSION`, then `edgeship ship`)")
        return EXIT_DAMAGED
    if not results:
        note("no packages to verify")
    return EXIT_UNVERIFIED if name is not None and "unverified" in outcomes else 0


def _in_words(result: Verified) -> str:
    if result.outcome == "unverified":
        return f"cannot be verified: {result.note}"
    said = "; ".join(result.faults) or "ok"
    return f"{said} ({result.note})" if result.note else said


def _verified_dict(result: Verified) -> dict[str, Any]:
    return entry_dict(result.entry) | {
        "outcome": result.outcome,
        "faults": list(result.faults),
        "note": result.note,
    }


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Remove what builds keep for the next time: finished steps, work that was cut short, logs. Packages stay."""
    from edgeship.builder import garbage
    from edgeship.store import packages
    from edgeship.system.storage import megabytes, sweep_scratch

    current = settings.resolve(cache_dir=cache_dir)
    items = [(item.kind, item.path, item.size_bytes) for item in garbage.collect(current.builds_dir, dry_run=dry_run)]
    for path, size_bytes in (
        *sweep_scratch(current.home / "work", dry_run=dry_run),
        *packages.sweep(current.cache_dir, dry_run=dry_run),
    ):
        items.append(("partial work", path, size_bytes))
    freed_bytes = sum(size_bytes for _, _, size_bytes in items)
    facts = {
        "dry_run": dry_run,
        "freed_bytes": freed_bytes,
        "items": [{"kind": kind, "path": str(path), "size_bytes": size_bytes} for kind, path, size_bytes in items],
    }
    counts = Counter(kind for kind, _, _ in items)
    said = ", ".join(_counted(count, kind) for kind, count in sorted(counts.items())) or "nothing to remove"
    verb = "would free" if dry_run else "freed"
    return print_facts(facts, f"{verb} {megabytes(freed_bytes)}: {said}", as_json=as_json)


def _counted(count: int, kind: str) -> str:
    one, several = _KINDS[kind]
    return f"{count} {one if count == 1 else several}"


def entry_dict(entry: Entry) -> dict[str, Any]:
    """A package as `--json` prints it."""
    return {
        "name": entry.name,
        "version": entry.version,
        "folder": str(entry.folder),
        "size_bytes": entry.size_bytes,
        "precision": entry.manifest.recipe.get("precision") if entry.manifest else None,
        "installed": entry.record.installed if entry.record else None,
        "digest": entry.package.digest if entry.package else None,
        "gate": gate_dict(entry),
        "note": entry.problem or entry.note,
    }


def gate_dict(entry: Entry) -> dict[str, Any] | None:
    """What the release gate said of it as `--json` prints it; None where nothing is kept."""
    from edgeship.store import attestations

    found = entry.attestation
    if found is None:
        return None
    return {
        "outcome": found.outcome,
        "forced": entry.record is not None and entry.record.forced,
        "in_part": found.in_part,
        "created": found.created,
        "only": list(found.only),
        "off": dict(found.off),
        "checks": {name: asdict(said) for name, said in found.checks.items()},
        "file": str(attestations.path_of(entry.folder)),
    }
