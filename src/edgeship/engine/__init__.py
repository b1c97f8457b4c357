"""Engines turn prompts into tokens. `load` picks one; ENGINES names them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.engine.api import DEFAULT_LIMITS, Engine, Limits
from edgeship.errors import NotBatchable, UsageError

if TYPE_CHECKING:
    from edgeship.engine.tune import Tuning


@dataclass(frozen=True)
class Order:
    """How a package is to be run; see `load`."""

    folder: Path
    threads: int | None = None
    limits: Limits = DEFAULT_LIMITS
    speculation: bool | None = None
    tuning: Tuning | None = None
    note: str | None = None


def _batched(order: Order) -> Engine:
    from edgeship.engine.batched import open_batched

    return open_batched(order)


def _genai(order: Order) -> Engine:
    from edgeship.engine.batched import open_genai

    return open_genai(order)


def _foundry(order: Order) -> Engine:
    from edgeship.engine.foundry import FoundryEngine

    return FoundryEngine(order.folder, threads=order.threads, limits=order.limits)


def _scripted(order: Order) -> Engine:
    from edgeship.engine.scripted import ScriptedEngine

    return ScriptedEngine.read(order.folder, order.limits, order.speculation)


ENGINES: dict[str, Callable[[Order], Engine]] = {
    "batched": _batched,
    "genai": _genai,
    "foundry": _foundry,
    "scripted": _scripted,
}
AUTO = "auto"


def load(
    folder: Path,
    *,
    threads: int | None = None,
    engine: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
    speculation: bool | None = None,
    home: Path | None = None,
) -> Engine:
    """The engine for a package folder.

    threads: None uses what `edgeship tune` found best here, or every core that this machine grants.
    engine: "auto" takes the batched one on the CPU, and onnxruntime-genai for other providers and graphs.
    speculation: guess tokens from the text so far: None where it proves faster.
    home: where `edgeship tune` keeps what it measured; None leaves that out.

    Raises UsageError for an unknown engine, EngineFailed where the package cannot be loaded.
    """
    if engine != AUTO and engine not in ENGINES:
        raise UsageError(f"no engine is called {engine!r}", hint=f"Engines: {', '.join((AUTO, *ENGINES))}.")
    order = Order(folder, threads, limits, speculation, _remembered(home, folder))
    return _choose(order) if engine == AUTO else ENGINES[engine](order)


def _choose(order: Order) -> Engine:
    from dataclasses import replace

    from edgeship.engine.config import read_config

    provider = read_config(order.folder).provider
    if provider != "cpu":
        return _genai(order)
    try:
        return _batched(order)
    except NotBatchable as error:
        return _genai(replace(order, note=f"run by onnxruntime-genai, one answer after another: {error.what}"))


def _remembered(home: Path | None, folder: Path) -> Tuning | None:
    if home is None:
        return None
    from edgeship.engine.tune import remembered

    return remembered(home, folder)
