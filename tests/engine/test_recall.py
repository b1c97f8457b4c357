"""Where texts of a model with states are gone on with, and that nothing of it shows in answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeship.engine.answer import Answer, collect
from edgeship.engine.api import Limits, Prompt, Sampling
from edgeship.engine.continuous import ContinuousEngine
from edgeship.engine.decoders.onnx import OnnxDecoder
from edgeship.engine.opening import load
from edgeship.engine.recall import Recall
from edgeship.engine.request import Scoring
from tests.checkpoints import VOCAB
from tests.hybrid import CONTEXT_TOKENS, STATE_FLOATS, TOKEN_FLOATS, Plain, make_hybrid
from tests.packages import config_of

GREEDY = Sampling(temperature=0, ignore_eos=True, max_tokens=12)
LIVELY = Sampling(temperature=1.2, top_k=0, top_p=1, seed=5, ignore_eos=True, max_tokens=12)
SLOT_BYTES = 4 * (CONTEXT_TOKENS * TOKEN_FLOATS + STATE_FLOATS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hybrid(tmp_path_factory.mktemp("hybrid"))


@pytest.fixture(scope="module")
def plain(folder: Path) -> Plain:
    return Plain(folder)


def open_engine(folder: Path, *, slots: int = 2, cache_bytes: int = 10**6) -> ContinuousEngine:
    limits = Limits(slots=slots, context_tokens=CONTEXT_TOKENS, kv_bytes=slots * SLOT_BYTES + cache_bytes)
    engine = load(folder, threads=1, limits=limits)
    assert isinstance(engine, ContinuousEngine)
    assert engine.name == "batched"
    return engine


@pytest.fixture
def engine(folder: Path) -> Iterator[ContinuousEngine]:
    with open_engine(folder) as made:
        yield made


def text(seed: int, length: int) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(3, VOCAB, length).tolist()
    return found


def answer(engine: ContinuousEngine, tokens: list[int], sampling: Sampling = GREEDY) -> Answer:
    return collect(engine.stream(Prompt(tuple(tokens)), sampling))


def known(found: Answer) -> int:
    return found.usage.cached_tokens


def test_the_same_prompt_again_is_known_but_for_its_end(engine: ContinuousEngine, plain: Plain) -> None:
    prompt = text(1, 61)
    first, second = answer(engine, prompt), answer(engine, prompt)
    assert (known(first), known(second)) == (0, 52)
    assert list(first.tokens) == list(second.tokens) == plain.greedy(prompt, 12)


def test_a_chat_goes_on_from_its_last_answer(engine: ContinuousEngine, plain: Plain) -> None:
    prompt = text(2, 40)
    said = answer(engine, prompt, replace(GREEDY, max_tokens=30)).tokens
    more = [*prompt, *said, *text(3, 30)]
    found = answer(engine, more)
    # The last token that was chosen was never read.
    assert known(found) == 40 + 29
    assert list(found.tokens) == plain.greedy(more, 12)


def test_a_chat_whose_answer_is_shown_otherwise_goes_on_before_what_led_to_it(
    engine: ContinuousEngine, plain: Plain
) -> None:
    """As where the next turn leaves marks of thoughts out that stood at the end of the prompt."""
    prompt = text(4, 50)
    answer(engine, [*prompt, 9, 10, 11])
    more = [*prompt, *text(5, 40)]
    found = answer(engine, more)
    assert known(found) == 44
    assert list(found.tokens) == plain.greedy(more, 12)


def test_what_two_texts_began_with_is_known_for_the_third(engine: ContinuousEngine, plain: Plain) -> None:
    instructions = text(6, 41)
    asked = [[*instructions, *text(seed, 40)] for seed in (7, 8, 9)]
    found = [answer(engine, tokens) for tokens in asked]
    assert [known(each) for each in found] == [0, 0, 40]
    assert [list(each.tokens) for each in found] == [plain.greedy(tokens, 12) for tokens in asked]


def test_short_texts_keep_no_state(engine: ContinuousEngine) -> None:
    answer(engine, text(10, 12), replace(GREEDY, max_tokens=2))
    assert engine.cache.bytes == 0


@pytest.mark.parametrize("length", [70, 71])
def test_an_answer_with_a_seed_is_the_same_with_what_is_known_and_without(folder: Path, length: int) -> None:
    """To the bit: what comes out of a cut of the prompt must not show."""
    prompt, other, third = ([*text(11, 41), *text(seed, length - 41)] for seed in (12, 13, 14))
    sampling = replace(LIVELY, logprobs=1)
    with open_engine(folder, cache_bytes=0) as without, open_engine(folder) as remembering:
        for asked, known_tokens in ((prompt, 0), (prompt, 62), (other, 0), (third, 40), (other, 62)):
            expected, found = answer(without, asked, sampling), answer(remembering, asked, sampling)
            assert known(found) == known_tokens
            assert found.tokens == expected.tokens
            assert [each.logprob for each in found.logprobs] == [each.logprob for each in expected.logprobs]


def test_answers_side_by_side_are_those_given_alone(folder: Path, plain: Plain) -> None:
    prompts = [[*text(20, 30), *text(seed, seed % 37 + 1)] for seed in range(21, 45)]
    expected = [plain.greedy(prompt, 12) for prompt in prompts]
    with open_engine(folder, slots=3, cache_bytes=60_000) as engine, ThreadPoolExecutor(6) as pool:
        wanted = [replace(GREEDY, seed=number if number % 3 else None) for number in range(len(prompts))]
        found = list(pool.map(lambda pair: answer(engine, *pair), zip(prompts, wanted, strict=True)))
        assert 0 < engine.cache.bytes <= 60_000
        assert engine.cache.hits
    assert [list(each.tokens) for each in found] == expected


def test_an_answer_that_is_cancelled_spoils_no_other(folder: Path, plain: Plain) -> None:
    with open_engine(folder) as engine:
        for seed in range(6):
            prompt, cancel = text(50 + seed, 90), threading.Event()
            steps = engine.stream(Prompt(tuple(prompt)), replace(GREEDY, max_tokens=60), cancel=cancel)
            for _ in range(seed * 3):
                next(steps)
            cancel.set()
            collect(steps) if seed else steps.close()
            assert list(answer(engine, prompt).tokens) == plain.greedy(prompt, 12)


def test_a_text_is_read_in_even_parts_but_for_its_end(folder: Path) -> None:
    """A single token in the middle would take a run of its own, and show in the answer."""
    decoder = OnnxDecoder(config_of(folder), threads=1, slots=1, context_tokens=CONTEXT_TOKENS)
    recall, work = Recall(decoder, 10**6), Scoring(0, text(1, 61), 0)
    work.slot = 0
    assert [recall.until_stop(work, most) for most in (1, 7, 8, 100)] == [1, 6, 8, 61]
    work.may_use_cache = True
    assert recall.begin(work, 0) == 0
    assert [recall.until_stop(work, most) for most in (7, 100)] == [6, 52]


def test_scores_are_those_of_the_text_alone(engine: ContinuousEngine, plain: Plain) -> None:
    tokens = text(70, 70)
    found = engine.score(tokens, 33)
    expected = [plain.logits(tokens[: end + 1]) for end in range(33, 70)]
    assert np.abs(found - expected).max() < 1e-5 * np.ptp(expected)
