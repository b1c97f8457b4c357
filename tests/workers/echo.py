"""A child for tests: does what its job says."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

from edgeship.errors import MemoryShort
from edgeship.progress import Progress
from edgeship.system import child, memory, worker


class Panic(BaseException):
    """What libraries in Rust raise where they meet a bug of their own."""


def work(job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    progress("begun", 0.5)
    print("printed by a library", flush=True)
    match job["do"]:
        case "fail":
            raise MemoryShort("too little", where="here", hint="buy more")
        case "crash":
            raise ValueError("a bug")
        case "panic":
            raise Panic("a bug of theirs")
        case "exhaust":
            raise MemoryError("20 GB")
        case "nest":
            child.run("tests.workers.echo", {"do": "crash"})
        case "exit":
            os._exit(7)
        case "leave":
            # It holds our stderr for longer than we live.
            left = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
            print(left.pid, file=sys.stderr, flush=True)
            os._exit(7)
        case "flood":
            for _ in range(20_000):
                print("x" * 100, file=sys.stderr)
        case "signal":
            os.kill(os.getpid(), getattr(signal, job["name"]))
        case "log":
            logging.getLogger("edgeship.test").debug("said to %s", "debug")
            try:
                raise ValueError("a bug")
            except ValueError:
                logging.getLogger("edgeship.test").warning("and warned", exc_info=True)
        case "stay":
            # Whoever listens at the port knows by its end that we have ended.
            line = socket.create_connection(("127.0.0.1", job["port"]))
            line.sendall(b"here\n")
            threading.Event().wait()
    return {"echo": job, "peak_memory_bytes": memory.peak_memory_bytes()}


if __name__ == "__main__":
    worker.serve(work)
