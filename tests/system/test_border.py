"""Whatever a library does ends as an error of ours, and in time."""

from __future__ import annotations

import threading

import pytest

from edgeship.errors import EngineBusy, EngineFailed, MemoryShort
from edgeship.system import border


class Panic(BaseException):
    """As a library written in Rust raises it."""


@pytest.mark.parametrize("error", [ValueError("broken\nand more"), Panic("broken"), RecursionError("broken")])
def test_whatever_a_library_raises_is_ours_with_its_cause(error: BaseException) -> None:
    with pytest.raises(EngineFailed, match=r"^it says: broken$") as caught, border.as_ours(_failed):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), EngineBusy("ours already"), border.TookTooLong()])
def test_what_is_ours_or_ends_the_program_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, border.as_ours(_failed):
        raise error
    assert caught.value is error


def test_memory_that_runs_out_is_said_as_such() -> None:
    with pytest.raises(MemoryShort, match="ran out"), border.as_ours(_failed):
        raise MemoryError


def test_a_message_is_short_and_never_empty() -> None:
    assert border.said_by(ValueError()) == "ValueError"
    assert border.said_by(Panic(" \n")) == "Panic"
    assert len(border.said_by(ValueError("x" * 10_000))) == 300


def test_work_in_time_gives_its_result_or_raises() -> None:
    assert border.within(30, lambda: 5) == 5
    assert border.within(30, lambda: None, stack_bytes=1 << 20) is None
    with pytest.raises(Panic, match="broken"):
        border.within(30, lambda: (_ for _ in ()).throw(Panic("broken")))


def test_work_that_does_not_end_is_left_behind() -> None:
    ending = threading.Event()
    with pytest.raises(border.TookTooLong):
        border.within(0.01, ending.wait)
    ending.set()


def test_a_larger_stack_is_for_that_thread_alone() -> None:
    usual = threading.stack_size()
    assert border.within(30, threading.stack_size, stack_bytes=1 << 24) in (usual, 1 << 24)
    assert threading.stack_size() == usual


def _failed(said: str) -> EngineFailed:
    return EngineFailed(f"it says: {said}")
