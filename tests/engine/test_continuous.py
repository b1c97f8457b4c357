"""The scheduler over a scripted decoder: who gets a slot, who waits, and what an error costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from edgeship.engine.answer import Answer, ask
from edgeship.engine.api import Conversation, Limits, Prompt, Sampling
from edgeship.engine.decoders import Floats, Piece
from edgeship.engine.schedule import CHUNK_TOKENS
from edgeship.errors import EngineFailed
from tests.scripted import ScriptedDecoder, ScriptedEngine

FOR_EVER = Sampling(ignore_eos=True, max_tokens=10**6)
QUESTION = Conversation([{"role": "user", "content": "hello"}])
ANSWERS = {"hello": "Good day to you."}


class Watched(ScriptedEngine):
    """Remembers every step's pieces; `spoil` may change what a step gives, or raise."""

    def __init__(self, *, spoil: Callable[[Piece, Floats], Floats] | None = None, **options: object) -> None:
        self.steps: list[list[Piece]] = []
        self.released: list[int] = []
        self.spoil = spoil
        super().__init__(ANSWERS, **options)  # type: ignore[arg-type]
        inner = self._decoder
        assert isinstance(inner, ScriptedDecoder)
        step, release = inner.step, inner.release

        def watched_step(pieces: Sequence[Piece], *, invariant: bool = False) -> list[Floats]:
            self.steps.append(list(pieces))
            found = step(pieces, invariant=invariant)
            return [self.spoil(*pair) if self.spoil else pair[1] for pair in zip(pieces, found, strict=True)]

        def watched_release(slot: int) -> None:
            self.released.append(slot)
            release(slot)

        inner.step, inner.release = watched_step, watched_release  # type: ignore[method-assign]


