"""The scheduler over a scripted decoder: who gets a slot, who waits, and what an error costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from edgeship.engine.answer import Answer, ask, collect
from edgeship.engine.api import Constraint, Conversation, Limits, Prompt, Sampling, Token
from edgeship.engine.decoders import Chunk, Floats
from edgeship.engine.schedule import CHUNK_TOKENS
from edgeship.errors import EngineFailed
from tests.bigram import open_bigram
from tests.checkpoints import make_sentencepiece_tokenizer
from tests.scripted import ScriptedDecoder, ScriptedEngine, SteadyTimes
from tests.waiting import until

FOR_EVER = Sampling(ignore_eos=True, max_tokens=10**6)
QUESTION = Conversation([{"role": "user", "content": "hello"}])
ANSWERS = {"hello": "Good day to you."}


class Watched(ScriptedEngine):
    """Remembers every step's chunks; `spoil` may change what a step gives, or raise."""

    def __init__(self, *, spoil: Callable[[Chunk, Floats], Floats] | None = None, **options: object) -> None:
        self.steps: list[list[Chunk]] = []
        self.released: list[int] = []
        self.spoil = spoil
        super().__init__(ANSWERS, **options)  # type: ignore[arg-type]
        inner = self._decoder
        assert isinstance(inner, ScriptedDecoder)
        step, release = inner.step, inner.release

        def watched_step(chunks: Sequence[Chunk], *, invariant: bool = False) -> list[Floats]:
            self.steps.append(list(chunks))
            found = step(chunks, invariant=invariant)
            return [self.spoil(*pair) if self.spoil else pair[1] for pair in zip(chunks, found, strict=True)]

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


def test_running_answers_go_on_together() -> None:
    def spoil(_: Chunk, logits: Floats) -> Floats:
        until(lambda: engine.stats().running + engine.stats().waiting == 4 or len(engine.steps) > 1)
        return logits

    engine = Watched(spoil=spoil)
    prompt = engine.render(QUESTION)
    # Long enough that the first still runs when the last has been read, however busy the machine is.
    found = in_threads(*[lambda: collect(engine.stream(prompt, replace(FOR_EVER, max_tokens=500)))] * 4)
    tokens = [answer.tokens for answer in found if isinstance(answer, Answer)]
    assert [len(each) for each in tokens] == [500] * 4
    assert len(set(tokens)) == 1
    assert max(len(chunks) for chunks in engine.steps) == 4


def test_a_long_prompt_is_read_in_chunks_beside_running_answers() -> None:
    engine = Watched(delay_s=0.005, token_s=0.001, times=SteadyTimes(step_s=0.005, more_token_s=0.001))
    running = engine.stream(engine.render(QUESTION), FOR_EVER)
    for _ in range(8):
        next(running)
    before = len(engine.steps)
    list(engine.stream(Prompt((65,) * 1500), Sampling(max_tokens=1)))
    chunks = [chunk for step in engine.steps[before:] for chunk in step]
    sizes = [len(chunk.tokens) for chunk in chunks if 65 in chunk.tokens]
    assert sum(sizes) == 1500
    # A chunk takes about a tenth of a second, and not every step of the running answer has one beside it.
    assert max(sizes) < CHUNK_TOKENS
    assert len(sizes) < 100
    assert len([chunk for chunk in chunks if len(chunk.tokens) == 1]) >= len(sizes) - 1


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
    assert [len(chunk.tokens) for step in engine.steps for chunk in step] == [64, 256, 256, 24]


def test_a_cancelled_answer_frees_its_slot() -> None:
    cancel, go_on = threading.Event(), threading.Event()

    def spoil(_: Chunk, logits: Floats) -> Floats:
        if len(engine.steps) == 2:
            assert go_on.wait(120)
        return logits

    engine = Watched(slots=1, spoil=spoil)
    prompt = engine.render(QUESTION)
    stream = engine.stream(prompt, FOR_EVER, cancel=cancel)
    next(stream)
    waiting = engine.stream(prompt, Sampling())
    assert engine.stats().waiting == 1
    cancel.set()
    go_on.set()
    assert [token.finish for token in waiting][-1] == "stop"
    assert [token.finish for token in stream][-1] == "cancelled"
    # The step that was being made is the cancelled answer's last.
    assert [step[0].start for step in engine.steps[:3]] == [0, len(prompt.tokens), 0]
    until(lambda: engine.stats().running == 0)
    assert engine.released == [0, 0]


