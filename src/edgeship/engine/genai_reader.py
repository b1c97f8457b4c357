"""onnxruntime-genai's tokenizer and template in a process of its own, to hold ours against.

A template that never ends there, or fills memory, cannot be stopped in any other way: it lets no other thread run.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from edgeship.engine.api import Message
from edgeship.errors import EngineFailed
from edgeship.system import border, child, processes

READ_S, WAIT_S = 30.0, 300.0
"""What the process works on for longer is given up, its start included: counted in its processors' time, so that a busy
machine changes nothing. And what is not there after so long, however little it has worked."""
_LOOK_S = 0.5
_WORKER = "edgeship.engine.genai_reader_worker"


class GenaiReader:
    """Reads conversations and texts as a folder's tokenizer and template have them, once one is opened.

    Its methods raise EngineFailed, DependencyMissing, MemoryShort, and TookTooLong: then it has ended.
    """

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[dict[str, Any] | BaseException] = queue.SimpleQueue()
        self._child = child.start(_WORKER, {}, self._inbox.put)

    def open(self, folder: Path) -> None:
        """Takes the tokenizer of this folder, which may be gone afterwards. Raises also PackageRefused."""
        self._ask({"open": str(folder)})

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's ids of a conversation that waits for an answer."""
        ids: list[int] = self._ask({"chat": [dict(message) for message in messages]})["ids"]
        return ids

    def encode(self, text: str) -> list[int]:
        """A text's ids."""
        ids: list[int] = self._ask({"encode": text})["ids"]
        return ids

    def close(self) -> None:
        """Ends the process."""
        self._child.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _worked_too_long(self) -> Callable[[], bool]:
        """Tells whether it has worked for READ_S from now on."""
        start_s, looked = processes.cpu_s(self._child.pid), time.monotonic()

        def worked() -> bool:
            nonlocal looked
            if time.monotonic() < looked + _LOOK_S:
                return False
            looked = time.monotonic()
            return processes.cpu_s(self._child.pid) > start_s + READ_S

        return worked

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self._child.send(message)
        try:
            found = border.take(self._inbox, time.monotonic() + WAIT_S, self._worked_too_long())
        except border.TookTooLong:
            self.close()
            raise
        if isinstance(found, child.Died):
            self._inbox.put(found)  # whoever asks once more is told the same
            raise found.as_error(EngineFailed, "onnxruntime-genai's process") from found
        if isinstance(found, BaseException):
            raise found
        if failure := child.failure_in(found):
            raise failure
        return found
