"""An engine over any decoder: requests join and leave at every step, and share each one."""

from __future__ import annotations

import atexit
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, Self

from edgeship.engine.answer import AnswerText, TextStream
from edgeship.engine.api import (
    AnswerSteps,
    Conversation,
    EngineFault,
    OnStep,
    Prompt,
    Sampling,
    Stats,
    Token,
    Usage,
    check_first,
    check_line,
    check_sampling,
    check_tokens,
)
from edgeship.engine.codec import Codec
from edgeship.engine.decoders import Chunk, Decoder, Floats
from edgeship.engine.drafts import Drafts
from edgeship.engine.grammar import Grammars
from edgeship.engine.pacing import Callbacks, PacedSteps
from edgeship.engine.recall import Recall
from edgeship.engine.request import Request, Scoring, Work
from edgeship.engine.sampling import Sampler
from edgeship.engine.schedule import CHUNK_TOKENS, StepTimes, Turns, allot
from edgeship.engine.steps import Cut, Owner
from edgeship.engine.thinking import Marks, Thoughts
from edgeship.engine.tool_grammar import hold
from edgeship.engine.tools import CallMarks, CallReader, MarkedText
from edgeship.errors import EdgeshipError, EngineFailed
from edgeship.system import border
from edgeship.system.shortage import memory_ran_out

_log = logging.getLogger("edgeship.engine")


class StreamingCodec(Codec, Protocol):
    """One that also turns tokens into text as they come."""

    def stream(self, after: Sequence[int] = ()) -> TextStream: ...
    @property
    def thought_marks(self) -> Marks | None: ...
    @property
    def call_marks(self) -> CallMarks: ...


