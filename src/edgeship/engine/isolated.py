"""A chat in a process of its own: what kills that process ends its answers with an error, and a new one is started.

Calls go in and tokens come out as messages, many answers at the same time, each under its number. Cancel and deadline
are kept on this side, so they act whatever the child does: while it starts, reads a prompt, hangs or is stopped.
"""

from __future__ import annotations

import itertools
import logging
import math
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from edgeship.engine.api import (
    DEFAULT_LIMITS,
    AnswerSteps,
    Conversation,
    EngineFault,
    Limits,
    OnStep,
    Prompt,
    Sampling,
    Stats,
    check_first,
    check_sampling,
    check_settings,
    check_tokens,
)
from edgeship.engine.codec import Codec
from edgeship.engine.decoders import Floats
from edgeship.engine.isolated_answer import Answer, Message
from edgeship.engine.isolated_codec import IsolatedCodec
from edgeship.engine.pacing import Callbacks
from edgeship.engine.steps import Owner
from edgeship.engine.wire import read_sampling
from edgeship.errors import EngineFailed
from edgeship.system import border, child

OBEY_S = 60.0
"""A child that neither ends an answer that was cut nor says anything else for so long hangs, and is replaced."""
STOPPED_S = 2.0
"""A child that somebody stopped is given so long to go on: those who ask have no reason to wait for longer."""
_log = logging.getLogger("edgeship.engine")
_WORKER = "edgeship.engine.isolated_worker"
# How often a child is looked at that was told to end an answer, and did not yet.
_OBEYS_S = 1.0
_GRACE_S = 1.0
_AGAIN = "Ask again: a new process is started."


class IsolatedChat:
    """Another chat, in a child; see Chat, and `load_chat` for what it takes. A child that dies fails its answers.

    A child that is stopped from outside is given `STOPPED_S` to go on; then it counts as dead.
    unwanted: once set, loading ends with EngineFailed.
    restarts: how often another child took the place of a dead one.
    Raises whatever loading raises there, and EngineFailed or MemoryShort where the child dies of it.
    """

    _shows_tokens = False

    def __init__(
        self,
        folder: Path,
        *,
        engine: str = "auto",
        threads: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        speculation: bool | None = None,
        home: Path | None = None,
        unwanted: threading.Event | None = None,
    ) -> None:
        check_settings(limits=limits, threads=threads, speculation=speculation)
        self._job = {
            "folder": str(folder.absolute()),
            "engine": engine,
            "threads": threads,
            "limits": asdict(limits),
            "speculation": speculation,
            "home": str(home) if home else None,
            "shows_tokens": self._shows_tokens,
        }
        self._lock = threading.Lock()
        self._closed = False
        self.restarts = 0
        self._owner = Owner()
        # Whoever is called back may ask the engine: the threads that hear the child and look at the time stay free.
        self._callbacks = Callbacks("edgeship isolated callbacks")
        self._process = _Process(self._job)
        self._loaded(self._process.loaded(unwanted))

    def _loaded(self, hello: Message) -> None:
        """Keeps what the child says of what it has loaded."""
        self.name = str(hello["name"])
        self.context_tokens = int(hello["context_tokens"])
        self.note: str | None = hello["note"]
        self.defaults = read_sampling(hello["defaults"])
        self.codec: Codec = IsolatedCodec(self._ask, hello["template"], thinks=hello["thinks"])

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.child.pid

    def stats(self) -> Stats:
        """See Chat.stats."""
        return Stats(**self._ask("stats")["stats"])

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        """See Chat.converse."""
        check_sampling(sampling)
        fields = {"conversation": asdict(conversation), "sampling": asdict(sampling)}
        return self._begin("converse", fields, Answer(self._callbacks, cancel, deadline_s, on_step))

    def close(self) -> None:
        """See Engine.close. It takes seconds at most, whatever the child does."""
        if not self._owner.here:
            return
        with self._lock:
            self._closed = True
        self._process.close()
        self._callbacks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, kind: str, fields: Message, answer: Answer) -> AnswerSteps:
        self._running().call(kind, fields, _Call(answer.take, answer))
        try:
            answer.wait_until_begun()
        except BaseException:
            answer.cut("cancelled")
            raise
        return answer.steps()

    def _ask(self, kind: str, **fields: Any) -> Message:
        inbox: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()
        self._running().call(kind, fields, _Call(inbox.put))
        found = border.take(inbox)
        if isinstance(found, Exception):
            raise found
        return found

    def _running(self) -> _Process:
        self._owner.require()
        with self._lock:
            if self._closed:
                raise EngineFailed("the engine is closed")
            if self._process.dead:
                _log.warning("the engine's process is gone; another one is started")
                self._process = _Process(self._job)
                self.restarts += 1
            return self._process


