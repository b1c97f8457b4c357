"""`edgeship model ...`: list, describe and run packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from edgeship import settings
from edgeship.cli import cache, model_run
from edgeship.cli.options import CacheDir, Json, Reference
from edgeship.cli.output import print_json, print_pairs

if TYPE_CHECKING:
    from edgeship.package.manifest import Manifest
    from edgeship.store.packages import Entry
    from edgeship.store.record import Record

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
        print_json(_info_dict(entry))
        return 0
    pairs = [("package", f"{entry.name}:{entry.version}"), ("folder", str(entry.folder))]
    pairs.append(("size", megabytes(entry.size_bytes)))
    if entry.problem or entry.note:
        pairs.append(("note", str(entry.problem or entry.note)))
    if entry.package and entry.record:
        pairs.extend(_manifest_pairs(entry.package.manifest))
        pairs.append(("digest", entry.package.digest))
        pairs.extend(_record_pairs(entry.record))
    print_pairs(pairs)
    return 0


app.command("run")(model_run.run)


def _info_dict(entry: Entry) -> dict[str, Any]:
    return cache.entry_dict(entry) | {
        "manifest": entry.manifest.model_dump(mode="json") if entry.manifest else None,
        "measurements": entry.record.measurements if entry.record else None,
        "verdict": entry.record.verdict if entry.record else None,
    }


def _manifest_pairs(manifest: Manifest) -> list[tuple[str, str]]:
    source, adapter = manifest.checkpoint, manifest.adapter
    return [
        ("made by", f"edgeship {manifest.edgeship_version}"),
        (
            "checkpoint",
            f"{_which(source)} ({source.get('architecture')}, {source.get('parameters'):,} parameters)",
        ),
        ("adapter", f"{_which(adapter)} (rank {adapter.get('rank')})" if adapter else "none"),
        ("recipe", ", ".join(f"{key} {value}" for key, value in manifest.recipe.items())),
        ("context", f"{manifest.context_tokens:,} tokens"),
        ("licence", str(source.get("licence") or "not stated")),
    ]


def _which(described: Mapping[str, Any]) -> str:
    """The Hub's id of a checkpoint, or else the digest by which its like is known."""
    return str(described.get("source") or f"SHA-256 {str(described.get('digest'))[:12]}")


def _record_pairs(record: Record) -> list[tuple[str, str]]:
    from edgeship.measure.measurement import figures

    pairs = [("installed", record.installed or "-"), *figures(record.measurements or {})]
    if record.verdict:
        pairs.append(("verdict", "; ".join(record.verdict.get("reasons", ()))))
    return pairs
