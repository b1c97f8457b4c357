"""`edgeship model ...`: list, describe and run packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from edgeship import settings
from edgeship.cli import cache, model_run
from edgeship.cli.options import CacheDir, Json, Reference
from edgeship.cli.output import print_json, print_pairs

if TYPE_CHECKING:
    from edgeship.package.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="List, describe and run packages.")


@app.command()
def ls(cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """List the models that can be run."""
    return cache.ls(cache_dir=cache_dir, as_json=as_json)


@app.command()
def info(name: Reference, cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """Describe a package: what it is made of, how it measured, how it is prompted."""
    from edgeship.store import packages
    from edgeship.system.storage import megabytes

    entry = packages.find(settings.resolve(cache_dir=cache_dir).cache_dir, name)
    if as_json:
        manifest = entry.manifest.model_dump(mode="json") if entry.manifest else None
        print_json(cache.entry_dict(entry) | {"manifest": manifest})
        return 0
    pairs = [("package", f"{entry.name}:{entry.version}"), ("folder", str(entry.folder))]
    pairs.append(("size", megabytes(entry.size_bytes)))
    if entry.problem:
        pairs.append(("note", entry.problem))
    if entry.manifest:
        pairs.extend(_manifest_pairs(entry.manifest))
    print_pairs(pairs)
    return 0


app.command("run")(model_run.run)


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