class IsolatedEngine(IsolatedChat):
    """The same with tokens: another engine, in a child; see Engine, and `load`. Raises as IsolatedChat does."""

    _shows_tokens = True

    def _loaded(self, hello: Message) -> None:
        super()._loaded(hello)
        self.vocab_size = int(hello["vocab_size"])
        self.slots = int(hello["slots"])
        self.context_cut: str | None = hello["context_cut"]

    def render(self, conversation: Conversation) -> Prompt:
        """See Engine.render."""
        return self.codec.render(conversation)

    def encode(self, text: str) -> Prompt:
        """See Engine.encode."""
        return self.codec.encode(text)

    def stream(
        self,
        prompt: Prompt,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        """See Engine.stream."""
        check_tokens(prompt.tokens, limit=self.context_tokens - 1, vocab_size=self.vocab_size, cut=self.context_cut)
        check_sampling(sampling)
        fields = {"prompt": asdict(prompt), "sampling": asdict(sampling)}
        answer = Answer(self._callbacks, cancel, deadline_s, on_step, len(prompt.tokens))
        return self._begin("stream", fields, answer)

    def score(self, tokens: Sequence[int], first: int = 0) -> Floats:
        """See Engine.score. Logits are large, so they come through a file."""
        import numpy as np

        check_tokens(tokens, limit=self.context_tokens, vocab_size=self.vocab_size, cut=self.context_cut)
        check_first(first, tokens)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "logits.npy"
            self._ask("score", tokens=list(tokens), first=first, path=str(path))
            found: Floats = np.load(path)
        return found


@dataclass(frozen=True)
class _Call:
    """take: gets what the child says to it, or why it says no more."""

    take: Callable[[Message | Exception], object]
    answer: Answer | None = None


class _Process:
    """One child and its open calls."""

    def __init__(self, job: Message) -> None:
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._hello: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()
        self._calls = {0: _Call(self._hello.put)}
        self._changed = threading.Event()
        self._heard_at = 0.0
        # Why no call is answered any more: each gets an exception of its own.
        self._why: Callable[[], Exception] | None = None
        self.child = child.start(_WORKER, job, self._said, stopped_s=STOPPED_S)
        threading.Thread(target=self._look, name="edgeship isolated", daemon=True).start()

    @property
    def dead(self) -> bool:
        """Whether no call is answered any more."""
        return self._why is not None

    def loaded(self, unwanted: threading.Event | None) -> Message:
        """Waits until the package is loaded; what the child then says of it. Raises what loading raises."""
        try:
            hello = border.take(self._hello, given_up=unwanted.is_set if unwanted else None)
            if isinstance(hello, Exception):
                raise hello
        except border.TookTooLong as error:
            self.child.end()
            raise EngineFailed("the engine was no longer wanted while it was loaded") from error
        except BaseException:  # Ctrl-C too: nobody would have the engine that it loads
            self.child.end()
            raise
        return hello

    def call(self, kind: str, fields: Message, call: _Call) -> None:
        """Sends a call; one that comes before the package is loaded is answered after that."""
        with self._lock:
            if self._why is None:
                number = next(self._numbers)
                self.child.send({"id": number, "kind": kind, **fields})
                self._calls[number] = call
                if call.answer:
                    self._mind(number, call.answer)
                return
            error = self._why()
        call.take(error)

    def close(self) -> None:
        """Ends the child, and the open calls with an error."""
        self._lose(lambda: EngineFailed("the engine is closed"))
        self.child.end(_GRACE_S)

    # --- its threads -------------------------------------------------------------------------------------------------

    def _said(self, message: Message | BaseException) -> None:
        if isinstance(message, BaseException):
            error = message
            self._lose(lambda: _death(error))
            return
        self._heard_at = time.perf_counter()
        number, failure = message.pop("id"), _failure_in(message)
        with self._lock:
            call = self._calls.get(number) if _goes_on(message) else self._calls.pop(number, None)
        if call:
            call.take(failure or message)
        if failure and number == 0:
            self._lose(lambda: _failure_in(message) or failure)

    def _mind(self, number: int, answer: Answer) -> None:
        """Sees to it that the child hears when an answer is cut, and that it is cut in time."""

        def cut() -> None:
            self.child.send({"id": number, "kind": "cancel"})
            self._changed.set()

        answer.on_cut = cut
        if answer.cut_at:  # before it was here
            cut()
        self._changed.set()

    def _look(self) -> None:
        """Cuts answers in time, and ends a child that does not obey. Sleeps while nothing is due."""
        while self._why is None:
            with self._lock:
                answers = [call.answer for call in self._calls.values() if call.answer]
            for answer in answers:
                answer.look()
            if any(map(self._hangs, answers)):
                self._lose(
                    lambda: EngineFailed(f"the engine's process did not end an answer in {OBEY_S:.0f} s", hint=_AGAIN)
                )
                self.child.end()
            again_s = min((_OBEYS_S if answer.cut_at else answer.look_in_s() for answer in answers), default=math.inf)
            self._changed.wait(None if again_s == math.inf else again_s)
            self._changed.clear()

    def _hangs(self, answer: Answer) -> bool:
        loaded = 0 not in self._calls
        return bool(loaded and answer.cut_at and time.perf_counter() - max(answer.cut_at, self._heard_at) > OBEY_S)

    def _lose(self, why: Callable[[], Exception]) -> None:
        with self._lock:
            if self._why:
                return
            self._why = why
            calls = list(self._calls.values())
            self._calls.clear()
        self._changed.set()
        for call in calls:
            call.take(why())


def _death(error: BaseException) -> Exception:
    if isinstance(error, child.Died):
        failed = error.as_error(
            EngineFailed, "the engine's process", hint=_AGAIN, if_killed=f"{_AGAIN} Fewer slots take less."
        )
        failed.__cause__ = error
        return failed
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")


def _failure_in(message: Message) -> Exception | None:
    """What a message says went wrong in the child; a fault is told as by every engine."""
    failure = child.failure_in(message)
    if not isinstance(failure, child.ChildFault):
        return failure
    fault = EngineFault(str(failure))
    fault.__cause__ = failure
    return fault


def _goes_on(message: Message) -> bool:
    """Whether more follows: on the word that an answer is begun, and on its tokens but the last."""
    return "prompt_tokens" in message or ("token" in message and message["token"]["finish"] is None)
