"""An engine in a process of its own: what kills that process ends its answers with an error, and a new one is started.

Requests go in and tokens come out as JSON lines, many answers at the same time, each under its number.
"""

from __future__ import annotations

import itertools
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self

from edgeship.engine.api import (
    DEFAULT_LIMITS,
    Conversation,
    Limits,
    Logprob,
    OnStep,
    Prompt,
    Sampling,
    Stats,
    Token,
    ToolCall,
    Usage,
    check_first,
    check_sampling,
    check_tokens,
)
from edgeship.engine.decoders import Floats
from edgeship.errors import EdgeshipError, EngineFailed, NotSupported
from edgeship.system import child

_WORKER = "edgeship.engine.isolated_worker"
# A package that kills its process while it loads would do so for ever.
_MOST_STARTS = 3


class IsolatedEngine:
    """Another engine, in a child; see Engine, and `load` for what it takes. A child that dies fails its answers.

    Raises whatever loading raises there, and EngineFailed where the child dies of it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        engine: str = "auto",
        threads: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        speculation: bool | None = None,
        home: Path | None = None,
    ) -> None:
        self._job = {
            "folder": str(folder.absolute()),
            "engine": engine,
            "threads": threads,
            "limits": asdict(limits),
            "speculation": speculation,
            "home": str(home) if home else None,
        }
        self._lock = threading.Lock()
        self._closed = False
        self._worker = self._start()
        hello = self._worker.hello
        self.name = str(hello["name"])
        self.context_tokens = int(hello["context_tokens"])
        self.vocab_size = int(hello["vocab_size"])
        self.slots = int(hello["slots"])
        self.note: str | None = hello["note"]
        self.defaults = read_sampling(hello["defaults"])

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._worker.process.pid

    def stats(self) -> Stats:
        """See Chat.stats."""
        return Stats(**self._ask("stats")["stats"])

    def render(self, conversation: Conversation) -> Prompt:
        """See Engine.render."""
        found = self._ask("render", conversation=asdict(conversation))
        return Prompt(tuple(found["tokens"]), tuple(found["messages"]))

    def encode(self, text: str) -> Prompt:
        """See Engine.encode."""
        return Prompt(tuple(self._ask("encode", text=text)["tokens"]))

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> Iterator[Token]:
        """See Chat.converse."""
        prompt = self.render(conversation)
        return self.stream(prompt, sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step)

    def stream(
        self,
        prompt: Prompt,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> Iterator[Token]:
        """See Engine.stream."""
        if on_step is not None:
            raise NotSupported("an engine in a process of its own calls nobody back yet")
        check_tokens(prompt.tokens, limit=self.context_tokens - 1, vocab_size=self.vocab_size)
        check_sampling(sampling)
        call = self._running().call(
            "stream",
            tokens=prompt.tokens,
            messages=[dict(message) for message in prompt.messages] if prompt.messages else None,
            sampling=asdict(sampling),
            deadline_s=deadline_s,
        )
        # The child answers once the request is accepted: what it raises at once is raised here at once.
        try:
            call.take()
        except EdgeshipError:
            call.worker.done(call)
            raise
        return _Stream(call, cancel, len(prompt.tokens))

    def score(self, tokens: Sequence[int], first: int = 0) -> Floats:
        """See Engine.score. Logits are large, so they come through a file."""
        import numpy as np

        check_tokens(tokens, limit=self.context_tokens, vocab_size=self.vocab_size)
        check_first(first, tokens)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "logits.npy"
            self._ask("score", tokens=list(tokens), first=first, path=str(path))
            found: Floats = np.load(path)
        return found

    def close(self) -> None:
        """See Engine.close."""
        with self._lock:
            self._closed = True
        self._worker.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        call = self._running().call(kind, **fields)
        try:
            return call.take()
        finally:
            call.worker.done(call)

    def _running(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise EngineFailed("the engine is closed")
            if self._worker.dead:
                self._worker = self._start()
            return self._worker

    def _start(self) -> _Worker:
        for left in reversed(range(_MOST_STARTS)):
            worker = _Worker(self._job)
            try:
                worker.load()
                break
            except EdgeshipError:
                # A package that it refuses, it would refuse again.
                if worker.spoke or not left:
                    raise
        return worker


class _Call:
    """One request and what comes back for it; None where the child is gone."""

    def __init__(self, worker: _Worker, number: int) -> None:
        self.worker, self.number = worker, number
        self.answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def take(self) -> dict[str, Any]:
        """The next answer. Raises what the child did, EngineFailed where it is gone."""
        answer = self.answers.get()
        if answer is None:
            raise self.worker.died()
        if "error" in answer:
            raise child.revive(answer["error"])
        return answer


class _Worker:
    """One child and its open calls."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child is gone
        self.process = subprocess.Popen(
            [sys.executable, "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=child.environment_with({}),
        )
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._lock = threading.Lock()
        self._last_words = ""
        self._dead = False
        self.spoke = False  # whether anything came from it
        self.hello: dict[str, Any] = {}
        self._loading = self._calls[0] = _Call(self, 0)
        self._send(job)
        self._reader = threading.Thread(target=self._listen, name="edgeship isolated", daemon=True)
        self._reader.start()

    def load(self) -> None:
        """Waits until it has loaded its package; `hello` is what it then says of it. Raises what loading raises."""
        try:
            self.hello = self._loading.take()
        except EdgeshipError:
            self.end()
            raise
        self.done(self._loading)

    @property
    def dead(self) -> bool:
        """Whether the child is gone."""
        return self._dead

    def call(self, kind: str, **fields: Any) -> _Call:
        """Sends a request."""
        with self._lock:
            call = _Call(self, next(self._numbers))
            if self._dead:
                call.answers.put(None)
                return call
            self._calls[call.number] = call
            self._send({"id": call.number, "kind": kind, **fields})
        return call

    def forget(self, call: _Call) -> None:
        """Ends a request that is not finished."""
        with self._lock:
            if self._calls.pop(call.number, None) and not self._dead:
                self._send({"id": call.number, "kind": "cancel"})

    def done(self, call: _Call) -> None:
        """A request that is finished."""
        with self._lock:
            self._calls.pop(call.number, None)

    def died(self) -> EngineFailed:
        """The error of those whose answers went with the child."""
        how = child.Died(self.process.poll() or 0, [self._last_words] if self._last_words else [])
        return EngineFailed(
            f"the engine's process {how.how}: {how.last}",
            hint="Ask again: a new process is started. Where it was killed for want of memory, take fewer slots.",
        )

    def end(self) -> None:
        """Ends the child; its open calls get an error."""
        stdin = self.process.stdin
        assert stdin
        with self._lock, suppress(OSError):
            stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if threading.current_thread() is not self._reader:
            self._reader.join(timeout=10)

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin
        # A child that is gone says so at the other end.
        with suppress(OSError, ValueError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def _listen(self) -> None:
        stdout: IO[bytes] | None = self.process.stdout
        assert stdout
        for line in stdout:
            with suppress(ValueError):  # a line that the child died in
                answer = json.loads(line)
                self.spoke = True
                call = self._calls.get(answer.pop("id"))
                if call:
                    call.answers.put(answer)
        self.process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        self._last_words = lines[-1] if lines else ""
        with self._lock:
            self._dead = True
            calls = list(self._calls.values())
            self._calls.clear()
        for call in calls:
            call.answers.put(None)
        for stream in (self._stderr, stdout, self.process.stdin):
            with suppress(OSError):
                assert stream
                stream.close()


class _Stream:
    """The steps of one answer. Whoever drops it has no use for the rest."""

    def __init__(self, call: _Call, cancel: threading.Event | None, prompt_tokens: int) -> None:
        self._call, self._cancel, self._prompt_tokens = call, cancel, prompt_tokens
        self._given = 0
        self._done = False

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        if self._done:
            raise StopIteration
        if self._cancel and self._cancel.is_set():
            self.close()
            return Token(None, "", "cancelled", usage=Usage(self._prompt_tokens, self._given, 0.0, 0.0))
        try:
            token = read_token(self._call.take()["token"])
        except EdgeshipError:
            self._done = True
            self._call.worker.done(self._call)
            raise
        self._given += token.id is not None
        if token.finish:
            self._done = True
            self._call.worker.done(self._call)
        return token

    def close(self) -> None:
        """Frees what the answer holds, within a step."""
        if not self._done:
            self._done = True
            self._call.worker.forget(self._call)

    __del__ = close


def read_sampling(values: Mapping[str, Any]) -> Sampling:
    """Sampling from its `asdict`, as JSON gives it back."""
    from pydantic import TypeAdapter

    return TypeAdapter(Sampling).validate_python(values)


def read_token(values: Mapping[str, Any]) -> Token:
    """A Token from its `asdict`, as JSON gives it back."""
    prompt = values["prompt_logprobs"]
    return Token(
        values["id"],
        values["text"],
        values["finish"],
        _read_logprob(values["logprob"]) if values["logprob"] else None,
        Usage(**values["usage"]) if values["usage"] else None,
        None if prompt is None else tuple(map(_read_logprob, prompt)),
        values["thinking"],
        tuple(ToolCall(**call) for call in values["tool_calls"]),
    )


def _read_logprob(values: Mapping[str, Any]) -> Logprob:
    return Logprob(values["logprob"], tuple((token, value) for token, value in values["top"]))
