from __future__ import annotations

from edgeship.engine.api import Chat
from tests.scripted import ScriptedEngine
from tests.validate.subjects import Opened


def test_what_checks_share_is_closed_for_one_that_needs_the_memory_and_opened_again() -> None:
    closed: list[Chat] = []

    class Engine(ScriptedEngine):
        def close(self) -> None:
            closed.append(self)
            super().close()

    with Opened(lambda: Engine({})) as subject:
        subject.close_shared()  # nothing is open
        first = subject.chat
        subject.close_shared()
        assert closed == [first]
        second = subject.chat
        assert second is not first
        assert subject.chat is second
    assert closed == [first, second]
