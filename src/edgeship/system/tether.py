"""Runs a module that knows nothing of parents for as long as its parent lives.

`python -m edgeship.system.tether MODULE WORD...` does what `python -m MODULE WORD...` does, and ends when its stdin is
closed, however the parent went: as by SIGTERM, and at once where it has not ended a while after that.
"""

from __future__ import annotations

import _thread
import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 10.0
"""For so long it may go on once its parent is gone."""


def main() -> None:
    """Runs the module that the first word names, with the others."""
    # Its own copy, since the module's stdin is nothing: it would read what is for us.
    stdin = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(stdin,), name="edgeship tether", daemon=True).start()
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch(stdin: int) -> None:
    while os.read(stdin, 1024):
        pass
    # Not by a real signal, which on Windows would end it at once.
    _thread.interrupt_main(signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main()
