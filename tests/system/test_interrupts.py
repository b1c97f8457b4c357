from __future__ import annotations

import signal

import pytest

from edgeship.system import interrupts


def test_ctrl_c_is_remembered_where_it_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with interrupts.handled() as held:
        held.hold()
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert held.seen
        with pytest.raises(KeyboardInterrupt), held.let_through():
            pytest.fail("it was begun")
        monkeypatch.setattr(interrupts, "_HANGS_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_several_in_a_row_are_one() -> None:
    with interrupts.handled() as held:
        held.hold()
        with pytest.raises(KeyboardInterrupt), held.let_through():  # noqa: PT012 - what comes after the first matters
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                ended = True
        signal.raise_signal(signal.SIGINT)
        assert ended
