"""Mutations by the thousand, in children that may hang, die or run out of memory; and what came of them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.fuzz.readers import Reader

HANG_S = 20.0
START_S = 120.0
OUTCOMES = ("passed", "refused", "exit 3", "hang", "memory", "message")
FAULTS = OUTCOMES[2:]
SMALL = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""Threads take address space, which is limited."""
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Result:
    """What came of a mutation. detail: the error, where there is one."""

    reader: str
    seed: str
    number: int
    mutation: str
    outcome: str
    detail: str

    @property
    def again(self) -> str:
        """The command that does it once more."""
        return f"python -m tests.fuzz --only {self.reader} --seed {self.seed} --first {self.number} --count 1"


@dataclass
class Tally:
    """What came of mutations, by reader."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Counts one."""
        self.counts.setdefault(result.reader, Counter())[result.outcome] += 1
        if result.outcome in FAULTS:
            self.faults.append(result)

    def table(self) -> str:
        """A row for each reader, and one for all."""
        rows = [["reader", "mutations", *OUTCOMES]]
        every = sum(self.counts.values(), Counter())
        for name, counts in {**self.counts, "all": every}.items():
            rows.append([name, str(counts.total()), *(str(counts[outcome]) for outcome in OUTCOMES)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)

    def findings(self) -> str:
        """The faults, those of one kind together."""
        kinds: dict[tuple[str, str], list[Result]] = {}
        for fault in self.faults:
            kinds.setdefault((fault.outcome, fault.detail), []).append(fault)
        lines = []
        for (outcome, detail), found in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
            lines += [f"{len(found)} x {outcome}: {detail}", f"    {found[0].mutation}", f"    {found[0].again}"]
        return "\n".join(lines)


def run(reader: Reader, seed: str, count: int, first: int = 0, *, hang_s: float = HANG_S) -> Iterator[Result]:
    """What comes of `count` mutations of a reader's input, the same for the same seed.

    A child that hangs or ends is followed by another.
    """
    last = first + count
    while first < last:
        for result in _child(reader, seed, first, last - first, hang_s):
            yield result
            first = result.number + 1


def _child(reader: Reader, seed: str, first: int, count: int, hang_s: float) -> Iterator[Result]:
    command = [sys.executable, "-m", "tests.fuzz.worker", reader.name, seed, str(first), str(count)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=os.environ | SMALL
    )
    assert process.stdout
    assert process.stderr
    lines: queue.Queue[bytes] = queue.Queue()
    errors: list[bytes] = []
    threads = [
        threading.Thread(target=_forward, args=(process.stdout, lines)),
        threading.Thread(target=errors.extend, args=(process.stderr,)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield from _results(reader, seed, lines, hang_s)
    except _Ended as ended:
        returned, said = process.wait(), b"".join(errors[-3:]).decode("utf-8", "replace").strip()
        if ended.begun:
            outcome = "memory" if "alloc" in said else "exit 3"
            yield Result(reader.name, seed, **ended.begun, outcome=outcome, detail=f"it ended with {returned}: {said}")
        elif returned:
            raise RuntimeError(f"{reader.name} did not begin: {b''.join(errors).decode()}") from ended
    finally:
        process.kill()
        for thread in threads:
            thread.join()
        process.wait()


class _Ended(Exception):
    """The child has ended. begun: the mutation that it was at."""

    def __init__(self, begun: dict[str, Any]) -> None:
        super().__init__()
        self.begun = begun


def _results(reader: Reader, seed: str, lines: queue.Queue[bytes], hang_s: float) -> Iterator[Result]:
    """What the child tells, until it is at one for too long. Raises _Ended."""
    begun: dict[str, Any] = {}
    while True:
        try:
            line = lines.get(timeout=hang_s if begun else START_S)
        except queue.Empty:
            assert begun, f"{reader.name} did not begin"
            yield Result(reader.name, seed, **begun, outcome="hang", detail=f"no end within {hang_s:g} s")
            return
        if not line:
            raise _Ended(begun)
        told = json.loads(line)
        if "outcome" in told:
            yield Result(reader.name, seed, **begun, outcome=told["outcome"], detail=told["detail"])
        begun = {} if "outcome" in told else told


def _forward(stream: IO[bytes], lines: queue.Queue[bytes]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(b"")
