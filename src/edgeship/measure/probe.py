"""Measures one package in a process of its own, so that the memory counted is that package's alone.

`python -m edgeship.measure.probe` is the child: one line of JSON on stdin is its job, the last line of stdout
its result, JSON lines on stderr its progress. It ends when stdin closes, so it cannot outlive its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgeship.engine.api import Engine
from edgeship.errors import EdgeshipError, EngineFailed, all_errors
from edgeship.measure.measurement import Measurement
from edgeship.progress import Progress, silent

if TYPE_CHECKING:
    from edgeship.measure.fidelity import Fidelity

_SIGKILL = 9
_TAIL_LINES = 20
_PROGRESS = "edgeship-progress"


@dataclass(frozen=True)
class Job:
    """What to measure.

    eval_file: cases to answer, at most eval_limit of them, taken evenly.
    reference: logits of the original, as `edgeship.original` writes them.
    prompt_tokens, new_tokens, repeats: of the speed test.
    """

    eval_file: Path | None = None
    eval_limit: int | None = None
    reference: Path | None = None
    prompt_tokens: int = 512
    new_tokens: int = 64
    repeats: int = 3
    engine: str = "genai"


def probe(folder: Path, job: Job, *, threads: int | None = None, progress: Progress = silent) -> Measurement:
    """The measurement of the package in `folder`. `threads` None uses every core that the machine grants.

    Raises EngineFailed where the child dies or says nothing, and whatever error of ours it ended with.
    """
    order = {"folder": str(folder.absolute()), "threads": threads, "job": asdict(job)}
    code, stdout, tail = _run_child(json.dumps(order, default=str), progress)
    result = _result(stdout)
    if "error" in result:
        raise _revive(result["error"])
    # A whole result counts even where a native library fell over while the child ended.
    if "measurement" not in result:
        raise _died(folder, code, tail)
    return Measurement.from_dict(result["measurement"])


def _run_child(order: str, progress: Progress) -> tuple[int, str, list[str]]:
    """Exit status, stdout, and the last lines of stderr that are not progress."""
    child = subprocess.Popen(
        # -P: a module of the user's in the working directory must not stand in for one of ours.
        [sys.executable, "-P", "-m", "edgeship.measure.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"PYTHONUTF8": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    output: list[str] = []
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    # Both pipes are drained at the same time, or a child that fills one would wait for ever.
    reader = threading.Thread(target=lambda stream: output.append(stream.read()), args=(child.stdout,), daemon=True)
    reader.start()
    try:
        _send(child.stdin, order)
        for line in child.stderr:
            _relay(line, progress, tail)
        code = child.wait()
    finally:
        child.kill()
        child.wait()
        reader.join()
        for stream in (child.stdin, child.stdout, child.stderr):
            _close(stream)
    return code, "".join(output), list(tail)


def _send(stream: IO[str], order: str) -> None:
    try:
        stream.write(order + "\n")
        stream.flush()
    except OSError:
        pass  # The child is gone already; its exit status and stderr say why.


def _close(stream: IO[str]) -> None:
    with contextlib.suppress(OSError):  # Bytes that a dead child never read.
        stream.close()


def _relay(line: str, progress: Progress, tail: deque[str]) -> None:
    if line.startswith(f'{{"{_PROGRESS}"'):
        message, fraction = json.loads(line)[_PROGRESS]
        progress(message, fraction)
    elif line.strip():
        tail.append(line.strip())


def _result(stdout: str) -> dict[str, Any]:
    lines = stdout.strip().splitlines()
    try:
        result = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}


def _revive(error: dict[str, Any]) -> EdgeshipError:
    kind = {known.code: known for known in all_errors()}.get(error["code"], EdgeshipError)
    return kind(error["what"], where=error["where"], hint=error["hint"])


def _died(folder: Path, code: int, tail: list[str]) -> EngineFailed:
    last = f": {tail[-1]}" if tail else ""
    if code == -_SIGKILL:
        return EngineFailed(
            "the measuring process was killed, most likely by the system for want of memory" + last,
            where=str(folder),
            hint="Close other programs or take a machine with more memory: `edgeship inspect` predicts it.",
        )
    how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
    return EngineFailed(
        f"the measuring process {how} and left no result{last}",
        where=str(folder),
        hint="Check the package with `edgeship cache verify`.",
    )


# --- the child ------------------------------------------------------------------------------------------


def main() -> int:
    """The child's whole life."""
    order = json.loads(_read_line())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        measurement = measure(Path(order["folder"]), _job(order["job"]), order["threads"], _tell)
        result: dict[str, Any] = {"measurement": measurement.to_dict()}
    except EdgeshipError as error:
        result = {"error": error.to_dict()}
    # On a line of its own, whatever a native library left on this one.
    print("\n" + json.dumps(result), flush=True)
    return 0


def measure(folder: Path, job: Job, threads: int | None, progress: Progress = silent) -> Measurement:
    """Measures in this process; its memory counts all that the process did before."""
    from edgeship import engine as engines
    from edgeship.machine import usable_cores
    from edgeship.measure import speed
    from edgeship.measure.evalset import read_evalset, spread
    from edgeship.measure.evaluate import evaluate

    # Read first: a faulty file should not cost a load.
    cases = spread(read_evalset(job.eval_file), job.eval_limit) if job.eval_file else ()
    sizes = _sizes(folder)
    progress("loading", None)
    start = time.perf_counter()
    engine = engines.load(folder, threads=threads, engine=job.engine)
    load_s, rss = time.perf_counter() - start, _rss_bytes()
    try:
        measured_speed = speed.measure(engine, job.prompt_tokens, job.new_tokens, job.repeats, progress)
        evaluation = evaluate(engine, cases, progress) if cases else None
        peak = peak_memory_bytes()
        fidelity = _fidelity(engine, job.reference, progress) if job.reference else None
    finally:
        engine.close()
    return Measurement(
        threads=threads or usable_cores(),
        size_bytes=sizes[0],
        package_bytes=sizes[1],
        load_s=load_s,
        rss_after_load_bytes=rss,
        peak_memory_bytes=peak,
        speed=measured_speed,
        fidelity=fidelity,
        evaluation=evaluation,
    )


def peak_memory_bytes() -> int:
    """The most physical memory this process ever held."""
    # Linux hands getrusage's ru_maxrss down through exec: a big parent's child would show the parent's peak.
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _fidelity(engine: Engine, path: Path, progress: Progress) -> Fidelity:
    import numpy as np

    from edgeship.measure.fidelity import score_logits, summarise
    from edgeship.original import read_texts

    scores = []
    for number, text in enumerate(read_texts(path), 1):
        progress(f"agreement with the original, text {number}", None)
        # Row i of an engine's scores predicts token i + 1.
        logits = engine.score(text.tokens)[text.first_scored - 1 : -1]
        scores.append(score_logits(text.logits, logits, np.array(text.tokens[text.first_scored :])))
    return summarise(scores)


def _sizes(folder: Path) -> tuple[int, int]:
    """Bytes of the model's files, and of all files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if ".onnx" in path.name), sum(
        path.stat().st_size for path in files
    )


def _rss_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _job(values: dict[str, Any]) -> Job:
    from pydantic import TypeAdapter

    return TypeAdapter(Job).validate_python(values)


def _tell(message: str, fraction: float | None = None) -> None:
    print(json.dumps({_PROGRESS: [message, fraction]}), file=sys.stderr, flush=True)


def _read_line() -> bytes:
    # Not through sys.stdin: a thread that waits in its buffer would hold a lock the interpreter needs to end.
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            sys.exit("no job on stdin")
        line += chunk
    return line


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
