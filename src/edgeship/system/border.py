"""The border to what may fail in any way and may not end: libraries that work on what strangers bring, and threads."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from edgeship.errors import EdgeshipError
from edgeship.system.shortage import memory_ran_out

# The longest wait of which Ctrl-C has to see the end: on Windows it reaches no thread that waits without a limit.
_PATIENCE_S = 1.0
_SAID_CHARACTERS = 300
_LOOK_S = 0.02
_STACK_LOCK = threading.Lock()
Some = TypeVar("Some")


class TookTooLong(Exception):
    """Work that did not end in time."""


@contextmanager
def as_ours(ours: Callable[[str], EdgeshipError]) -> Iterator[None]:
    """Whatever a library raises in here is raised as what `ours` makes of its message, with its cause.

    Errors of ours pass, and so does what ends a program. A panic of a library written in Rust is no Exception.
    """
    try:
        yield
    except (EdgeshipError, TookTooLong, KeyboardInterrupt, SystemExit):
        raise
    except MemoryError as error:
        raise memory_ran_out(error) from error
    except BaseException as error:
        raise ours(said_by(error)) from error


def said_by(error: BaseException) -> str:
    """The first line of a library's message; the kind of error where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:_SAID_CHARACTERS] if lines else type(error).__name__


def within(
    seconds: float,
    work: Callable[[], Some],
    *,
    stack_bytes: int = 0,
    given_up: Callable[[], object] | None = None,
) -> Some:
    """What `work` gives or raises, done in a thread of its own. Raises TookTooLong once `seconds` are over.

    The thread then goes on, for nothing can end it: `work` must let other threads run, and leave nothing behind.
    stack_bytes: how deep it may call, where the usual stack is too small.
    given_up: asked every few milliseconds whether to wait no more.
    """
    done: queue.SimpleQueue[tuple[Some | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    thread = threading.Thread(target=run, name="edgeship work", daemon=True)
    with _STACK_LOCK:
        usual = threading.stack_size(stack_bytes) if stack_bytes else None
        try:
            thread.start()
        finally:
            if usual is not None:
                threading.stack_size(usual)
    found, error = take(done, time.monotonic() + seconds, given_up)
    if error:
        raise error
    return found  # type: ignore[return-value] # what `work` gave, if only None


def take(inbox: queue.SimpleQueue[Some], until: float = math.inf, given_up: Callable[[], object] | None = None) -> Some:
    """The next thing that another thread puts there, waited for so that Ctrl-C arrives.

    until: by time.monotonic(). given_up: see `within`. Raises TookTooLong.
    """
    while (left_s := until - time.monotonic()) > 0:
        with suppress(queue.Empty):
            return inbox.get(timeout=min(left_s, _LOOK_S if given_up else _PATIENCE_S))
        if given_up and given_up():
            break
    raise TookTooLong


def wait(event: threading.Event) -> None:
    """Waits until another thread sets an event, so that Ctrl-C arrives."""
    while not event.wait(_PATIENCE_S):
        pass
