"""`edgeship model info`: all that is known of a package, from its folder, its record and this machine's tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeship import settings
from edgeship.cli import cache
from edgeship.cli.options import CacheDir, Json, PackageArgument
from edgeship.cli.output import print_json, print_pairs
from edgeship.errors import EdgeshipError
from edgeship.system.shell import our_command

if TYPE_CHECKING:
    from edgeship.package.genai_config import GenaiConfig
    from edgeship.package.manifest import Manifest
    from edgeship.store.listing import Entry
    from edgeship.store.record import Record

Pairs = list[tuple[str, str]]


def info(name: PackageArgument, cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """Describe a package: what it is made of, how it is prompted and sampled, how it measured."""
    from edgeship import targets
    from edgeship.store import listing
    from edgeship.system.storage import megabytes

    current = settings.resolve(cache_dir=cache_dir)
    target = targets.resolve(name, current)
    if target.kind == "package":
        entry = listing.find(current.cache_dir, target.name)
    else:
        entry = listing.at(target.package_folder())
    answering = _answering(entry)
    if as_json:
        print_json(_as_dict(entry) | answering)
        return 0
    pairs = [("package", entry.ref), ("folder", str(entry.folder)), ("size", megabytes(entry.size_bytes))]
    if entry.problem or entry.note:
        pairs.append(("note", str(entry.problem or entry.note)))
    if entry.package:
        pairs += [*_made_of(entry.package.manifest), ("digest", entry.package.digest)]
    pairs += [(key, _in_words(value)) for key, value in answering.items() if key != "template"]
    pairs += _tuned(entry, current)
    if entry.record:
        pairs += _measured(entry.record)
    pairs += _attested(entry)
    print_pairs([*pairs, ("run it", our_command("model", "run", _shortest(entry, target.kind)))])
    return 0


def _as_dict(entry: Entry) -> dict[str, Any]:
    return cache.entry_dict(entry) | {
        "manifest": entry.manifest.model_dump(mode="json") if entry.manifest else None,
        "measurements": entry.record.measurements if entry.record else None,
        "verdict": entry.record.verdict if entry.record else None,
    }


def _made_of(manifest: Manifest) -> Pairs:
    from edgeship.package.manifest import parameters_in_words

    source, adapter = manifest.checkpoint, manifest.adapter
    made = [
        ("made by", _maker(manifest)),
        ("checkpoint", f"{_which(source)} ({source.get('architecture')}{parameters_in_words(source)})"),
        ("adapter", f"{_which(adapter)} (rank {adapter.get('rank')})" if adapter else "none"),
        ("recipe", ", ".join(f"{key} {value}" for key, value in manifest.recipe.items())),
        ("licence", str(source.get("licence") or "not stated")),
    ]
    return [(label, text) for label, text in made if text]


def _maker(manifest: Manifest) -> str:
    from edgeship.package.manifest import ANOTHER_TOOL

    builder = str(manifest.build.get("builder"))
    return builder if builder == ANOTHER_TOOL else f"edgeship {manifest.edgeship_version}, builder {builder}"


def _which(described: Mapping[str, Any]) -> str:
    """The Hub's id of a checkpoint, or else the digest by which its like is known."""
    digest = described.get("digest")
    return str(described.get("source") or (f"SHA-256 {str(digest)[:12]}" if digest else "not known"))


def _answering(entry: Entry) -> dict[str, Any]:
    """How the model is asked and answers; a folder that cannot be read says why instead."""
    from edgeship.package import DAMAGED, genai_config, template, tokenizer
    from edgeship.package.tool_prompts import chosen_for

    try:
        config = genai_config.read(entry.folder, DAMAGED)
        files = tokenizer.read(entry.folder, DAMAGED)
        found = template.find(entry.folder, files.config)
    except EdgeshipError as error:
        return {"cannot be run": error.what}
    tokens = tuple(files.special_tokens.items())
    own_format = chosen_for(found, tokens).own_format if found else None
    return {
        "context": f"{config.context_tokens:,} tokens",
        "sampling": _sampling(config),
        "chat template": {
            "characters": len(found) if found else 0,
            "system role": found is not None and template.takes_instructions(found, tokens),
            "tools": own_format is not None,
            **({"tool_format": own_format} if own_format else {}),
            "thinking": found is not None and "think" in found,
        },
        "template": found,
    }


def _sampling(config: GenaiConfig) -> dict[str, Any]:
    from edgeship.engine.sampling import defaults_of

    defaults = defaults_of(config.search)
    shown = ("temperature", "top_p", "top_k") if defaults.temperature else ()
    values: dict[str, Any] = {"greedy": not shown} | {name: getattr(defaults, name) for name in shown}
    if defaults.repetition_penalty != 1:
        values["repetition_penalty"] = defaults.repetition_penalty
    return values


def _tuned(entry: Entry, current: settings.Settings) -> Pairs:
    from edgeship.engine.tune import remembered

    tuning = remembered(current.home, entry.folder)
    if tuning is None:
        return []
    speed = 1 / tuning.chosen.new_token_s
    return [("tuned here", f"{tuning.threads} threads, {speed:,.1f} tokens/s ({tuning.measured_at})")]


def _measured(record: Record) -> Pairs:
    from edgeship.measure.measurement import figures

    pairs = [("installed", record.installed)] if record.installed else []
    pairs += figures(record.measurements or {})
    if record.verdict:
        pairs.append(("verdict", "; ".join(record.verdict.get("reasons", ()))))
    return pairs


def _attested(entry: Entry) -> Pairs:
    """What the release gate said, and of how much of the package."""
    found = entry.attestation
    if found is None:
        return [("gate", "not known: `edgeship validate` tells")]
    looked = len(found.checks) - len(found.of("skipped"))
    made = f"{looked} of {len(found.checks)} checks, {found.effort} effort, {found.created}"
    pairs = [("gate", f"{entry.gate} ({made})")]
    for label, named in (("gate fails", found.of("fail")), ("gate undecided", found.of("undecided"))):
        if named:
            pairs.append((label, ", ".join(named)))
    if found.only:
        pairs.append(("gate asked for", ", ".join(found.only)))
    if found.off:
        pairs.append(("gate turned off", "; ".join(f"{name}: {reason}" for name, reason in found.off.items())))
    for name, said in found.checks.items():
        if said.changed:
            why = f": {said.why}" if said.why else ""
            pairs.append((f"gate bounds, {name}", f"{', '.join(said.changed)}{why}"))
    return pairs


def _shortest(entry: Entry, kind: str) -> str:
    return entry.name if kind == "package" else str(entry.folder)


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_in_words(item)}" for key, item in value.items())
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
