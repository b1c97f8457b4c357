"""Logging, where it leaves a process: to the screen, and from a child to its parent.

Loggers are called edgeship.ROOM and are silent unless asked; no prompt, answer or file's content is ever logged. A
program that uses Edgeship configures them like any others.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from edgeship.system.text import harmless


class Level(StrEnum):
    """The least that is shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_ROOT = logging.getLogger("edgeship")
_FIELDS = ("name", "levelno", "levelname", "created", "msecs", "process", "threadName")
_format = logging.Formatter("{asctime} {levelname} {name}: {message}", style="{")


def show(at_least: Level, *, as_json: bool = False) -> None:
    """Shows what is logged at this level, and above it, on stderr: as text, or each record as a line of JSON."""
    for handler in [each for each in _ROOT.handlers if isinstance(each, _Screen)]:
        _ROOT.removeHandler(handler)
    _ROOT.addHandler(_Screen(_AsJson() if as_json else _format))
    _ROOT.setLevel(at_least.upper())


def is_shown() -> bool:
    """Whether anything that is logged is shown."""
    return any(isinstance(handler, _Screen) for handler in _ROOT.handlers)


class _AsJson(logging.Formatter):
    """A record as an object: time, level, logger and message, or the facts that it has in place of one."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        told |= getattr(record, "facts", None) or {"message": record.getMessage()}
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


class _Screen(logging.Handler):
    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        # Whatever stderr is by now: a live line of progress puts itself in its place.
        print(harmless(self.format(record)), file=sys.stderr, flush=True)


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
