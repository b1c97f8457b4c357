"""Logging: loggers called edgeship.ROOM, silent unless asked, and never a prompt, an answer or a file's content in it.

A program that uses Edgeship configures them as it does any other; the command line shows them on stderr.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

LEVELS = ("debug", "info", "warning", "error")
_ROOT = logging.getLogger("edgeship")
_ROOT.addHandler(logging.NullHandler())
_FIELDS = ("name", "levelno", "levelname", "created", "msecs", "process", "threadName")
_format = logging.Formatter("{asctime} {levelname} {name}: {message}", style="{")


def of(room: str) -> logging.Logger:
    """The logger of a room."""
    return _ROOT.getChild(room)


def show(level: str) -> None:
    """Shows what is logged at `level`, one of LEVELS, and above on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_format)
    _ROOT.addHandler(handler)
    _ROOT.setLevel(level.upper())


# --- from a child to its parent --------------------------------------------------------------------------------------


def level() -> int:
    """What is logged here at the least, which a child is told."""
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
