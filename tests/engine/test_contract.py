"""What every engine promises, asked of each one."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeship.engine import ENGINES, load
from edgeship.engine.api import Engine, Prompt, Sampling, check_sampling, check_tokens
from edgeship.engine.chat import ask
from edgeship.engine.scripted import write_script
from edgeship.errors import EngineFailed, PromptInvalid, UsageError

QUESTION = [{"role": "user", "content": "how are you today?"}]
ANSWER = "Fine, thank you \N{SMILING FACE WITH SMILING EYES}. And how is your order?"
# On a model of random weights these make an answer that is not one token over and over.
LIVELY = Sampling(temperature=2.0, top_k=0, top_p=1.0, seed=11, max_tokens=24)


@pytest.fixture(params=["scripted", pytest.param("genai", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    folder = tmp_path
    if request.param == "scripted":
        write_script(tmp_path, {"how are you today?": ANSWER}, context_tokens=200)
    else:
        folder = request.getfixturevalue("int4_folder")
    loaded = load(folder, engine=request.param)
    yield loaded
    loaded.close()


def test_every_engine_is_tested_here() -> None:
    assert set(ENGINES) == {"scripted", "genai"}


def test_unknown_engine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no engine is called 'warp'"):
        load(tmp_path, engine="warp")


def test_an_answer_ends_with_its_reason_and_only_there(engine: Engine) -> None:
    tokens = list(engine.stream(engine.chat(QUESTION), LIVELY))
    assert [token.finish is not None for token in tokens] == [False] * (len(tokens) - 1) + [True]
    assert all(token.id is not None and 0 <= token.id < engine.vocab_size for token in tokens)
    assert len(tokens) <= 24


def test_the_same_seed_gives_the_same_answer(engine: Engine) -> None:
    prompt = engine.chat(QUESTION)
    first, second = (ask(engine, prompt, LIVELY) for _ in range(2))
    assert (first.tokens, first.text, first.finish) == (second.tokens, second.text, second.finish)
    assert first.text


def test_max_tokens_cuts(engine: Engine) -> None:
    answer = ask(engine, engine.chat(QUESTION), Sampling(max_tokens=3, ignore_eos=True))
    assert (len(answer.tokens), answer.finish) == (3, "length")
    assert answer.usage.completion_tokens == 3
    assert 0 < answer.usage.ttft_s <= answer.usage.e2e_s


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_stop_text_ends_the_answer_and_is_not_shown(engine: Engine, length: int) -> None:
    prompt = engine.chat(QUESTION)
    whole = ask(engine, prompt, LIVELY)
    stop = whole.text[4 : 4 + length]
    answer = ask(engine, prompt, Sampling(**(vars(LIVELY) | {"stop": (stop, "never said")})))
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert answer.finish == "stop"
    assert whole.tokens[: len(answer.tokens)] == answer.tokens


def test_ignore_eos_fills_the_context(engine: Engine) -> None:
    prompt = engine.chat(QUESTION)
    room = engine.context_tokens - len(prompt.tokens)
    answer = ask(engine, prompt, Sampling(ignore_eos=True, max_tokens=10**9))
    assert (len(answer.tokens), answer.finish) == (room, "length")


def test_the_longest_prompt_leaves_room_for_one_token(engine: Engine) -> None:
    prompt = Prompt((7,) * (engine.context_tokens - 1))
    answer = ask(engine, prompt, Sampling(ignore_eos=True))
    assert (len(answer.tokens), answer.finish) == (1, "length")


def test_a_longer_prompt_is_refused_with_both_numbers(engine: Engine) -> None:
    length = engine.context_tokens
    with pytest.raises(PromptInvalid, match=f"has {length} tokens and the model takes at most {length - 1}"):
        engine.stream(Prompt((7,) * length), Sampling())


def test_cancelled_before_the_first_token(engine: Engine) -> None:
    cancel = threading.Event()
    cancel.set()
    [only] = engine.stream(engine.chat(QUESTION), Sampling(), cancel)
    assert (only.id, only.text, only.finish) == (None, "", "cancelled")


def test_cancelled_in_the_middle_keeps_what_was_said(engine: Engine) -> None:
    cancel = threading.Event()
    prompt = engine.chat(QUESTION)
    whole = ask(engine, prompt, LIVELY)
    pieces: list[str] = []

    def tell(text: str) -> None:
        pieces.append(text)
        if len(pieces) == 3:
            cancel.set()

    answer = ask(engine, prompt, LIVELY, cancel=cancel, tell=tell)
    assert answer.finish == "cancelled"
    assert answer.text == "".join(pieces)
    assert whole.text.startswith(answer.text)
    assert len(answer.tokens) < len(whole.tokens)


def test_a_dropped_answer_leaves_the_engine_usable(engine: Engine) -> None:
    prompt = engine.chat(QUESTION)
    before = ask(engine, prompt, LIVELY).tokens
    dropped = engine.stream(prompt, LIVELY)
    next(dropped)
    del dropped
    assert ask(engine, prompt, LIVELY).tokens == before


def test_score_has_a_row_for_each_token(engine: Engine) -> None:
    tokens = engine.encode("how are you").tokens
    logits = engine.score(tokens)
    assert logits.shape == (len(tokens), engine.vocab_size)
    assert logits.dtype == np.float32
    assert np.allclose(engine.score(tokens[:1])[0], logits[0], atol=1e-4)
    assert len(engine.score((7,) * engine.context_tokens)) == engine.context_tokens


def test_score_from_a_token_on_has_the_same_rows(engine: Engine) -> None:
    tokens = engine.encode("how are you today, and tomorrow").tokens
    whole = engine.score(tokens)
    for first in (0, 1, 5, len(tokens) - 1):
        rows = engine.score(tokens, first)
        assert rows.shape == (len(tokens) - first, engine.vocab_size)
        assert np.allclose(rows, whole[first:], atol=0.05 * np.ptp(whole))
    for first in (-1, len(tokens)):
        with pytest.raises(PromptInvalid, match="is not among"):
            engine.score(tokens, first)


@pytest.mark.parametrize("tokens", [(), (3, -1), (10**6,)])
def test_impossible_tokens(engine: Engine, tokens: tuple[int, ...]) -> None:
    with pytest.raises(PromptInvalid, match=r"empty|outside the vocabulary"):
        engine.stream(Prompt(tokens), Sampling())
    with pytest.raises(PromptInvalid, match=r"empty|outside the vocabulary"):
        engine.score(tokens)


def test_bad_settings_are_refused_before_the_first_token(engine: Engine) -> None:
    with pytest.raises(PromptInvalid, match="top_p is 0"):
        engine.stream(engine.chat(QUESTION), Sampling(top_p=0))


def test_no_conversation_and_no_text(engine: Engine) -> None:
    with pytest.raises(PromptInvalid, match="no message"):
        engine.chat([])
    with pytest.raises(PromptInvalid, match="not Unicode"):
        engine.encode("half \udc80 a pair")
    with pytest.raises(PromptInvalid, match="not Unicode"):
        engine.chat([{"role": "user", "content": "\ud800"}])


def test_closed(engine: Engine) -> None:
    prompt = engine.chat(QUESTION)
    engine.close()
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine.stream(prompt, Sampling())
    with pytest.raises(EngineFailed, match="closed"):
        engine.score(prompt.tokens)


@pytest.mark.parametrize(
    ("sampling", "named"),
    [
        (Sampling(temperature=-0.1), "temperature is -0.1; it must be a number of at least 0"),
        (Sampling(temperature=math.nan), "temperature is nan"),
        (Sampling(top_p=1.01), "top_p is 1.01; it must be greater than 0 and at most 1"),
        (Sampling(top_p=math.nan), "top_p is nan"),
        (Sampling(top_k=-1), "top_k is -1; it must be at least 0"),
        (Sampling(repetition_penalty=0), "repetition_penalty is 0; it must be a number greater than 0"),
        (Sampling(repetition_penalty=math.inf), "repetition_penalty is inf"),
        (Sampling(max_tokens=0), "max_tokens is 0; it must be at least 1"),
        (Sampling(stop=("a", "")), "stop is .*; it must be without empty texts"),
    ],
)
def test_settings_out_of_range(sampling: Sampling, named: str) -> None:
    with pytest.raises(PromptInvalid, match=named):
        check_sampling(sampling)


def test_settings_at_the_ends_of_their_ranges() -> None:
    check_sampling(Sampling())
    check_sampling(Sampling(temperature=0, top_p=1, top_k=0, repetition_penalty=0.1, max_tokens=1, stop=("a",)))


def test_tokens_at_the_ends_of_their_range() -> None:
    check_tokens((0, 9), limit=2, vocab_size=10)
    with pytest.raises(PromptInvalid, match="token id 10 is outside the vocabulary of 10"):
        check_tokens((0, 10), limit=2, vocab_size=10)


def test_unset_settings_come_from_the_defaults() -> None:
    defaults = Sampling(temperature=0.7, top_p=0.9, max_tokens=100)
    assert Sampling(temperature=0.0, seed=1).over(defaults) == Sampling(
        temperature=0.0, top_p=0.9, max_tokens=100, seed=1
    )


def test_a_script_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"scripted\.json cannot be read"):
        load(tmp_path, engine="scripted")
    write_script(tmp_path, {}, colour="red")
    with pytest.raises(EngineFailed, match="colour"):
        load(tmp_path, engine="scripted")
