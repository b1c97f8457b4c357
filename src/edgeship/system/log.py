"""Logging, where it leaves a process: to the screen, and from a child to its parent.

Loggers are called edgeship.ROOM and are silent unless asked; no prompt, answer or file's content is ever logged. A
program that uses Edgeship configures them like any others.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from edgeship.system.text import as_shown


class Level(StrEnum):
    """The least that is shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_ROOT = logging.getLogger("edgeship")
_FIELDS = ("name", "levelno", "levelname", "created", "msecs", "process", "threadName")
_format = logging.Formatter("{asctime} {levelname} {name}: {message}", style="{")


def show(at_least: Level) -> None:
    """Shows what is logged at this level, and above it, on stderr."""
    for handler in [each for each in _ROOT.handlers if isinstance(each, _Screen)]:
        _ROOT.removeHandler(handler)
    _ROOT.addHandler(_Screen())
    _ROOT.setLevel(at_least.upper())


class _Screen(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_format)

    def emit(self, record: logging.LogRecord) -> None:
        # Whatever stderr is by now: a live line of progress puts itself in its place.
        print(as_shown(self.format(record), sys.stderr), file=sys.stderr, flush=True)


# --- from a child to its parent --------------------------------------------------------------------------------------


def level() -> int:
    """The least that is logged here, which a child is told."""
    return _ROOT.getEffectiveLevel()


def forward(at_least: int, send: Callable[[dict[str, Any]], None]) -> None:
    """Sends what is logged in this process to its parent, which gives it to `repeat`."""
    _ROOT.addHandler(_Forwarding(send))
    _ROOT.setLevel(at_least)


def repeat(record: Mapping[str, Any]) -> None:
    """Logs here what a child has logged."""
    logger = logging.getLogger(record["name"])
    if logger.isEnabledFor(record["levelno"]):
        logger.handle(logging.makeLogRecord(dict(record)))


class _Forwarding(logging.Handler):
    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._forward = send

    def emit(self, record: logging.LogRecord) -> None:
        fields = {name: getattr(record, name) for name in _FIELDS}
        trace = _format.formatException(record.exc_info) if record.exc_info else None
        self._forward(fields | {"msg": record.getMessage(), "exc_text": trace})
