"""The child process in which the result of a builder that works elsewhere answers a token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship.builder import onnx_model
from edgeship.errors import BuilderFailed
from edgeship.progress import Progress
from edgeship.system import child, memory, worker


def require_answers(folder: Path) -> int:
    """See `onnx_model.require_answers`; the child's peak memory in bytes."""
    try:
        result = child.run("edgeship.builder.answer_worker", {"folder": str(folder)})
    except child.Died as death:
        raise death.as_error(BuilderFailed, "the first run of what was built", where=str(folder)) from death
    return int(result["peak_memory_bytes"])


def work(job: dict[str, Any], _: Progress) -> dict[str, Any]:
    """Job: folder."""
    onnx_model.require_answers(Path(job["folder"]))
    return {"peak_memory_bytes": memory.peak_memory_bytes()}


if __name__ == "__main__":
    worker.serve(work)
