"""What the scheduler works on: an answer in the making, or a text to be scored. It knows no model and no thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from edgeship.engine.answer import AnswerText
from edgeship.engine.api import FinishReason, Logprob, Sampling, Token, Usage
from edgeship.engine.decoders import Chunk, Floats
from edgeship.engine.drafts import Drafts
from edgeship.engine.grammar import Matcher
from edgeship.engine.pacing import PacedSteps
from edgeship.engine.sampling import Allowed, Sampler, logprob, logprobs
from edgeship.engine.thinking import Thoughts
from edgeship.engine.tools import CallReader
from edgeship.system import border

_log = logging.getLogger("edgeship.engine")
# Logits of a text's every token are large: 64 rows of 150,000 are 38 MB.
SCORED_TOKENS = 64
# A constraint may force a text of any length; so much of it is said in one step, and others take theirs in between.
FORCED_TOKENS = 256


class Work(Protocol):
    """Something that occupies a slot.

    arrival: its number, by who came first. tokens: all that are known. held: how many of them the slot holds.
    slot: None while waiting.
    """

    arrival: int
    tokens: list[int]
    held: int
    slot: int | None

    @property
    def reading(self) -> bool:
        """Whether a prompt is still being read."""
        ...

    @property
    def unread(self) -> int:
        """Tokens that the slot does not hold yet."""
        ...

    @property
    def finished(self) -> bool: ...

    @property
    def reproducible(self) -> bool:
        """Whether the result must not depend on what else runs."""
        ...

    @property
    def may_use_cache(self) -> bool: ...

    def start(self, held: int) -> None:
        """The work has its slot now, which holds the first `held` tokens already."""
        ...

    def chunk(self, most: int, *, guess: bool = False) -> Chunk:
        """The next chunk: at most `most` tokens that are known, and guessed ones after them if `guess` allows it."""
        ...

    def take(self, chunk: Chunk, logits: Floats) -> None:
        """What a step gave for a chunk. Raises EngineFailed for logits that no token can be chosen by."""
        ...

    def pace(self, gap_s: float, most_s: float) -> None:
        """From now on tokens come out that far apart, and are held for so long at most."""
        ...

    def ahead_s(self) -> float:
        """For how long the tokens last that were made and are still held."""
        ...

    def cut(self, now: float) -> bool:
        """Ends the work if it was cancelled or is past its deadline."""
        ...

    def fail(self, error: Exception) -> None:
        """Ends the work with an error."""
        ...


class Scoring:
    """Logits after every token of a text from number `first` on."""

    reproducible = True
    may_use_cache = False

    def __init__(self, arrival: int, tokens: Sequence[int], first: int) -> None:
        self.arrival = arrival
        self.tokens = list(tokens)
        self.held = 0
        self.slot: int | None = None
        self._first = first
        self._logits: Floats | None = None
        self._rows = 0
        self._error: Exception | None = None
        self._done = threading.Event()

    @property
    def reading(self) -> bool:
        """Until the end: a text has no answer."""
        return not self.finished

    @property
    def unread(self) -> int:
        """Tokens that are left."""
        return len(self.tokens) - self.held

    @property
    def finished(self) -> bool:
        """All read, or failed."""
        return self._done.is_set()

    def start(self, held: int) -> None:
        """See Work."""
        self.held = held

    def chunk(self, most: int, *, guess: bool = False) -> Chunk:  # noqa: ARG002 - nothing follows that could be guessed
        """Many tokens where no logits are asked for, few where they are."""
        assert self.slot is not None
        silent = max(0, self._first - self.held)
        count = min(most, self.unread, silent or SCORED_TOKENS)
        tokens = self.tokens[self.held : self.held + count]
        return Chunk(self.slot, tokens, self.held, 0 if silent else count, reading=True)

    def take(self, chunk: Chunk, logits: Floats) -> None:
        """See Work."""
        self.held += len(chunk.tokens)
        if chunk.wanted:
            if self._logits is None:  # all at once: putting parts together would hold them twice
                self._logits = np.empty((len(self.tokens) - self._first, logits.shape[1]), np.float32)
            self._logits[self._rows : self._rows + len(logits)] = logits
            self._rows += len(logits)
        if not self.unread:
            self._done.set()

    def pace(self, gap_s: float, most_s: float) -> None:
        """Nobody watches a score."""

    def ahead_s(self) -> float:
        """See Work."""
        return float("inf")

    def cut(self, now: float) -> bool:  # noqa: ARG002
        """A score has no deadline."""
        return False

    def fail(self, error: Exception) -> None:
        """See Work."""
        self._error = error
        self._done.set()

    def result(self) -> Floats:
        """Waits for the logits; raises what the work failed with."""
        border.wait(self._done)
        if self._error:
            raise self._error
        assert self._logits is not None
        assert self._rows == len(self._logits)
        return self._logits


@dataclass
class Request:
    """One answer in the making. Its steps go into `steps`.

    sampling: complete. limit: new tokens at most; room: those and the thoughts, where they do not count.
    deadline: by time.perf_counter(). drafts: None guesses nothing.
    calls: tells calls of functions apart from text. matcher_of_calls: holds the answer from the first of them on.
    cancel: set by whoever asked; dropped: by whoever was to be given the steps.
    """

    arrival: int
    prompt: Sequence[int]
    sampling: Sampling
    limit: int
    end_ids: Collection[int]
    sampler: Sampler
    text: AnswerText
    steps: PacedSteps
    matcher: Matcher | None = None
    drafts: Drafts | None = None
    cancel: threading.Event | None = None
    dropped: threading.Event = field(default_factory=threading.Event)
    deadline: float | None = None
    room: int | None = None
    calls: CallReader | None = None
    matcher_of_calls: Matcher | None = None
    thoughts: Thoughts = field(default_factory=lambda: Thoughts(None, (), None))

    def __post_init__(self) -> None:
        if self.calls and self.matcher_of_calls:
            self.calls.hold = self._hold_to_calls
        self.tokens = list(self.prompt)
        self.held = 0
        self.slot: int | None = None
        self.finished = False
        self._made = 0
        self._submitted_s = time.perf_counter()
        self._started_s: float | None = None
        self._first_s: float | None = None
        self._cached = self._drafted = self._accepted = self._forced = 0
        self._prompt_logprobs: list[Logprob] = []
        self._reading = True

    @property
    def reading(self) -> bool:
        """Until logits after the whole prompt are there."""
        return self._reading

    @property
    def unread(self) -> int:
        """Tokens that the slot does not hold: of the prompt, or those chosen or forced since the last step."""
        return len(self.tokens) - self.held

    @property
    def reproducible(self) -> bool:
        """Whoever gives a seed wants the same answer again."""
        return self.sampling.seed is not None

    @property
    def may_use_cache(self) -> bool:
        """Log-probabilities of a prompt need it to be read."""
        return self.sampling.prompt_logprobs is None

    def start(self, held: int) -> None:
        """See Work. What a constraint forces from the beginning is said at once, unless the prompt's are to be told."""
        self.held = held
        self._cached = held
        self._started_s = time.perf_counter()
        if self.matcher and not (self.thoughts.now or self.thoughts.may_begin or self._wants_prompt_logprobs):
            self._append([], None)

    def chunk(self, most: int, *, guess: bool = False) -> Chunk:
        """See Work. Drafts are guessed only after all that is known."""
        assert self.slot is not None
        if self._wants_prompt_logprobs and self.held < len(self.prompt):
            count = min(most, self.unread, SCORED_TOKENS)
            tokens = self.tokens[self.held : self.held + count]
            return Chunk(self.slot, tokens, self.held, count, reading=True)
        count = min(most, self.unread)
        tokens = self.tokens[self.held : self.held + count]
        if count < self.unread:
            return Chunk(self.slot, tokens, self.held, 0, self._reading)
        guesses = self._guesses() if guess else []
        return Chunk(self.slot, tokens + guesses, self.held, 1 + len(guesses), self._reading)

    def take(self, chunk: Chunk, logits: Floats) -> None:
        """See Work."""
        if self._wants_prompt_logprobs and chunk.start < len(self.prompt):
            self._read_logprobs(chunk, logits)
        base = min(chunk.start + len(chunk.tokens), len(self.tokens))
        self.held = base
        if base < len(self.tokens):
            return
        self._reading = False
        guesses = chunk.tokens[base - chunk.start :]
        rows = logits[len(logits) - 1 - len(guesses) :]
        good = 0
        while not self.finished:
            self._choose(rows[good])
            said = self.tokens[base:]
            good = len(said)
            if good > len(guesses) or said != list(guesses[:good]):
                break
        held = _common(self.tokens[base:], guesses)
        self.held = base + held
        if guesses and self.drafts:
            self._drafted += len(guesses)
            self._accepted += held
            self.drafts.learn(len(guesses), held)

    def pace(self, gap_s: float, most_s: float) -> None:
        """See Work."""
        self.steps.gap_s, self.steps.most_s = gap_s, most_s

    def ahead_s(self) -> float:
        """See Work."""
        return self.steps.ahead_s()

    def cut(self, now: float) -> bool:
        """See Work."""
        if self.dropped.is_set() or (self.cancel and self.cancel.is_set()):
            self._finish_without_token("cancelled")
        elif self.deadline is not None and now >= self.deadline:
            self._finish_without_token("deadline")
        return self.finished

    def fail(self, error: Exception) -> None:
        """See Work."""
        if not self.finished:
            self.finished = True
            _log.info("answer %d: failed with %s", self.arrival, type(error).__name__)
            self.steps.put(error)

    # --- one token after another -------------------------------------------------------------------------------------

    @property
    def _wants_prompt_logprobs(self) -> bool:
        return self.sampling.prompt_logprobs is not None

    def _guesses(self) -> list[int]:
        room = self._left - 1
        if not self.drafts or self._reading or self.unread != 1 or room < 1:
            return []
        return self.drafts.draft(room)

    def _read_logprobs(self, chunk: Chunk, logits: Floats) -> None:
        """Row i predicts the token after the chunk's i-th; the last token of the prompt predicts the answer."""
        predicted = self.tokens[chunk.start + 1 : min(chunk.start + 1 + len(chunk.tokens), len(self.prompt))]
        top = self.sampling.prompt_logprobs or 0
        self._prompt_logprobs += logprobs(logits[: len(predicted)], predicted, top)

    def _choose(self, row: Floats) -> None:
        forced = self.thoughts.forced_end
        token = self.sampler.choose(row, self._allowed(row)) if forced is None else forced
        wanted = self.sampling.logprobs
        found = None if wanted is None else logprob(row, token, wanted)
        if token in self.end_ids:
            self._emit(token, self.text.rest(), "stop", found)
            return
        self._append([token], found)

    def _allowed(self, row: Floats) -> Allowed | None:
        """What the constraint lets the next token be; thoughts are free, and lead to an answer."""
        if not self.matcher:
            return None
        if self.thoughts.now:
            allowed = np.ones(len(row), np.bool_)
            allowed[[end for end in self.end_ids if end < len(row)]] = False
            return allowed
        allowed = self.matcher.allowed(int(row.argmax()))
        if self.thoughts.begin is not None:
            allowed[self.thoughts.begin] = True
        return allowed

    @property
    def _left(self) -> int:
        """How many more tokens there may be."""
        counted = self._made if self.sampling.thoughts_count else self._made - self.thoughts.tokens
        left = self.limit - counted
        return left if self.room is None else min(left, self.room - self._made)

    def _think(self, token: int, shown: str, found: Logprob | None) -> None:
        self.text.after_thoughts = not self.thoughts.now
        self._emit(token, "", "length" if self._left <= 1 else None, found, shown)

    def _append(self, chosen: list[int], found: Logprob | None) -> None:
        """Says a chosen token and those that the constraint forces after it."""
        for token in chosen:
            if (thought := self.thoughts.take(token)) is not None:
                self._think(token, thought, found)
                return
        tokens, complete = list(chosen), False
        if self.matcher:
            for token in chosen:
                self.matcher.push(token)
            while forced := self._forced_tokens(len(tokens)):
                for token in forced:
                    self.matcher.push(token)
                tokens += forced
            self._forced += len(tokens) - len(chosen)
            complete = self.matcher.complete
            if complete and not tokens:
                self._finish_without_token("stop")
        for number, token in enumerate(tokens, 1):
            self._say(token, found if number == 1 else None, last=complete and number == len(tokens))
            if self.finished:
                return

    def _forced_tokens(self, so_far: int) -> list[int]:
        """What the constraint leaves no choice about, after so many tokens in this step."""
        # A forced token has no logits of its own, so none is forced on who wants to see log-probabilities.
        if not self.matcher or self.sampling.logprobs is not None or so_far >= FORCED_TOKENS:
            return []
        return self.matcher.forced()[: FORCED_TOKENS - so_far]

    def _say(self, token: int, found: Logprob | None, *, last: bool) -> None:
        start = self.text.end
        shown = self.text.push(token)
        finish: FinishReason | None = None
        if self.text.stopped_by is not None or last:
            finish = "stop"
        elif self._left <= 1:
            finish = "length"
        if finish:
            shown += self.text.rest()
        self._emit(token, shown, finish, found, start=start)

    def _emit(
        self,
        token: int,
        shown: str,
        finish: FinishReason | None,
        found: Logprob | None,
        thought: str = "",
        start: int | None = None,
    ) -> None:
        """A step with a token. start: where it begins, if that is not where the text ends."""
        self.tokens.append(token)
        self._made += 1
        self.sampler.accept(token)
        if self.drafts:
            self.drafts.push(token)
        first = self._first_s is None
        self._first_s = self._first_s or time.perf_counter()
        prompt_logprobs = tuple(self._prompt_logprobs) if first and self._wants_prompt_logprobs else None
        usage = self.usage() if finish else None
        stop = self.text.stopped_by if finish else None
        self._put(
            Token(
                token,
                shown,
                finish,
                found,
                usage,
                prompt_logprobs,
                thought,
                stopped_by=stop,
                prompt_tokens=len(self.prompt) if first else None,
                start=None if found is None else self.text.end if start is None else start,
            )
        )

    def _finish_without_token(self, finish: FinishReason) -> None:
        if not self.finished:
            rest = self.text.rest()
            self._put(Token(None, rest, finish, usage=self.usage(), stopped_by=self.text.stopped_by))

    def _hold_to_calls(self, said: str) -> bool:
        """The answer is a call from here on, of which so much was said; whether it can be one."""
        assert self.matcher_of_calls
        holds = self.matcher_of_calls.follow(said)
        self.matcher = self.matcher_of_calls if holds else self.matcher
        return holds

    def _with_calls(self, step: Token, calls: CallReader) -> Token:
        read = calls.push(step.text, last=step.finish is not None)
        finish = "tool_calls" if step.finish == "stop" and calls.made else step.finish
        return replace(step, text=read.text, finish=finish, calling=read.calling, tool_calls=read.tool_calls)

    def _put(self, step: Token) -> None:
        if self.calls:
            step = self._with_calls(step, self.calls)
        # Finished only now: where making the last step failed, `fail` must still tell.
        self.finished = step.finish is not None
        if usage := step.usage:
            _log.info(
                "answer %d: %s; %d of %d prompt tokens were known; %d more came in %.3f s, the first after %.3f s",
                *(self.arrival, step.finish, usage.cached_tokens, usage.prompt_tokens),
                *(usage.completion_tokens, usage.e2e_s, usage.ttft_s),
            )
        self.steps.put(step)

    def usage_after(self, completion_tokens: int) -> Usage:
        """What the answer has cost where whoever asked took so many of its tokens."""
        thought = min(self.thoughts.tokens, completion_tokens)
        return replace(self.usage(), completion_tokens=completion_tokens, reasoning_tokens=thought)

    def usage(self) -> Usage:
        """What the answer has cost so far."""
        now = time.perf_counter()
        return Usage(
            prompt_tokens=len(self.prompt),
            completion_tokens=self._made,
            ttft_s=(self._first_s or now) - self._submitted_s,
            e2e_s=now - self._submitted_s,
            cached_tokens=self._cached,
            queue_s=(self._started_s or now) - self._submitted_s,
            drafted_tokens=self._drafted,
            accepted_tokens=self._accepted,
            forced_tokens=self._forced,
            reasoning_tokens=self.thoughts.tokens,
        )


def _common(said: Sequence[int], guessed: Sequence[int]) -> int:
    """How many tokens of both are the same from the beginning."""
    count = 0
    for one, other in zip(said, guessed, strict=False):
        if one != other:
            break
        count += 1
    return count
