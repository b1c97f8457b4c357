"""Measures one package in a process of its own, so that the memory counted is that package's alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from edgeship.engine.api import Constraint, Engine
from edgeship.errors import EngineFailed
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.measurement import Measurement
from edgeship.progress import Progress, silent
from edgeship.system import child, memory, worker

if TYPE_CHECKING:
    from edgeship.measure.agreement.fidelity import Fidelity
    from edgeship.measure.agreement.worst_tokens import WorstToken


@dataclass(frozen=True)
class ProbeOptions:
    """What to measure.

    cases: to be answered. constraint: what their answers are held to.
    reference: predictions to be held against, as `measure.reference` writes them.
    prompt_tokens, new_tokens, repeats: of the speed test.
    """

    cases: tuple[EvalCase, ...] = ()
    reference: Path | None = None
    prompt_tokens: int = 512
    new_tokens: int = 64
    repeats: int = 3
    engine: str = "auto"
    constraint: Constraint | None = None


def probe(
    folder: Path, options: ProbeOptions, *, threads: int | None = None, progress: Progress = silent
) -> Measurement:
    """The measurement of the package in `folder`. `threads` None uses every core that the machine grants.

    Raises EngineFailed or MemoryShort where the measuring process dies, and any error of ours that it ends with.
    """
    order = {
        "folder": str(folder.absolute()),
        "threads": threads,
        "options": TypeAdapter(ProbeOptions).dump_python(options, mode="json", by_alias=True),
    }
    try:
        return Measurement.from_dict(child.run("edgeship.measure.probe", order, progress=progress))
    except child.Died as death:
        hint = "Check the package with `edgeship cache verify`."
        raise death.as_error(EngineFailed, "the measuring process", where=str(folder), hint=hint) from death


def measure(folder: Path, options: ProbeOptions, threads: int | None, progress: Progress = silent) -> Measurement:
    """Measures in this process; its memory counts all that the process did before."""
    from edgeship.engine import opening
    from edgeship.measure import speed
    from edgeship.measure.evaluation.evaluate import evaluate, slots_for
    from edgeship.system.machine import OthersWork, cores_to_use

    sizes = _sizes(folder)
    progress("loading", None)
    others = OthersWork()
    slots = slots_for(options.cases) if options.cases else 1
    start = time.perf_counter()
    with opening.load(folder, threads=threads, engine=options.engine, slots=slots) as engine:
        load_s, rss = time.perf_counter() - start, _rss_bytes()
        measured_speed = speed.measure(engine, options.prompt_tokens, options.new_tokens, options.repeats, progress)
        evaluation = evaluate(engine, options.cases, progress, options.constraint) if options.cases else None
        peak, busy = memory.peak_memory_bytes(), others.share()
        fidelity, worst = _fidelity(engine, options.reference, progress) if options.reference else (None, ())
    return Measurement(
        threads=cores_to_use(threads),
        size_bytes=sizes[0],
        package_bytes=sizes[1],
        load_s=load_s,
        rss_after_load_bytes=rss,
        peak_memory_bytes=peak,
        speed=measured_speed,
        fidelity=fidelity,
        evaluation=evaluation,
        busy=busy,
        worst_tokens=worst,
    )


def _fidelity(engine: Engine, path: Path, progress: Progress) -> tuple[Fidelity | None, tuple[WorstToken, ...]]:
    import numpy as np

    from edgeship.measure.agreement.fidelity import score, summarise
    from edgeship.measure.agreement.reference import read_texts
    from edgeship.measure.agreement.worst_tokens import WorstTokens

    scores, worst = [], WorstTokens(engine.codec)
    for number, text in enumerate(read_texts(path), 1):
        progress(f"agreement with the reference, text {number}", None)
        # What is after a token predicts the next one; the last token predicts none that is known.
        logits = engine.score(text.tokens[:-1], text.first_scored - 1)
        scores.append(score(text.predictions, logits, np.array(text.tokens[text.first_scored :])))
        worst.add(text, scores[-1], logits)
    # A reference whose texts were all too long says nothing.
    return (summarise(scores), worst.worst_first()) if scores else (None, ())


def _sizes(folder: Path) -> tuple[int, int]:
    """Bytes of the model's files, and of all files."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return sum(size for path, size in sizes.items() if ".onnx" in path.name), sum(sizes.values())


def _rss_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _work(order: dict[str, Any], progress: Progress) -> dict[str, Any]:
    options = TypeAdapter(ProbeOptions).validate_python(order["options"])
    return measure(Path(order["folder"]), options, order["threads"], progress).to_dict()


if __name__ == "__main__":
    worker.serve(_work)
