"""One answer in the making, with logits by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeship.engine.answer import AnswerText
from edgeship.engine.api import Sampling, Token
from edgeship.engine.decoders import Chunk, Floats
from edgeship.engine.drafts import Drafts
from edgeship.engine.pacing import ReadSteps
from edgeship.engine.request import FORCED_TOKENS, SCORED_TOKENS, Request, Scoring
from edgeship.engine.sampling import Sampler
from tests.scripted import DEFAULTS, END, VOCAB_SIZE, ByteCodec


def make(prompt: Sequence[int], *, guess: bool = False, **fields: Any) -> Request:
    """A request that has its slot."""
    sampling = Sampling(**fields).over(DEFAULTS)
    request = Request(
        arrival=0,
        prompt=prompt,
        sampling=sampling,
        limit=sampling.max_tokens or 100,
        end_ids=(END,),
        sampler=Sampler(sampling, prompt, VOCAB_SIZE),
        text=AnswerText(ByteCodec().stream(), sampling.stop),
        steps=ReadSteps(),
        drafts=Drafts(prompt, lambda _: None, always=True) if guess else None,
    )
    request.slot = 3
    request.start(0)
    return request


def sure(*tokens: int) -> Floats:
    """Logits [tokens, vocabulary] that name these."""
    logits = np.zeros((len(tokens), VOCAB_SIZE), np.float32)
    logits[np.arange(len(tokens)), tokens] = 50.0
    return logits


def said(request: Request) -> list[Token]:
    found = []
    assert isinstance(request.steps, ReadSteps)
    while not request.steps.empty():
        item = request.steps.take()
        assert isinstance(item, Token)
        found.append(item)
    return found


def test_a_prompt_is_read_in_chunks_and_only_the_last_one_asks_for_logits() -> None:
    request = make(list(b"abcdef"))
    first = request.chunk(4)
    assert (first.slot, first.tokens, first.start, first.wanted, first.reading) == (3, list(b"abcd"), 0, 0, True)
    request.take(first, sure())
    assert request.reading
    last = request.chunk(4)
    assert (last.tokens, last.start, last.wanted, last.reading) == (list(b"ef"), 4, 1, True)
    request.take(last, sure(ord("x")))
    assert not request.reading
    assert [token.id for token in said(request)] == [ord("x")]
    # The token that was said is not held yet.
    assert (request.unread, request.chunk(4)) == (1, Chunk(3, [ord("x")], 6, 1))


def test_guesses_that_hold_are_said_at_once_and_the_first_that_does_not_ends_them() -> None:
    request = make(list(b"abcdefg abc"), guess=True)
    request.take(request.chunk(100), sure(ord("d")))
    chunk = request.chunk(100, guess=True)
    assert chunk.tokens == list(b"defg")
    assert chunk.wanted == 4
    # After d comes e, then f; then X where g was guessed.
    request.take(chunk, sure(*b"efX?"))
    assert bytes(token.id or 0 for token in said(request)) == b"defX"
    # d, e and f are held; what stood behind them is written over.
    assert (request.held, request.unread) == (11 + 3, 1)
    assert request.chunk(100).start == 14
    usage = request.usage()
    assert (usage.drafted_tokens, usage.accepted_tokens, usage.completion_tokens) == (3, 2, 4)


def test_a_guess_is_not_followed_past_the_end_of_an_answer() -> None:
    request = make(list(b"abcdefg abc"), guess=True)
    request.take(request.chunk(100), sure(ord("d")))
    request.take(request.chunk(100, guess=True), sure(ord("e"), END, *b"??"))
    tokens = said(request)
    assert [token.id for token in tokens] == [ord("d"), ord("e"), END]
    assert (tokens[-1].finish, request.finished) == ("stop", True)


def test_the_limit_counts_tokens_whatever_was_guessed() -> None:
    request = make(list(b"abcdefg abc"), guess=True, max_tokens=3)
    request.take(request.chunk(100), sure(ord("d")))
    chunk = request.chunk(100, guess=True)
    # One of three is said, so no more than one guess can hold beside the token that follows it.
    assert chunk.tokens == list(b"de")
    request.take(chunk, sure(*b"ef"))
    assert [(token.id, token.finish) for token in said(request)][-1] == (ord("f"), "length")


def test_log_probabilities_of_a_prompt_come_with_the_first_token_whatever_was_cut() -> None:
    prompt = list(range(65, 65 + SCORED_TOKENS + 5))
    request = make(prompt, prompt_logprobs=1)
    assert not request.may_use_cache
    while request.reading:
        chunk = request.chunk(1000)
        assert chunk.wanted == len(chunk.tokens) <= SCORED_TOKENS
        request.take(chunk, sure(*[token + 1 for token in chunk.tokens]))
    first = said(request)[0]
    assert first.id == prompt[-1] + 1
    assert first.prompt_logprobs is not None
    assert [found.top[0][0] for found in first.prompt_logprobs] == prompt[1:]
    assert all(found.logprob > -1e-6 for found in first.prompt_logprobs)


def test_what_was_cut_says_so_and_gives_what_was_held_back() -> None:
    request = make(list(b"q"), stop=("stop",))
    request.take(request.chunk(9), sure(ord("s")))
    request.dropped.set()
    assert request.cut(0.0)
    tokens = said(request)
    assert [token.text for token in tokens] == ["", "s"]
    assert (tokens[-1].id, tokens[-1].finish) == (None, "cancelled")
    request.fail(RuntimeError("later"))
    assert said(request) == []


def test_a_text_is_scored_from_the_token_asked_for() -> None:
    scoring = Scoring(0, list(range(150)), first=100)
    scoring.slot = 0
    scoring.start(0)
    spans = []
    while not scoring.finished:
        chunk = scoring.chunk(64)
        spans.append((chunk.start, len(chunk.tokens), chunk.wanted))
        scoring.take(chunk, np.full((chunk.wanted, 4), chunk.start, np.float32))
    assert spans == [(0, 64, 0), (64, 36, 0), (100, 50, 50)]
    assert scoring.result().shape == (50, 4)


def test_a_long_text_that_is_forced_is_said_in_parts() -> None:
    class Forcing:
        """As a constraint that leaves no choice about 1000 tokens."""

        left, complete = 1000, False

        def forced(self) -> list[int]:
            return [ord("x")] * self.left

        def push(self, token: int) -> None:
            assert token == ord("x")
            self.left -= 1

        def allowed(self, _: int | None = None) -> Any:
            return np.arange(VOCAB_SIZE) == ord("x")

    request = make(b"ab")
    request.limit, request.matcher = 5000, Forcing()  # type: ignore[assignment]
    request.start(0)
    counts = []
    while request.matcher.left:  # type: ignore[union-attr]
        counts.append(len(said(request)))
        while (chunk := request.chunk(64)).wanted == 0:
            request.take(chunk, sure())
        request.take(chunk, sure(ord("x")))
    assert max(counts) == FORCED_TOKENS
    assert sum(counts) + len(said(request)) == 1000
