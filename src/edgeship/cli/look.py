"""`doctor` and `inspect`: look, change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship import settings
from edgeship.checkpoint import Checkpoint, inspection, open_checkpoint
from edgeship.cli.output import megabytes, note, print_json, print_pairs, print_table
from edgeship.errors import ResourceError


@dataclass(frozen=True)
class Source:
    """Which checkpoint, and how to read it."""

    checkpoint: str
    adapter: Path | None = None
    revision: str | None = None
    chat_template: Path | None = None
    allow_pickle: bool = False

    def open(self) -> Checkpoint:
        """The checkpoint, checked."""
        return open_checkpoint(
            self.checkpoint,
            adapter=self.adapter,
            revision=self.revision,
            chat_template=self.chat_template,
            allow_pickle=self.allow_pickle,
        )


def doctor(*, cache_dir: Path | None, memory: str | None, as_json: bool) -> int:
    """Judges the machine; exit 7 where something would stop the work."""
    from edgeship.doctor import examine

    examination = examine(settings.resolve(cache_dir=cache_dir, memory=memory))
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
            if check.status != "ok" and check.hint:
                print(f"{check.name}: {check.hint}")
    return 0 if examination.ok else ResourceError.exit_code


def inspect(source: Source, *, memory: str | None, as_json: bool) -> int:
    """Describes a checkpoint and what each precision of it would need."""
    checkpoint = source.open()
    facts, needs = inspection(checkpoint), _needs(checkpoint, memory)
    if as_json:
        print_json(facts | {"precisions": needs})
        return 0
    shown = {key: value for key, value in facts.items() if key == "licence" or value not in (None, [], ())}
    print_pairs([(key.replace("_", " "), _text(value)) for key, value in shown.items()])
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
    from edgeship.build.predict import predict
    from edgeship.machine import this_machine
    from edgeship.recipe import Precision, Recipe

    machine = this_machine(settings.resolve(memory=memory).memory_bytes)
    needs = []
    for precision in Precision:
        prediction = predict(checkpoint, Recipe(precision=precision))
        needs.append(
            {
                "precision": precision.value,
                "size_bytes": prediction.size_bytes,
                "build_peak_memory_bytes": prediction.build_peak_memory_bytes,
                "run_memory_bytes": prediction.run_memory_bytes,
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