def in_threads(*calls: Callable[[], object]) -> list[object]:
    """What each call gives or raises, all at the same time."""
    found: list[object] = [None] * len(calls)

    def run(index: int) -> None:
        try:
            found[index] = calls[index]()
        except Exception as error:  # kept, to be looked at
            found[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def until(condition: Callable[[], bool]) -> None:
    """Waits until something is so."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.001)


def test_running_answers_go_on_together() -> None:
    engine = Watched(delay_s=0.002)
    prompt = engine.render(QUESTION)
    found = in_threads(*[lambda: ask(engine, prompt, Sampling())] * 4)
    assert [answer.text for answer in found if isinstance(answer, Answer)] == ["Good day to you."] * 4
    assert max(len(pieces) for pieces in engine.steps) == 4


def test_a_long_prompt_is_read_in_chunks_beside_running_answers() -> None:
    engine = Watched(delay_s=0.005, token_s=0.001)
    running = engine.stream(engine.render(QUESTION), FOR_EVER)
    for _ in range(8):
        next(running)
    before = len(engine.steps)
    list(engine.stream(Prompt((65,) * 1500), Sampling(max_tokens=1)))
    pieces = [piece for step in engine.steps[before:] for piece in step]
    chunks = [len(piece.tokens) for piece in pieces if 65 in piece.tokens]
    assert sum(chunks) == 1500
    # A piece takes about a tenth of a second, and not every step of the running answer has one beside it.
    assert max(chunks) < CHUNK_TOKENS
    assert len(chunks) < 100
    assert len([piece for piece in pieces if len(piece.tokens) == 1]) >= len(chunks) - 1


def test_a_cancelled_answer_ends_though_its_tokens_are_held_back() -> None:
    engine = Watched(delay_s=0.005, token_s=0.001)
    cancel = threading.Event()
    running = engine.stream(engine.render(QUESTION), FOR_EVER, cancel=cancel)
    for _ in range(8):
        next(running)
    reading = threading.Thread(
        target=lambda: list(engine.stream(Prompt((65,) * 3000), Sampling(max_tokens=1))), daemon=True
    )
    reading.start()
    for _ in range(8):
        next(running)
    cancel.set()
    *_, last = running
    assert last.finish == "cancelled"
    reading.join(30)
    assert not reading.is_alive()


def test_alone_a_prompt_is_read_in_large_chunks() -> None:
    engine = Watched()
    list(engine.stream(Prompt((65,) * 600), Sampling(max_tokens=1)))
    assert [len(piece.tokens) for step in engine.steps for piece in step] == [256, 256, 88]


def test_a_cancelled_answer_frees_its_slot() -> None:
    engine = Watched(slots=1, delay_s=0.001)
    cancel = threading.Event()
    stream = engine.stream(engine.render(QUESTION), FOR_EVER, cancel=cancel)
    next(stream)
    waiting = engine.stream(engine.render(QUESTION), Sampling())
    assert engine.queued == 1
    steps = len(engine.steps)
    cancel.set()
    assert [token.finish for token in waiting][-1] == "stop"
    assert [token.finish for token in stream][-1] == "cancelled"
    own = [
        step
        for step in engine.steps[steps:]
        if any(piece.start > len(engine.render(QUESTION).tokens) + 40 for piece in step)
    ]
    assert not own
    until(lambda: engine.active == 0)
    assert engine.released == [0, 0]


def test_a_dropped_answer_frees_its_slot() -> None:
    engine = Watched(slots=1, delay_s=0.001)
    stream = engine.stream(engine.render(QUESTION), FOR_EVER)
    next(stream)
    del stream
    until(lambda: engine.active == 0)
    assert engine.released == [0]


def test_a_waiting_answer_that_is_cancelled_or_too_late_never_gets_a_slot() -> None:
    engine = Watched(slots=1, delay_s=0.001)
    first = engine.stream(engine.render(QUESTION), FOR_EVER)
    next(first)
    cancel = threading.Event()
    second = engine.stream(engine.render(QUESTION), Sampling(), cancel=cancel)
    third = engine.stream(engine.render(QUESTION), Sampling(), deadline_s=0.01)
    cancel.set()
    assert [token.finish for token in second] == ["cancelled"]
    [late] = third
    assert late.finish == "deadline"
    assert late.usage
    assert late.usage.completion_tokens == 0
    assert {piece.slot for step in engine.steps for piece in step} == {0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_cost_only_their_own_answer(bad: float) -> None:
    def spoil(piece: Piece, logits: Floats) -> Floats:
        return np.full_like(logits, bad) if 66 in piece.tokens else logits

    engine = Watched(spoil=spoil)
    good, failed = in_threads(
        lambda: ask(engine, engine.render(QUESTION), Sampling()), lambda: ask(engine, Prompt((66,)), Sampling())
    )
    assert isinstance(good, Answer)
    assert good.text == "Good day to you."
    assert isinstance(failed, EngineFailed)
    assert ask(engine, engine.render(QUESTION), Sampling()).text == "Good day to you."


@pytest.mark.parametrize("error", [EngineFailed("out of luck"), ZeroDivisionError("a bug")])
def test_a_step_that_fails_costs_those_in_it_and_no_more(error: Exception) -> None:
    def spoil(piece: Piece, logits: Floats) -> Floats:
        if 66 in piece.tokens:
            raise error
        return logits

    engine = Watched(spoil=spoil)
    with pytest.raises(EngineFailed, match=r"out of luck|a bug"):
        ask(engine, Prompt((66,)), Sampling())
    assert ask(engine, engine.render(QUESTION), Sampling()).text == "Good day to you."
    assert engine.active == 0


def test_closing_ends_what_runs_and_what_waits() -> None:
    engine = Watched(slots=1, delay_s=0.001)
    streams = [engine.stream(engine.render(QUESTION), FOR_EVER) for _ in range(3)]
    next(streams[0])
    engine.close()
    for stream in streams:
        with pytest.raises(EngineFailed, match="closed"):
            list(stream)


def test_what_was_said_before_is_not_read_again() -> None:
    engine = Watched(limits=Limits(kv_bytes=10**6))
    first = engine.render(QUESTION)
    said = ask(engine, first, Sampling())
    steps = len(engine.steps)
    second = Prompt(first.tokens + said.tokens + (65, 66, 67))
    answer = ask(engine, second, Sampling(max_tokens=1))
    # The answer's last token was never fed to the model, and is read now.
    assert answer.usage.cached_tokens == len(first.tokens) + len(said.tokens) - 1
    assert [len(piece.tokens) for step in engine.steps[steps:] for piece in step] == [4]


def test_the_last_token_of_a_known_prompt_is_computed() -> None:
    engine = Watched(limits=Limits(kv_bytes=10**6))
    prompt = engine.render(QUESTION)
    first, second = (ask(engine, prompt, Sampling()) for _ in range(2))
    assert second.text == first.text
    assert second.usage.cached_tokens == len(prompt.tokens) - 1


def test_a_prompt_is_known_while_its_answer_is_still_being_made() -> None:
    engine = Watched(limits=Limits(kv_bytes=10**6), delay_s=0.001)
    prompt = engine.render(QUESTION)
    running = engine.stream(prompt, FOR_EVER)
    next(running)
    assert ask(engine, prompt, Sampling()).usage.cached_tokens == len(prompt.tokens) - 1


def test_guesses_that_hold_save_steps_and_change_nothing() -> None:
    text = "the order 4711-0815 of Greta Mensah; "
    plain, guessing = (Watched(context_tokens=600, speculation=speculation) for speculation in (False, True))
    for engine in (plain, guessing):
        engine._decoder.answers[f"copy: {text}"] = text * 3  # type: ignore[attr-defined]
    prompt = plain.render(Conversation([{"role": "user", "content": f"copy: {text}"}]))
    expected = ask(plain, prompt, Sampling())
    found = ask(guessing, prompt, Sampling())
    assert (found.tokens, found.text) == (expected.tokens, expected.text)
    assert found.usage.accepted_tokens > len(found.tokens) // 2
    assert found.usage.drafted_tokens >= found.usage.accepted_tokens
    assert len(guessing.steps) < len(plain.steps) // 2


def test_guesses_do_not_run_past_the_limit() -> None:
    text = "abcdefgh" * 20
    engine = Watched(default=text, context_tokens=200, speculation=True)
    prompt = engine.render(Conversation([{"role": "user", "content": text[:80]}]))
    for limit in (1, 2, 3, 9, 100):
        answer = ask(engine, prompt, Sampling(max_tokens=limit, ignore_eos=True))
        assert (len(answer.tokens), answer.finish) == (limit, "length")
    assert max(piece.start + len(piece.tokens) for step in engine.steps for piece in step) <= 200
