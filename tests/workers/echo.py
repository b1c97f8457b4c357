"""A child for tests: does what its job says."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from edgeship.errors import MemoryShort
from edgeship.progress import Progress
from edgeship.system import child, memory


def work(job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    progress("begun", 0.5)
    print("printed by a library", flush=True)
    match job["do"]:
        case "fail":
            raise MemoryShort("too little", where="here", hint="buy more")
        case "crash":
            raise ValueError("a bug")
        case "die":
            psutil.Process().kill()
        case "flood":
            for _ in range(20_000):
                print("x" * 100, file=sys.stderr)
        case "sleep":
            Path(job["pid_file"]).write_text(str(os.getpid()), encoding="utf-8")
            time.sleep(60)
    return {"echo": job, "peak_memory_bytes": memory.peak_memory_bytes()}


if __name__ == "__main__":
    child.serve(work)
