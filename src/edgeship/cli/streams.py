"""The process's own stdin, stdout and stderr, whatever they lead to: a terminal, a pipe, a full disk, nothing."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import threading
from typing import TYPE_CHECKING

from edgeship.errors import UsageError
from edgeship.system.text import decode, harmless

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SLOW_S = 3.0
MOST_PIPED_BYTES = 1 << 26
"""No more is taken from a pipe, which may never end; no model reads that much."""
# Windows says EINVAL of a pipe whose reader is gone.
_READER_GONE = (errno.EPIPE, errno.EINVAL)
_DIM, _NOT_DIM = "\x1b[2m", "\x1b[22m"


class OutputLost(Exception):
    """Stdout cannot be written to; its cause says why. No OSError, so that nobody takes it for one of another file."""

    @property
    def had_enough(self) -> bool:
        """Whether its reader went away (`| head`), which is no failure."""
        return isinstance(self.__cause__, OSError) and self.__cause__.errno in _READER_GONE


class _Output(io.FileIO):
    def write(self, content: Buffer, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            raise OutputLost from error


def prepare() -> None:
    """Makes the streams fit for text in every language. One that the caller closed leads nowhere."""
    # Standard input first, so that no file opened later gets the number of a standard stream. Writing to what is open
    # for reading alone fails, as it should where an answer would be lost.
    for name, mode in (("stdin", "r"), ("stdout", "r"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - open until we end
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    # A pipe's encoding may be an old code page, on Windows above all; JSON and answers are UTF-8 everywhere.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    if not sys.stdout.isatty():
        raw = io.BufferedWriter(_Output(sys.stdout.fileno(), "w", closefd=False))
        sys.stdout = io.TextIOWrapper(raw, encoding="utf-8", errors="replace")


def show(text: str = "") -> None:
    """A line on stdout at once: whoever started us may wait for it."""
    print(harmless(text), flush=True)


def say(text: str) -> None:
    """A line on stderr at once. Where nobody can read it any more, nothing is lost."""
    with contextlib.suppress(OSError):
        print(harmless(text), file=sys.stderr, flush=True)


def think(text: str) -> None:
    """What a model thinks before it answers, dimmed on stderr; left out where that is no terminal."""
    if sys.stderr.isatty():
        with contextlib.suppress(OSError):
            print(f"{_DIM}{harmless(text)}{_NOT_DIM}", end="", file=sys.stderr, flush=True)


def give_up_output() -> None:
    """Lets what was not written go nowhere, else Python tries once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def piped_text() -> str:
    """What is piped in, without the line break at its end; empty where nothing is.

    Raises UsageError for no text, and for more than any model reads.
    """
    if sys.stdin.isatty():
        return ""
    waiting = threading.Timer(_SLOW_S, say, [f"reading stdin up to its end; `<{os.devnull}` leaves it out"])
    waiting.daemon = True
    waiting.start()
    try:
        # Bytes and not text: the platform's encoding need not be UTF-8.
        content = sys.stdin.buffer.read(MOST_PIPED_BYTES + 1)
        if len(content) > MOST_PIPED_BYTES:
            raise UsageError(f"more than {MOST_PIPED_BYTES >> 20} MiB are piped in", hint="Pipe in a shorter text.")
        return decode(content).rstrip("\r\n")
    except OSError:  # closed, or open for writing only
        return ""
    except UnicodeDecodeError as error:
        raise UsageError(f"what was piped in is not UTF-8: {error}") from error
    finally:
        waiting.cancel()
