"""When an answer is cut, and what is done until then."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from edgeship.engine.steps import LOOK_S, Cut, Signal
from edgeship.errors import PromptInvalid
from edgeship.system import border


def test_an_answer_that_nothing_cuts_is_never_due_and_has_its_own_thread() -> None:
    cut = Cut(None, None)
    assert cut.due() is None
    assert cut.within(threading.current_thread) is threading.current_thread()


def test_work_that_is_done_in_time_gives_its_result_or_raises() -> None:
    cut = Cut(threading.Event(), 3600.0)
    assert cut.within(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        cut.within(lambda: 1 // 0)
    assert cut.due() is None


def test_what_was_due_once_stays_so() -> None:
    cancel, never = threading.Event(), threading.Event()
    cut = Cut(cancel, None)
    cancel.set()
    with pytest.raises(border.TookTooLong):
        cut.within(never.wait)
    never.set()
    cancel.clear()
    assert cut.due() == "cancelled"
    assert Cut(None, 0.0).due() == "deadline"


@pytest.mark.parametrize("given", [(5, None), (None, -1.0), (None, float("nan")), (None, "soon"), (None, True)])
def test_what_could_cut_no_answer_is_refused(given: tuple[Any, Any]) -> None:
    with pytest.raises(PromptInvalid, match=r"(cancel|deadline_s) is "):
        Cut(*given)


def test_a_signal_tells_those_who_asked_for_it() -> None:
    told: list[str] = []
    signal = Signal()
    signal.tell(lambda: told.append("before"))
    assert not told
    signal.set()
    signal.tell(lambda: told.append("after"))
    assert told == ["before", "after"]


def test_only_what_does_not_tell_has_to_be_looked_at() -> None:
    assert Cut(None, None).look_in_s() == math.inf
    assert Cut(Signal(), None).look_in_s() == math.inf
    assert Cut(threading.Event(), 3600.0).look_in_s() == LOOK_S
    assert LOOK_S < Cut(Signal(), 3600.0).look_in_s() <= 3600.0
    assert Cut(None, 0.0).look_in_s() == 0.0
