"""The child of the harness: `python -m tests.fuzz.worker READER SEED FIRST COUNT`.

A line of JSON for each mutation when it begins and when it has ended. What ends the process, or never ends, is seen by
the parent, which starts another child behind it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

from edgeship.errors import EdgeshipError, MemoryShort
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import BY_NAME, Reader

MOST_BYTES = 2 << 30
MOST_CHARACTERS = 3000
"""Of a message and its hint: many fields may be wrong at once."""
COMMANDS = 0.1
"""The share of mutations that the command line meets."""
TWO = 0.15
"""The share of inputs in which two things are changed."""
OURS = f"{os.sep}edgeship{os.sep}"

Outcome = tuple[str, str]


def main() -> None:
    reader, seed = BY_NAME[sys.argv[1]], sys.argv[2]
    first, count = int(sys.argv[3]), int(sys.argv[4])
    with tempfile.TemporaryDirectory(prefix="edgeship-fuzz-", ignore_cleanup_errors=True) as scratch:
        root = Path(scratch)
        os.environ |= {"EDGESHIP_HOME": str(root / "home"), "EDGESHIP_CONFIG": str(root / "config.toml")}
        (root / "good").mkdir()
        reader.make(root / "good")
        shutil.copytree(root / "good", root / "unchanged")
        reader.read(root / "unchanged")  # what is good passes; and all that is imported is there
        _limit_memory()
        for number in range(first, first + count):
            _one(reader, seed, number, root)


def _one(reader: Reader, seed: str, number: int, root: Path) -> None:
    random = Random(f"{reader.name} {seed} {number}")
    work = root / "work" / "in"
    shutil.copytree(root / "good", work)
    said = _mutated(reader, work, random)
    if random.random() < TWO:
        said += f"; {_mutated(reader, work, random)}"
    command = random.choice(reader.commands) if reader.commands and random.random() < COMMANDS else None
    _tell({"number": number, "mutation": f"{command.split()[0]}: {said}" if command else said})
    before = _peak_bytes()
    try:
        outcome, detail = _run(command.replace("{}", str(work))) if command else _read(lambda: reader.read(work))
    except BaseException as error:  # a panic in Rust is one
        outcome, detail = "memory" if isinstance(error, MemoryError) else "exit 3", _signature(error)
    if _peak_bytes() - before > MOST_BYTES:
        outcome, detail = "memory", detail or "passed"
    shutil.rmtree(root / "work", ignore_errors=True)
    _tell({"number": number, "outcome": outcome, "detail": detail})


def _mutated(reader: Reader, work: Path, random: Random) -> str:
    """Changes one of the files that are still such; says how."""
    whole = [name for name in reader.files if (work / name).is_file() and (work / name).stat().st_size < 1 << 24]
    if not whole:
        return "nothing more"
    file = random.choice(whole)
    return f"{file}: {mutate(work / file, random)}"


def _read(read: Callable[[], object]) -> Outcome:
    try:
        read()
    except EdgeshipError as error:
        if isinstance(error, MemoryShort) and _comes_from_memory(error):
            return "memory", error.what
        text = f"{error.what}{error.hint or ''}"
        if len(text) > MOST_CHARACTERS or not text.replace("\n", "").isprintable():
            return "message", f"{type(error).__name__}: {text[:200]!a} ({len(text)} characters)"
        return "refused", f"{type(error).__name__}: {error.what}"
    return "passed", ""


def _run(command: str) -> Outcome:
    """A command line, in this process; its exit code tells."""
    from edgeship.cli import main as edgeship

    raw = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, encoding="utf-8", errors="replace", write_through=True) for stream in raw)
    stdin = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(b"hello"))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = edgeship(shlex.split(command))
    finally:
        sys.stdin = stdin
    texts = [stream.getvalue().decode("utf-8", "replace") for stream in raw]
    said = texts[1].strip()
    if code == 3:
        return "exit 3", f"{command.split()[0]}: {_logged(said)}"
    if "memory ran out" in said:
        return "memory", said
    shown = [said] if command.startswith("model run") else texts  # an answer is the model's own
    if any(not line.isprintable() for text in shown for line in text.replace("\t", " ").splitlines()):
        return "message", f"{command}: {said[:300]!a}"
    return ("refused", said.partition("\n")[0]) if code else ("passed", "")


def _logged(said: str) -> str:
    """The last place of ours in the log that the message names."""
    what, _, rest = said.partition("\n")
    log = Path(rest.partition("where:")[2].partition("\n")[0].strip())
    with contextlib.suppress(OSError):
        places = [line.strip() for line in log.read_text(encoding="utf-8").splitlines() if OURS in line]
        log.unlink()
        what += f" at {places[-1].rpartition(OURS)[2]}" if places else ""
    return what


def _signature(error: BaseException) -> str:
    """What was raised, and the last place of ours that it came through."""
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if OURS in frame.filename]
    where = f" at {places[-1].filename.rpartition(OURS)[2]}:{places[-1].lineno}" if places else ""
    return f"{type(error).__name__}: {str(error)[:150]!a}{where}"


def _comes_from_memory(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__
    return error is not None


def _tell(values: dict[str, object]) -> None:
    print(json.dumps(values), file=sys.__stdout__, flush=True)


if sys.platform == "linux":
    import resource

    def _limit_memory() -> None:
        """No more address space than now and MOST_BYTES."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def _peak_bytes() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

else:

    def _limit_memory() -> None:
        pass

    def _peak_bytes() -> int:
        return 0


if __name__ == "__main__":
    main()
