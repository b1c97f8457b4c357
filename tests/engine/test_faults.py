"""One request's fault is that request's: others go on, and what nobody foresaw is logged."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgeship.engine import continuous
from edgeship.engine.answer import ask, collect
from edgeship.engine.api import Constraint, EngineFault, Limits, Prompt, Sampling
from edgeship.engine.decoders import Chunk, Floats
from edgeship.errors import EngineFailed, MemoryShort
from tests.engine.test_continuous import ANSWERS, FOR_EVER, QUESTION, Watched
from tests.waiting import until


class Panic(BaseException):
    """As pyo3 has it: what a library written in Rust panics with is no Exception."""


class Broken:
    """A part of a request that fails, whatever is asked of it."""

    complete = False

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self, *_: object, **__: object) -> Any:
        raise self._error

    accept = allowed = choose = draft = flush = forced = push = __call__


def break_part(engine: Watched, part: str, error: BaseException, patch: pytest.MonkeyPatch) -> None:
    """From the next request on."""
    broken = Broken(error)
    if part == "text":
        patch.setattr(engine._codec, "stream", lambda *_: broken)
    elif part == "sampler":
        patch.setattr(continuous, "Sampler", lambda *_: broken)
    elif part == "grammar":
        patch.setattr(engine._grammars, "matcher", lambda _: broken)
    elif part == "drafts":
        patch.setattr(engine, "_drafts", lambda _: broken)
    elif part == "prefix cache":
        patch.setattr(engine.cache, "find", broken)


@pytest.fixture
def engine() -> Iterator[Watched]:
    with Watched(limits=Limits(kv_bytes=10**6), delay_s=0.001) as made:
        yield made


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), Panic("a bug")])
@pytest.mark.parametrize("part", ["text", "sampler", "grammar", "drafts", "prefix cache"])
def test_a_part_that_fails_costs_its_own_answer(
    engine: Watched,
    part: str,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = engine.stream(engine.render(QUESTION), FOR_EVER)
    next(running)
    break_part(engine, part, error, monkeypatch)
    with pytest.raises(EngineFault, match="a bug") as caught:
        collect(engine.stream(Prompt((66,)), Sampling(constraint=Constraint("regex", "a+"))))
    assert caught.value.__cause__ is error
    assert [next(running).finish for _ in range(5)] == [None] * 5
    [record] = [record for record in caplog.records if record.name == "edgeship.engine"]
    assert record.exc_info
    assert record.exc_info[1] is error
    monkeypatch.undo()
    assert ask(engine, QUESTION, Sampling()).text == ANSWERS["hello"]
    assert engine.stats().running == 1


def test_text_that_fails_at_the_end_of_a_cancelled_answer(engine: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine._codec, "stream", lambda *_: Broken(ZeroDivisionError("a bug")))
    with pytest.raises(EngineFault, match="a bug"):
        list(engine.stream(Prompt((66,)), Sampling(), deadline_s=0.0))
    monkeypatch.undo()
    assert ask(engine, QUESTION, Sampling()).text == ANSWERS["hello"]


@pytest.mark.parametrize("error", [EngineFailed("out of luck"), ZeroDivisionError("a bug"), Panic("a bug")])
def test_a_step_that_fails_costs_those_in_it(engine: Watched, error: BaseException) -> None:
    def spoil(chunk: Chunk, logits: Floats) -> Floats:
        if 66 in chunk.tokens:
            raise error
        return logits

    engine.spoil = spoil
    running = engine.stream(engine.render(QUESTION), FOR_EVER)
    next(running)
    with pytest.raises((EngineFailed, EngineFault), match=r"out of luck|a bug"):
        collect(engine.stream(Prompt((66,)), Sampling()))
    assert [next(running).finish for _ in range(5)] == [None] * 5
    assert ask(engine, QUESTION, Sampling()).text == ANSWERS["hello"]


def test_memory_that_runs_out_is_no_fault_of_ours(engine: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine._turns, "gap", Broken(MemoryError("20 GB")))
    with pytest.raises(MemoryShort, match="memory ran out: 20 GB"):
        ask(engine, QUESTION, Sampling())
    monkeypatch.undo()
    assert ask(engine, QUESTION, Sampling()).text == ANSWERS["hello"]


def test_a_fault_of_the_schedule_costs_what_runs_and_the_engine_goes_on(
    engine: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._turns, "gap", Broken(Panic("a bug")))
    with pytest.raises(EngineFault, match="a bug"):
        ask(engine, QUESTION, Sampling())
    monkeypatch.undo()
    assert ask(engine, QUESTION, Sampling()).text == ANSWERS["hello"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_ends_tells_everybody(engine: Watched) -> None:
    def spoil(chunk: Chunk, logits: Floats) -> Floats:
        if 66 in chunk.tokens:
            raise SystemExit
        return logits

    engine.spoil = spoil
    running = engine.stream(engine.render(QUESTION), FOR_EVER)
    next(running)
    for steps in (engine.stream(Prompt((66,)), Sampling()), running):
        with pytest.raises(EngineFailed, match="closed"):
            list(steps)
    with pytest.raises(EngineFailed, match="closed"):
        engine.stream(Prompt((66,)), Sampling())
    engine.close()
    assert not engine._decoder._open  # type: ignore[attr-defined]


@pytest.mark.parametrize("part", ["insert", "release"])
def test_a_slot_is_free_again_whatever_fails_when_it_is_given_back(
    engine: Watched, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine.cache if part == "insert" else engine._decoder, part, Broken(Panic("a bug")))
    for _ in range(2 * engine.slots):
        # What fails after the last token costs no answer.
        assert ask(engine, QUESTION, Sampling(max_tokens=1)).finish == "length"
    until(lambda: engine.stats().running == 0)
    assert "a bug" in caplog.text


@pytest.mark.parametrize("bad", [np.nan, EngineFailed("out of luck"), ZeroDivisionError("a bug")])
def test_what_a_failed_answer_held_is_not_remembered(engine: Watched, bad: float | Exception) -> None:
    def spoil(chunk: Chunk, logits: Floats) -> Floats:
        if isinstance(bad, Exception) and chunk.wanted:
            raise bad
        return np.full_like(logits, bad)

    engine.spoil = spoil
    prompt = Prompt(tuple(range(65, 91)) * 20)
    with pytest.raises((EngineFailed, EngineFault)):
        collect(engine.stream(prompt, Sampling()))
    until(lambda: engine.stats().running == 0)
    assert engine.stats().cached_bytes == 0
    engine.spoil = None
    assert collect(engine.stream(prompt, Sampling(max_tokens=1))).usage.cached_tokens == 0
    # Good ones are.
    assert collect(engine.stream(prompt, Sampling(max_tokens=1))).usage.cached_tokens == len(prompt.tokens) - 1


@pytest.mark.parametrize("part", ["render", "constraint"])
@pytest.mark.parametrize("called_back", [False, True])
def test_what_is_prepared_for_ever_ends_with_its_answer(
    engine: Watched, part: str, called_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    if part == "render":
        monkeypatch.setattr(engine._codec, "render", lambda _: never.wait())
    else:
        monkeypatch.setattr(engine._grammars, "matcher", lambda _: never.wait())
    cancelled = threading.Event()
    cancelled.set()
    sampling = Sampling(constraint=Constraint("regex", "a+"))
    for ending, reason in ({"deadline_s": 0.01}, "deadline"), ({"cancel": cancelled}, "cancelled"):
        told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        on_step = {"on_step": told.put} if called_back else {}
        steps = engine.converse(QUESTION, sampling, **ending, **on_step)  # type: ignore[arg-type]
        [last] = [told.get(timeout=60)] if called_back else list(steps)
        assert (last.id, last.finish) == (None, reason)
        assert last.usage is not None
    never.set()


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_is_told_at_once_that_its_model_is_elsewhere(engine: Watched) -> None:
    prompt = engine.render(QUESTION)
    child = vars(os)["fork"]()
    if not child:
        try:
            for asked in (lambda: engine.stream(prompt, Sampling()), lambda: engine.score(prompt.tokens)):
                with pytest.raises(EngineFailed, match="forked"):
                    asked()
            engine.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert ask(engine, QUESTION, Sampling()).text == ANSWERS["hello"]
