"""A process that holds memory, works and starts others as a test tells it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MIB = 2**20
# Does what each line says, and answers with the CPU time that it has used for that.
OBEDIENT = """
import subprocess, sys, time
held, started = [], []
for line in sys.stdin:
    word, value = line.split()
    begun = time.process_time()
    if word == "hold":
        held.append(b"1" * int(value))
    elif word == "touch":
        len(b"1" * int(value))
    elif word == "work":
        while time.process_time() - begun < float(value):
            pass
    elif word == "start":
        words = [sys.executable, "-c", sys.argv[1], sys.argv[1]]
        started.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    elif word == "tell":
        print(value.replace("_", " "), file=started[-1].stdin, flush=True)
        started[-1].stdout.readline()
    elif word == "end":
        started[-1].communicate()
    print(time.process_time() - begun, flush=True)
"""


@dataclass
class Obedient:
    """A process that does what it is told, and whose children do what it is told to tell them."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def does(self, words: str) -> float:
        """Waits until it is done; the seconds of a core that it took."""
        assert self.process.stdin
        assert self.process.stdout
        print(words, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


@contextmanager
def obedient() -> Iterator[Obedient]:
    """A child of this process."""
    words = [sys.executable, "-c", OBEDIENT, OBEDIENT]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        one = Obedient(process)
        one.does("work 0")
        yield one