class ContinuousEngine:
    """Answers over a decoder, all of them in one thread that takes one step after another.

    cache_bytes: of keys, values and states that are kept after an answer, for prompts that begin in the same way.
    speculation: guess from the text so far: True always, None where it has been faster, False never.
    note: what the user should know about how this engine was chosen.
    """

    def __init__(
        self,
        decoder: Decoder,
        codec: StreamingCodec,
        grammars: Grammars,
        *,
        defaults: Sampling,
        end_ids: Collection[int],
        cache_bytes: int = 0,
        waiting: int = 256,
        speculation: bool | None = None,
        times: StepTimes | None = None,
        note: str | None = None,
        context_cut: str | None = None,
    ) -> None:
        self.name = decoder.name
        self.context_tokens = decoder.context_tokens
        self.vocab_size = decoder.vocab_size
        self.slots = decoder.slots
        self.threads = decoder.threads
        self.defaults = defaults
        self.note = note
        self.context_cut = context_cut
        self._recall = Recall(decoder, cache_bytes)
        self.cache = self._recall.cache
        self.codec: Codec = codec
        self._decoder, self._codec, self._grammars = decoder, codec, grammars
        self._thought_marks = codec.thought_marks
        self._end_ids = end_ids
        self._most_waiting = waiting
        self._settling = True
        self._speculation = speculation
        self._times = times or StepTimes()
        self._turns = Turns(self._times, whole_chunks=not decoder.keeps_prefixes)
        self._arrivals = itertools.count()
        self._reads = itertools.count()
        self._waiting: deque[Work] = deque()
        self._running: list[Work] = []
        self._free = list(reversed(range(decoder.slots)))
        self._work = threading.Condition()
        self._closed = self._freed = False
        self._owner = Owner()
        self._callbacks = Callbacks(f"edgeship {decoder.name} callbacks")
        self._thread = threading.Thread(target=self._loop, name=f"edgeship {decoder.name}", daemon=True)
        self._thread.start()
        # A process that ends in the middle of a step would be ended by the runtime's own threads, with a signal.
        atexit.register(self.close)

    # --- the contract ------------------------------------------------------------------------------------------------

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
        return self._begin(lambda: self.render(conversation), sampling, Cut(cancel, deadline_s), on_step)

    def stats(self) -> Stats:
        """See Chat.stats."""
        return Stats(len(self._running), len(self._waiting), self.slots, self.cache.bytes)

    def render(self, conversation: Conversation) -> Prompt:
        """See Engine.render."""
        return self._codec.render(conversation)

    def encode(self, text: str) -> Prompt:
        """See Engine.encode."""
        return self._codec.encode(text)

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
        return self._begin(lambda: prompt, sampling, Cut(cancel, deadline_s), on_step)

    def score(self, tokens: Sequence[int], first: int = 0) -> Floats:
        """See Engine.score."""
        check_tokens(tokens, limit=self.context_tokens, vocab_size=self.vocab_size, cut=self.context_cut)
        check_first(first, tokens)
        self._owner.require()
        scoring = Scoring(next(self._arrivals), tokens, first)
        self._submit(scoring)
        return scoring.result()

    def close(self) -> None:
        """See Chat.close."""
        if not self._owner.here:
            return
        with self._work:
            freed, self._freed, self._closed = self._freed, True, True
            self._work.notify()
        if freed:
            return
        atexit.unregister(self.close)
        self._thread.join()
        self._callbacks.close()
        self._decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the callers' side -------------------------------------------------------------------------------------------

    def _begin(self, asked: Callable[[], Prompt], sampling: Sampling, cut: Cut, on_step: OnStep | None) -> AnswerSteps:
        """An answer to the prompt that `asked` makes, or its end where it is cut before it is begun."""
        self._owner.require()
        settings = sampling.over(self.defaults)
        check_sampling(settings)
        dropped = threading.Event()

        def drop() -> None:
            dropped.set()
            self._wake()

        steps = self._callbacks.steps(on_step, drop)
        usage: Callable[[int], Usage] = cut.usage
        try:
            request = cut.within(lambda: self._request(asked(), settings, steps, cut, dropped))
        except border.TookTooLong:
            steps.put(Token(None, "", cut.due(), usage=cut.usage()))
        else:
            self._submit(request)
            usage = request.usage_after
            prompt_tokens = len(request.prompt)
            _log.info("answer %d: %d prompt tokens, at most %d more", request.arrival, prompt_tokens, request.limit)
        return steps.given(drop, usage, cut.cancel)

    def _request(
        self, prompt: Prompt, settings: Sampling, steps: PacedSteps, cut: Cut, dropped: threading.Event
    ) -> Request:
        check_tokens(prompt.tokens, limit=self.context_tokens - 1, vocab_size=self.vocab_size, cut=self.context_cut)
        room = self.context_tokens - len(prompt.tokens)
        marks = self._codec.call_marks if prompt.tools else None
        held = hold(self._grammars, settings.constraint, prompt.tools, marks)
        # What is held to something begins as that says, whatever text stands before it.
        text = self._codec.stream(prompt.tokens if prompt.continues and settings.constraint is None else ())
        thought_marks = None if prompt.continues else self._thought_marks
        return Request(
            arrival=next(self._arrivals),
            prompt=prompt.tokens,
            sampling=settings,
            limit=min(settings.max_tokens or room, room),
            room=room,
            thoughts=Thoughts(thought_marks, prompt.tokens, self._codec.stream(), settings.thinking_tokens),
            end_ids=() if settings.ignore_eos else self._end_ids,
            sampler=Sampler(settings, prompt.tokens, self.vocab_size),
            text=AnswerText(MarkedText(text, marks) if marks else text, settings.stop),
            steps=steps,
            matcher=held.at_once,
            matcher_of_calls=held.from_call,
            calls=CallReader(marks.format, prompt.tools.functions) if marks and prompt.tools else None,
            drafts=None if self._speculation is False else self._drafts(prompt.tokens),
            cancel=cut.cancel,
            dropped=dropped,
            deadline=cut.deadline,
        )

    def _submit(self, work: Work) -> None:
        with self._work:
            if self._closed:
                raise EngineFailed("the engine is closed")
            check_line(len(self._waiting), self._most_waiting)
            self._waiting.append(work)
            self._work.notify()

    def _wake(self) -> None:
        with self._work:
            self._work.notify()

    def _drafts(self, prompt: Sequence[int]) -> Drafts:
        return Drafts(prompt, self._times.check_s, always=bool(self._speculation))

    # --- the engine's thread -----------------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while self._wait():
                with self._blaming(self._running):  # for what no single one is to blame
                    self._drop_cut()
                    self._admit()
                    self._step()
                self._release_finished()
        finally:
            # However it ended, those who wait must hear of it, and nobody may wait again.
            with self._work:
                self._closed = True
            self._fail([*self._running, *self._waiting], EngineFailed("the engine is closed"))

    def _wait(self) -> bool:
        """Waits for something to do, and lets the decoder settle meanwhile; False once the engine is closed."""
        while self._settling and not self._is_due():
            self._settling = self._decoder.settle()
        with self._work:
            self._work.wait_for(self._is_due)
            return not self._closed

    def _is_due(self) -> bool:
        return bool(self._closed or self._waiting or self._running)

    @contextmanager
    def _blaming(self, works: Sequence[Work]) -> Iterator[None]:
        """What goes wrong in here costs these and no others. What nobody foresaw is logged with its traceback."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except EdgeshipError as error:
            self._fail(works, error)
        except MemoryError as error:
            self._fail(works, memory_ran_out(error))
        except BaseException as error:  # a panic in a library written in Rust is no Exception
            _log.exception("an answer ends with an error that nobody foresaw")
            fault = EngineFault(f"{type(error).__name__}: {error}")
            fault.__cause__ = error
            self._fail(works, fault)

    def _fail(self, works: Sequence[Work], error: Exception) -> None:
        for work in works:
            work.held = 0  # nothing of it is to be remembered
            work.fail(error)

    def _drop_cut(self) -> None:
        now = time.perf_counter()
        with self._work:
            waiting = list(self._waiting)
        for work in (*waiting, *self._running):
            with self._blaming([work]):
                work.cut(now)
        with self._work:
            self._waiting = deque(work for work in self._waiting if not work.finished)
        self._release_finished()

    def _admit(self) -> None:
        while self._free:
            with self._work:
                if not self._waiting:
                    return
                work = self._waiting.popleft()
            work.slot = slot = self._free.pop()
            self._running.append(work)
            with self._blaming([work]):
                work.start(self._recall.begin(work, slot))

    def _step(self) -> None:
        """Every running answer goes on by a token or more, and some of what waits to be read is read."""
        answering = [work for work in self._running if not (work.finished or work.reading)]
        readings = [work for work in self._running if not work.finished and work.reading]
        gap_s, most_s = self._turns.gap(len(answering), len(readings))
        for work in answering:
            work.pace(gap_s, most_s)
        self._answer(answering)
        if not readings:
            return
        ahead_s = min((work.ahead_s() for work in answering if not work.finished), default=0.0)
        if tokens := self._turns.tokens(len(answering), readings, ahead_s):
            for index, count in allot(readings, tokens, next(self._reads)):
                with self._blaming([readings[index]]):
                    self._run(readings[index], readings[index].chunk(self._recall.until_stop(readings[index], count)))

    def _answer(self, works: Sequence[Work]) -> None:
        # Guesses are checked in a run of their own: beside others that would cost more than it gives.
        # And how far one goes would depend on what else runs, which must not show where a seed is given.
        alone = len(self._running) == 1 and not self._running[0].reproducible
        # A wrong guess is taken back, which states do not allow.
        guess = self._decoder.goes_back and (alone or bool(self._speculation))
        pairs: list[tuple[Work, Chunk]] = []
        for work in works:
            with self._blaming([work]):
                pairs.append((work, work.chunk(CHUNK_TOKENS, guess=guess)))
        singles = [(work, chunk) for work, chunk in pairs if len(chunk.tokens) == 1]
        if singles:
            invariant = any(work.reproducible for work, _ in singles)
            self._take(singles, invariant=invariant, note=partial(self._times.note_batch, len(singles)))
        for work, chunk in pairs:
            if len(chunk.tokens) > 1:
                self._run(work, chunk)

    def _run(self, work: Work, chunk: Chunk) -> None:
        """One chunk by itself."""
        was_reading = work.reading
        note = self._times.note_check if chunk.wanted > 1 else self._times.note_read
        self._take([(work, chunk)], invariant=work.reproducible, note=partial(note, len(chunk.tokens)))
        self._recall.after_chunk(work, was_reading=was_reading)

    def _take(self, pairs: Sequence[tuple[Work, Chunk]], *, invariant: bool, note: Callable[[float], object]) -> None:
        """One step for all of these; `note` is told how long it took."""
        with self._blaming([work for work, _ in pairs]):
            started = time.perf_counter()
            found = self._decoder.step([chunk for _, chunk in pairs], invariant=invariant)
            note(time.perf_counter() - started)
            for (work, chunk), logits in zip(pairs, found, strict=True):
                with self._blaming([work]):
                    work.take(chunk, logits)

    def _release_finished(self) -> None:
        for work in [work for work in self._running if work.finished]:
            self._running.remove(work)
            if work.slot is None:
                continue
            with self._blaming([]):  # its answer is out
                self._recall.keep(work)
            with self._blaming([]):
                self._decoder.release(work.slot)
            self._free.append(work.slot)