def test_a_dropped_answer_frees_its_slot() -> None:
    engine = Watched(slots=1, delay_s=0.001)
    stream = engine.stream(engine.render(QUESTION), FOR_EVER)
    next(stream)
    del stream
    until(lambda: engine.stats().running == 0)
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
    assert {chunk.slot for step in engine.steps for chunk in step} == {0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_cost_only_their_own_answer(bad: float) -> None:
    def spoil(chunk: Chunk, logits: Floats) -> Floats:
        return np.full_like(logits, bad) if 66 in chunk.tokens else logits

    engine = Watched(spoil=spoil)
    good, failed = in_threads(
        lambda: ask(engine, QUESTION, Sampling()), lambda: collect(engine.stream(Prompt((66,)), Sampling()))
    )
    assert isinstance(good, Answer)
    assert good.text == "Good day to you."
    assert isinstance(failed, EngineFailed)
    assert ask(engine, QUESTION, Sampling()).text == "Good day to you."


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
    said = collect(engine.stream(first, Sampling()))
    steps = len(engine.steps)
    second = Prompt(first.tokens + said.tokens + (65, 66, 67))
    answer = collect(engine.stream(second, Sampling(max_tokens=1)))
    # The answer's last token was never fed to the model, and is read now.
    assert answer.usage.cached_tokens == len(first.tokens) + len(said.tokens) - 1
    assert [len(chunk.tokens) for step in engine.steps[steps:] for chunk in step] == [4]


def test_the_last_token_of_a_known_prompt_is_computed() -> None:
    engine = Watched(limits=Limits(kv_bytes=10**6))
    prompt = engine.render(QUESTION)
    first, second = (collect(engine.stream(prompt, Sampling())) for _ in range(2))
    assert second.text == first.text
    assert second.usage.cached_tokens == len(prompt.tokens) - 1


def test_a_prompt_is_known_while_its_answer_is_still_being_made() -> None:
    engine = Watched(limits=Limits(kv_bytes=10**6), delay_s=0.001)
    prompt = engine.render(QUESTION)
    running = engine.stream(prompt, FOR_EVER)
    next(running)
    assert collect(engine.stream(prompt, Sampling())).usage.cached_tokens == len(prompt.tokens) - 1


def test_guesses_that_hold_save_steps_and_change_nothing() -> None:
    text = "the order 4711-0815 of Greta Mensah; "
    times = SteadyTimes(step_s=0.01, more_token_s=0.0001)
    plain, guessing = (Watched(context_tokens=600, speculation=guess, times=times) for guess in (False, True))
    for engine in (plain, guessing):
        engine._decoder.answers[f"copy: {text}"] = text * 3  # type: ignore[attr-defined]
    prompt = plain.render(Conversation([{"role": "user", "content": f"copy: {text}"}]))
    expected = collect(plain.stream(prompt, Sampling()))
    found = collect(guessing.stream(prompt, Sampling()))
    assert (found.tokens, found.text) == (expected.tokens, expected.text)
    assert found.usage.accepted_tokens > len(found.tokens) // 2
    assert found.usage.drafted_tokens >= found.usage.accepted_tokens
    assert len(guessing.steps) < len(plain.steps) // 2


def test_guesses_do_not_run_past_the_limit() -> None:
    text = "abcdefgh" * 20
    engine = Watched(default=text, context_tokens=200, speculation=True)
    prompt = engine.render(Conversation([{"role": "user", "content": text[:80]}]))
    for limit in (1, 2, 3, 9, 100):
        answer = collect(engine.stream(prompt, Sampling(max_tokens=limit, ignore_eos=True)))
        assert (len(answer.tokens), answer.finish) == (limit, "length")
    assert max(chunk.start + len(chunk.tokens) for step in engine.steps for chunk in step) <= 200


def test_where_nothing_can_be_taken_back_nothing_is_guessed() -> None:
    engine = Watched(default="abcdefgh" * 20, context_tokens=200, speculation=True)
    prompt = engine.render(Conversation([{"role": "user", "content": "abcdefgh" * 10}]))
    assert collect(engine.stream(prompt, Sampling())).usage.drafted_tokens > 0
    engine._decoder.goes_back = False
    assert collect(engine.stream(prompt, Sampling())).usage.drafted_tokens == 0


def test_where_a_seed_is_given_nothing_is_guessed() -> None:
    text = "the order 4711-0815 of Greta Mensah; "
    # Steps that are long enough for guesses to pay.
    engine = Watched(context_tokens=600, times=SteadyTimes(step_s=0.01, more_token_s=0.0001))
    engine._decoder.answers["copy"] = text * 3  # type: ignore[attr-defined]
    question = Conversation([{"role": "user", "content": "copy"}])
    free, seeded = (ask(engine, question, Sampling(seed=seed)) for seed in (None, 7))
    assert seeded.text == free.text
    assert free.usage.drafted_tokens > 0
    assert seeded.usage.drafted_tokens == 0


def test_where_log_probabilities_are_asked_no_token_is_forced() -> None:
    engine = Watched(default="yes, indeed")
    constraint = Constraint("regex", "yes, indeed")
    free, shown = (ask(engine, QUESTION, Sampling(constraint=constraint, logprobs=top)) for top in (None, 2))
    assert shown.text == free.text == "yes, indeed"
    assert free.usage.forced_tokens > 0
    assert shown.usage.forced_tokens == 0
    assert len(shown.logprobs) == len(shown.tokens)


@pytest.mark.parametrize("how", ["cancelled", "deadline", "dropped"])
def test_an_answer_can_be_ended_while_its_prompt_is_read(how: str) -> None:
    engine = Watched(token_s=0.0001)
    read, go_on = threading.Event(), threading.Event()

    def spoil(_: Chunk, logits: Floats) -> Floats:
        read.set()
        assert go_on.wait(30)
        return logits

    engine.spoil = spoil
    cancel = threading.Event()
    steps = engine.stream(Prompt((65,) * 3000), Sampling(), cancel=cancel, deadline_s=3600.0)
    assert read.wait(30)
    if how == "cancelled":
        cancel.set()
    elif how == "deadline":
        [request] = engine._running
        request.deadline = 0.0  # type: ignore[attr-defined]
    else:
        del steps
    go_on.set()
    if how != "dropped":
        [last] = steps
        assert last.finish == how
    until(lambda: engine.stats().running == 0)
    # The chunk that was being read is the last one.
    assert len(engine.steps) == 1


def test_callbacks_have_every_step_in_order_while_a_prompt_is_read() -> None:
    engine = Watched(delay_s=0.002, token_s=0.0005, context_tokens=2000)
    given: list[list[Token | Exception]] = [[], [], []]
    for steps in given[:2]:
        engine.converse(QUESTION, replace(FOR_EVER, max_tokens=200), on_step=steps.append)
    engine.stream(Prompt((65,) * 1000), Sampling(max_tokens=1), on_step=given[2].append)
    until(lambda: all(steps and isinstance(steps[-1], Token) and bool(steps[-1].finish) for steps in given))
    expected = collect(engine.stream(engine.render(QUESTION), replace(FOR_EVER, max_tokens=200)))
    for steps in given[:2]:
        assert tuple(step.id for step in steps if isinstance(step, Token)) == expected.tokens


def test_closing_tells_callbacks_too() -> None:
    engine = Watched(slots=1, delay_s=0.001)
    given: list[list[Token | Exception]] = [[], []]
    for steps in given:
        engine.converse(QUESTION, FOR_EVER, on_step=steps.append)
    until(lambda: bool(given[0]))
    engine.close()
    for steps in given:
        assert isinstance(steps[-1], EngineFailed)


def test_what_goes_on_from_a_text_keeps_the_space_between(tmp_path: Path) -> None:
    make_sentencepiece_tokenizer(tmp_path)
    world = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).token_to_id("\u2581world,")
    assert world is not None
    settings = Sampling(logit_bias={world: 1000.0}, max_tokens=1)
    held = replace(settings, constraint=Constraint("regex", "world,"))
    with open_bigram(tmp_path) as engine:
        text = engine.encode("hello")
        assert collect(engine.stream(text, settings)).text == " world,"
        assert collect(engine.stream(Prompt(text.tokens), settings)).text == "world,"  # a template may end so
        assert collect(engine.stream(text, held)).text == "world,"
