"""Engines turn prompts into tokens. `load` picks one; ENGINES names them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeship.engine.api import Engine
from edgeship.errors import UsageError


def _genai(folder: Path, threads: int | None) -> Engine:
    from edgeship.engine.genai import GenaiEngine

    return GenaiEngine(folder, threads)


def _scripted(folder: Path, threads: int | None) -> Engine:  # noqa: ARG001 - a table needs no threads
    from edgeship.engine.scripted import ScriptedEngine

    return ScriptedEngine.read(folder)


ENGINES: dict[str, Callable[[Path, int | None], Engine]] = {"genai": _genai, "scripted": _scripted}


def load(folder: Path, *, threads: int | None = None, engine: str = "genai") -> Engine:
    """The engine for a package folder. `threads` None uses every core this machine grants.

    Raises UsageError for an unknown engine, EngineFailed where the package cannot be loaded.
    """
    if engine not in ENGINES:
        raise UsageError(f"no engine is called {engine!r}", hint=f"Engines: {', '.join(ENGINES)}.")
    return ENGINES[engine](folder, threads)
