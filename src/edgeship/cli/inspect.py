"""`edgeship inspect`: what a checkpoint is, and what each precision of it would need."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeship import settings
from edgeship.cli.options import CheckpointArgument, CheckpointOptions, Json, Memory, grouped
from edgeship.cli.output import note, print_json, print_pairs, print_table
from edgeship.cli.streams import show
from edgeship.errors import EdgeshipError

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint


@grouped
def inspect(
    *,
    checkpoint: CheckpointArgument,
    reading: CheckpointOptions,
    memory: Memory = None,
    as_json: Json = False,
) -> int:
    """Describe a checkpoint, and predict what each precision will need."""
    from edgeship.builder.description import describe
    from edgeship.checkpoint.inspection import inspection

    opened = reading.open(checkpoint)
    facts = _after_layers(inspection(opened), describe(opened))
    try:
        needs = _needs(opened, memory)
    except EdgeshipError as error:  # that it cannot be built is a finding, and no reason not to describe it
        note(f"cannot be built: {error.what}. {error.hint or ''}".rstrip())
        needs = []
    findings = _findings(opened)
    for finding in findings:
        note(f"note: {finding}")
    if as_json:
        print_json(facts | {"precisions": needs, "findings": findings})
        return 0
    shown = {key: value for key, value in facts.items() if key == "licence" or value not in (None, [], ())}
    if kinds := facts.get("layer_kinds"):
        shown["layer_kinds"] = [f"{count} with {kind}" for kind, count in kinds.items()]
    print_pairs([(key.replace("_", " "), _text(value)) for key, value in shown.items()])
    if needs:
        show()
        _print_needs(needs)
    return 0


def _after_layers(facts: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """Both, in the order in which they are read."""
    at = list(facts).index("layers") + 1
    return dict([*list(facts.items())[:at], *described.items(), *list(facts.items())[at:]])


def _findings(checkpoint: Checkpoint) -> list[str]:
    """What a package of it will lack, and for whom it will not be."""
    from edgeship import readers
    from edgeship.builder import packaging

    try:
        return [*packaging.require_packable(checkpoint), *readers.notes(readers.spell(checkpoint))]
    except EdgeshipError as error:
        return [f"{error.what}. {error.hint or ''}".rstrip()]


def _print_needs(needs: list[dict[str, Any]]) -> None:
    from edgeship.system.storage import megabytes

    rows = [
        [
            str(need["precision"]),
            megabytes(need["size_bytes"]),
            megabytes(need["build_peak_memory_bytes"]),
            megabytes(need["run_memory_bytes"]),
            "yes" if need["builds_here"] else "no",
            "yes" if need["runs_here"] else "no",
        ]
        for need in needs
    ]
    print_table(["PRECISION", "SIZE", "MEMORY TO BUILD", "MEMORY TO RUN", "BUILDS HERE", "RUNS HERE"], rows)
    note("sizes and memory are predicted; `edgeship ship` measures them")


def _needs(checkpoint: Checkpoint, memory: str | None) -> list[dict[str, Any]]:
    """Predictions for each precision, by the builder that would build it."""
    from edgeship import builder as builds
    from edgeship.recipe import Precision, Recipe
    from edgeship.system.machine import this_machine

    machine = this_machine(settings.resolve(memory=memory).memory_bytes)
    needs = []
    for precision in Precision:
        recipe, prediction = builds.prediction(checkpoint, Recipe(precision=precision))
        needs.append(
            {
                "precision": precision.value,
                "builder": recipe.builder,
                **asdict(prediction),
                "builds_here": prediction.build_peak_memory_bytes <= machine.memory_available_bytes,
                "runs_here": prediction.run_memory_bytes <= machine.memory_available_bytes,
            }
        )
    return needs


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_text(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "not stated"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
