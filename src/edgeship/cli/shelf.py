"""`cache ...`, `model ls` and `model info`: what lies in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship import settings
from edgeship.cli.output import note, print_json, print_pairs, print_table
from edgeship.errors import PackageDamaged
from edgeship.package.manifest import Manifest
from edgeship.store import packages
from edgeship.system.storage import megabytes

EXIT_DAMAGED = PackageDamaged.exit_code


def cd(path: Path, *, as_json: bool) -> int:
    """Makes `path` the cache from now on."""
    found = packages.set_location(settings.resolve(), path)
    return _say({"cache_dir": str(found)}, f"the cache is now {found}", as_json=as_json)


def location(*, cache_dir: Path | None, as_json: bool) -> int:
    """Prints the cache folder, alone on its line so that scripts can use it."""
    folder = str(settings.resolve(cache_dir=cache_dir).cache_dir)
    return _say({"cache_dir": folder}, folder, as_json=as_json)


def ls(*, cache_dir: Path | None, as_json: bool) -> int:
    """Lists every package, also those of other tools."""
    folder = settings.resolve(cache_dir=cache_dir).cache_dir
    entries = packages.entries(folder)
    if as_json:
        print_json({"cache_dir": str(folder), "packages": [_entry_dict(entry) for entry in entries]})
    elif not entries:
        note(f"no packages in {folder}; `edgeship ship CHECKPOINT` makes and installs one")
    else:
        rows = [
            [
                entry.name,
                str(entry.version),
                str(entry.manifest.recipe.get("precision", "")) if entry.manifest else "",
                megabytes(entry.size_bytes),
                entry.manifest.created if entry.manifest else "",
                entry.problem or "",
            ]
            for entry in entries
        ]
        columns = ["NAME", "VERSION", "PRECISION", "SIZE", "CREATED", "NOTE"]
        if not any(row[-1] for row in rows):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        print_table(columns, rows)
    return 0


def add(folder: Path, *, name: str | None, cache_dir: Path | None, as_json: bool) -> int:
    """Installs a package folder; its files are copied, so the folder can go."""
    from edgeship.builder import packaging

    def finish(copied: Path, version: int) -> Any:
        return packaging.stamp(copied, version=version, name=name)

    target = settings.resolve(cache_dir=cache_dir).cache_dir
    installed, new = packages.install(folder, target, name=name, finish=finish)
    ref = installed.manifest.ref
    said = f"installed {ref}" if new else f"{ref} is installed already, with the same content"
    return _say({"installed": ref, "new": new, "folder": str(installed.folder)}, said, as_json=as_json)


def rm(ref: str, *, cache_dir: Path | None, as_json: bool) -> int:
    """Removes one version, or all of a name."""
    removed = packages.remove(settings.resolve(cache_dir=cache_dir).cache_dir, ref)
    refs = [f"{entry.name}:{entry.version}" for entry in removed]
    return _say({"removed": refs}, f"removed {', '.join(refs)}", as_json=as_json)


def verify(ref: str | None, *, cache_dir: Path | None, as_json: bool) -> int:
    """Compares packages with their manifests; exit 6 where one is damaged."""
    results = packages.verify(settings.resolve(cache_dir=cache_dir).cache_dir, ref)
    damaged = any(faults for _, faults in results)
    if as_json:
        print_json({"packages": [_entry_dict(entry) | {"faults": faults} for entry, faults in results]})
    else:
        for entry, faults in results:
            print(f"{entry.name}:{entry.version}  {'; '.join(faults) if faults else 'ok'}")
        if damaged:
            note("try: install the damaged packages again (`edgeship cache rm NAME:VERSION`, then `edgeship ship`)")
        elif not results:
            note("no packages to verify")
    return EXIT_DAMAGED if damaged else 0


def info(ref: str, *, cache_dir: Path | None, as_json: bool) -> int:
    """Describes one package."""
    entry = packages.find(settings.resolve(cache_dir=cache_dir).cache_dir, ref)
    if as_json:
        manifest = entry.manifest.model_dump(mode="json") if entry.manifest else None
        print_json(_entry_dict(entry) | {"manifest": manifest})
        return 0
    pairs = [("package", f"{entry.name}:{entry.version}"), ("folder", str(entry.folder))]
    pairs.append(("size", megabytes(entry.size_bytes)))
    if entry.problem:
        pairs.append(("note", entry.problem))
    if entry.manifest:
        pairs.extend(_manifest_pairs(entry.manifest))
    print_pairs(pairs)
    return 0


def _manifest_pairs(manifest: Manifest) -> list[tuple[str, str]]:
    source = manifest.checkpoint
    pairs = [
        ("created", f"{manifest.created} by edgeship {manifest.edgeship_version}"),
        (
            "checkpoint",
            f"{source.get('source')} ({source.get('architecture')}, {source.get('parameters'):,} parameters)",
        ),
        ("adapter", str(manifest.adapter["source"]) if manifest.adapter else "none"),
        ("recipe", ", ".join(f"{key} {value}" for key, value in manifest.recipe.items())),
        ("context", f"{manifest.context_tokens:,} tokens"),
        ("licence", str(source.get("licence") or "not stated")),
    ]
    if manifest.verdict:
        pairs.append(("verdict", "; ".join(manifest.verdict.get("reasons", ()))))
    return pairs


def _entry_dict(entry: packages.Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "version": entry.version,
        "folder": str(entry.folder),
        "size_bytes": entry.size_bytes,
        "precision": entry.manifest.recipe.get("precision") if entry.manifest else None,
        "created": entry.manifest.created if entry.manifest else None,
        "note": entry.problem,
    }


def _say(value: dict[str, Any], text: str, *, as_json: bool) -> int:
    if as_json:
        print_json(value)
    else:
        print(text)
    return 0
