"""Mutations by the thousand, in children that may hang, die or run out of memory; and what came of them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.readers import BY_NAME, Reader

HANG_S = 20.0
START_S = 120.0
OUTCOMES = ("passed", "refused", "exit 3", "hang", "memory", "message")
FAULTS = OUTCOMES[2:]
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Fault:
    """A mutation that was neither taken nor refused as it should be."""

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
    faults: list[Fault] = field(default_factory=list)

    def table(self) -> str:
        """A row for each reader, and one for all."""
        rows = [["reader", "mutations", *OUTCOMES]]
        total: Counter[str] = Counter()
        for name, counts in self.counts.items():
            rows.append([name, str(counts.total()), *(str(counts[outcome]) for outcome in OUTCOMES)])
            total += counts
        rows.append(["all", str(total.total()), *(str(total[outcome]) for outcome in OUTCOMES)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(line))
            for line in (zip(row, widths, strict=True) for row in rows)
        )

    def findings(self) -> str:
        """The faults, those of one kind together."""
        kinds: dict[tuple[str, str], list[Fault]] = {}
        for fault in self.faults:
            kinds.setdefault((fault.outcome, fault.detail), []).append(fault)
        lines = []
        for (outcome, detail), found in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
            lines += [f"{len(found)} x {outcome}: {detail}", f"    {found[0].mutation}", f"    {found[0].again}"]
        return "\n".join(lines)


def run(readers: Iterable[str], seed: str, count: int, first: int = 0, *, verbose: bool = False) -> Tally:
    """`count` mutations of each reader's input, the same for the same seed."""
    tally = Tally()
    for reader in (BY_NAME[name] for name in readers):
        counts = tally.counts.setdefault(reader.name, Counter())
        for fault in _mutations(reader, seed, first, count):
            counts[fault.outcome] += 1
            if fault.outcome in FAULTS:
                tally.faults.append(fault)
            if verbose:
                print(f"{fault.reader} {fault.number}: {fault.mutation} -> {fault.outcome} {fault.detail}", flush=True)
    return tally


def _mutations(reader: Reader, seed: str, first: int, count: int) -> Iterator[Fault]:
    """What came of each; a child that hangs or ends is followed by another."""
    last = first + count
    while first < last:
        for ended in _child(reader, seed, first, last - first):
            yield ended
            first = ended.number + 1


def _child(reader: Reader, seed: str, first: int, count: int) -> Iterator[Fault]:
    command = [sys.executable, "-m", "tests.fuzz.worker", reader.name, seed, str(first), str(count)]
    # numpy's threads take address space, which is limited.
    limits = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=os.environ | limits
    )
    assert process.stdout
    assert process.stderr
    lines: queue.Queue[bytes] = queue.Queue()
    errors: list[bytes] = []
    threads = [
        threading.Thread(target=_forward, args=(process.stdout, lines)),
        threading.Thread(target=lambda: errors.extend(process.stderr or ())),
    ]
    for thread in threads:
        thread.start()
    begun: dict[str, Any] | None = None
    try:
        while True:
            try:
                line = lines.get(timeout=HANG_S if begun else START_S)
            except queue.Empty:
                assert begun, f"{reader.name} did not start"
                yield _fault(reader, seed, begun, "hang", f"no end within {HANG_S:g} s")
                return
            if not line:
                if begun:
                    process.wait()
                    said = b"".join(errors[-3:]).decode("utf-8", "replace").strip()
                    outcome = "memory" if "alloc" in said else "exit 3"
                    yield _fault(reader, seed, begun, outcome, f"the process ended ({process.returncode}): {said}")
                else:
                    assert process.wait() == 0, b"".join(errors).decode("utf-8", "replace")
                return
            told = json.loads(line)
            if "outcome" in told:
                assert begun
                yield _fault(reader, seed, begun, told["outcome"], told["detail"])
                begun = None
            else:
                begun = told
    finally:
        process.kill()
        for thread in threads:
            thread.join()
        process.wait()


def _forward(stream: Any, lines: queue.Queue[bytes]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(b"")


def _fault(reader: Reader, seed: str, begun: dict[str, Any], outcome: str, detail: str) -> Fault:
    return Fault(reader.name, seed, begun["number"], begun["mutation"], outcome, detail)
