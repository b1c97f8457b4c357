"""`doctor` and `inspect`: look, change nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import settings
from edgeship.checkpoint import Checkpoint, inspection, open_checkpoint
from edgeship.cli.output import note, print_json, print_pairs, print_table
from edgeship.errors import EdgeshipError, ResourceError, UsageError
from edgeship.system.storage import megabytes

if TYPE_CHECKING:
    from edgeship.doctor import Examination


@dataclass(frozen=True)
class Source:
    """Which checkpoint, and how to read it. checkpoint: None where none was given."""

    checkpoint: str | None
    adapter: Path | None = None
    revision: str | None = None
    chat_template: Path | None = None
    allow_pickle: bool = False

    def open(self) -> Checkpoint:
        """The checkpoint, checked. Raises UsageError where there is none, and what `open_checkpoint` raises."""
        if self.checkpoint is None:
            raise UsageError("no checkpoint is given", hint="Give a folder or a Hub id; see --help.")
        return open_checkpoint(
            self.checkpoint,
            adapter=self.adapter,
            revision=self.revision,
            chat_template=self.chat_template,
            allow_pickle=self.allow_pickle,
        )


def doctor(*, cache_dir: Path | None, memory: str | None, as_json: bool) -> int:
    """Judges the machine; exit 7 where something would stop the work."""
    from edgeship.cli.tune import untuned
    from edgeship.doctor import examine

    current = settings.resolve(cache_dir=cache_dir, memory=memory)
    return report(examine(current, untuned=untuned(current)), as_json=as_json)


def report(examination: Examination, *, as_json: bool) -> int:
    """Prints findings; exit 7 where one would stop the work."""
    if as_json:
        checks = [
            {"name": check.name, "status": check.status, "detail": check.detail, "hint": check.hint}
            for check in examination.checks
        ]
        print_json({"ok": examination.ok, "checks": checks})
    else:
        rows = [[check.status, check.name, check.detail] for check in examination.checks]
        print_table(["STATUS", "CHECK", "FOUND"], rows)
        for check in examination.checks:
            if check.hint:
                print(f"{check.name}: {check.hint}")
    return 0 if examination.ok else ResourceError.exit_code


def inspect(source: Source, *, memory: str | None, as_json: bool) -> int:
    """Describes a checkpoint and what each precision of it would need."""
    checkpoint = source.open()
    facts = inspection(checkpoint)
    try:
        needs = _needs(checkpoint, memory)
    except EdgeshipError as error:  # that it cannot be built is a finding, and no reason not to describe it
        note(f"cannot be built: {error.what}. {error.hint or ''}".rstrip())
        needs = []
    if as_json:
        print_json(facts | {"precisions": needs})
        return 0
    shown = {key: value for key, value in facts.items() if key == "licence" or value not in (None, [], ())}
    print_pairs([(key.replace("_", " "), _text(value)) for key, value in shown.items()])
    if not needs:
        return 0
    print()
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
    return 0


def _needs(checkpoint: Checkpoint, memory: str | None) -> list[dict[str, Any]]:
    """Predictions for each precision, by the builder that would build it."""
    from edgeship import builder as builds
    from edgeship.recipe import Precision, Recipe
    from edgeship.system.machine import this_machine

    machine = this_machine(settings.resolve(memory=memory).memory_bytes)
    needs = []
    for precision in Precision:
        # Not a whole plan: its keys would read all weights.
        recipe, _ = builds.choose_builder(checkpoint, Recipe(precision=precision))
        builder = builds.BUILDERS[recipe.builder]
        builder.check(checkpoint, recipe)
        prediction = builder.predict(checkpoint, recipe)
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
