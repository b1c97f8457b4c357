"""Our own commands as a shell takes them."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_NAME = "edgeship"


def our_command(*words: str) -> str:
    """A command of ours, written so that a new shell on this machine takes it as it is.

    By name where the shell finds that, else by the path of this environment's own.
    """
    return _line(*_program(), *words)


def as_typed(text: str) -> str:
    """A text whose commands, each between backticks and begun with `edgeship`, are as `our_command` writes them."""
    return text.replace(f"`{_NAME} ", f"`{our_command()} ")


def our_install(extra: str | None = None) -> str:
    """The command that completes this environment, with one of our extras: from the source tree where we are of one."""
    tree = _source_tree()
    what = f"{tree or _NAME}[{extra}]" if extra else f"{tree or _NAME}"
    return _line(sys.executable, "-m", "pip", "install", *(_as_pinned(Path(tree)) if tree else []), what)


def _as_pinned(tree: Path) -> list[str]:
    pins = tree / "constraints.txt"
    return [*(["--constraint", str(pins)] if pins.is_file() else []), "--editable"]


def _source_tree() -> str | None:
    try:
        files = metadata.files(_NAME) or []
    except metadata.PackageNotFoundError:
        return None
    said = next((file for file in files if file.name == "direct_url.json"), None)
    origin = json.loads(said.read_binary()) if said else {}
    return url2pathname(urlsplit(origin["url"]).path) if "dir_info" in origin else None


def _program() -> list[str]:
    if shutil.which(_NAME):
        return [_NAME]
    script = shutil.which(_NAME, path=sysconfig.get_path("scripts"))
    return [script] if script else [sys.executable, "-m", _NAME]


def _line(*words: str) -> str:
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
