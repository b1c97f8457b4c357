"""The real server with one fault in it: `faulty` in a thread, `faulty_process` in a process, both with their URL.

By hand: `python -m tests.validate.faulty --fault NAME --port-file FILE [--folder PACKAGE] [--answers JSON]`, which ends
with its stdin. faults.py has the faults.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI

from edgeship.engine.api import Chat
from edgeship.engine.opening import EngineOptions, load_chat
from edgeship.serve import ServeOptions, app
from edgeship.serve.models import ModelCard, Pool
from edgeship.settings import resolve
from edgeship.system.storage import write_file
from tests.scripted import ScriptedEngine
from tests.serve.serving import ANSWERS, card, serving
from tests.validate.chat_faults import Fault, FaultyChat
from tests.validate.faults import AROUND, FAULTS, IN_CHAT

MODEL = "faulty"
ENGINE = "tests.validate.faulty:open_faulty"
"""What `load` and IsolatedEngine take as the engine's name: a package's own, with the fault that FAULT names."""
SCRIPTED = "tests.validate.faulty:open_faulty_script"
"""The same of a folder's scripted.json."""
FAULT = "EDGESHIP_TEST_FAULT"
_STARTS_S = 60.0


def faulty_app(fault: str, folder: Path | None = None, answers: Mapping[str, str] = ANSWERS, **how: Any) -> FastAPI:
    """The application over a package's engine, or a scripted one. how: of the scripted engine."""

    def open_chat(_: ModelCard) -> Chat:
        inner: Chat = load_chat(folder) if folder else ScriptedEngine(answers, **how)
        return faulty_chat(inner, fault)

    pool = Pool([card(MODEL, folder=folder)], settings=resolve(), open_chat=open_chat)
    made = app.over(pool, ServeOptions(), ready=[MODEL])
    if fault in AROUND:
        made.add_middleware(AROUND[fault])
    return made


def faulty_chat(inner: Chat, fault: str) -> Chat:
    """A chat with a fault around it, where that is the place for it."""
    assert fault in FAULTS, fault
    return cast(Chat, FaultyChat(inner, IN_CHAT.get(fault, Fault)))


def open_faulty(options: EngineOptions) -> Chat:
    """The engine that ENGINE names."""
    limits = options.limits
    inner = load_chat(options.folder, threads=options.threads, limits=limits, speculation=options.speculation)
    return faulty_chat(inner, os.environ[FAULT])


def open_faulty_script(options: EngineOptions) -> Chat:
    """The engine that SCRIPTED names."""
    return faulty_chat(ScriptedEngine.read(options.folder, options.limits), os.environ[FAULT])


@contextmanager
def faulty(fault: str, folder: Path | None = None, answers: Mapping[str, str] = ANSWERS, **how: Any) -> Iterator[str]:
    """Its URL, without /v1, while it is served by a thread of this process."""
    with serving(lambda: faulty_app(fault, folder, answers, **how)) as url:
        yield url


@contextmanager
def faulty_process(
    fault: str, at: Path, folder: Path | None = None, answers: Mapping[str, str] = ANSWERS
) -> Iterator[tuple[str, int]]:
    """The same by a process, with that process's id. at: a folder for what it writes."""
    port_file = at / f"{fault}.port"
    port_file.unlink(missing_ok=True)
    words = ["--fault", fault, "--port-file", str(port_file), "--answers", json.dumps(dict(answers))]
    words += ["--folder", str(folder)] if folder else []
    with (at / f"{fault}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.validate.faulty", *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=os.environ | {"EDGESHIP_HOME": str(at / "home"), "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        until = time.monotonic() + _STARTS_S
        while not port_file.exists():
            assert process.poll() is None, (at / f"{fault}.log").read_text()
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{int(port_file.read_text())}", process.pid
    finally:
        process.kill()
        process.communicate()


def main(words: Sequence[str]) -> int:
    """Serves until its stdin is closed or somebody ends it; the exit code."""
    from edgeship.serve import running

    parser = argparse.ArgumentParser()
    parser.add_argument("--fault", choices=FAULTS, required=True)
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--answers", type=json.loads, default=ANSWERS)
    given = parser.parse_args(words)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()

    def ready(url: str) -> None:
        write_file(given.port_file, url.rpartition(":")[2])

    made = faulty_app(given.fault, given.folder, given.answers)
    return running.run(made, running.Address("127.0.0.1", 0), home=resolve().home, ready=ready)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
