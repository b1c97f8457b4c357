"""Our own commands as a shell takes them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import sysconfig


def our_command(*words: str) -> str:
    """A command of ours, written so that a new shell on this machine takes it as it is.

    By name where the shell finds that, else by the path of this environment's own.
    """
    line = [*_program(), *words]
    return subprocess.list2cmdline(line) if sys.platform == "win32" else shlex.join(line)


def _program() -> list[str]:
    name = "edgeship"
    if shutil.which(name):
        return [name]
    script = shutil.which(name, path=sysconfig.get_path("scripts"))
    return [script] if script else [sys.executable, "-m", name]
