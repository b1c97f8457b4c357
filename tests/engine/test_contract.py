"""What every engine promises, asked of each one."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.engine.answer import ask, collect
from edgeship.engine.api import (
    Constraint,
    Conversation,
    Engine,
    Limits,
    Prompt,
    Sampling,
    Token,
    check_sampling,
    check_tokens,
)
from edgeship.engine.opening import ENGINES, load
from edgeship.errors import ConstraintInvalid, ContextFull, EngineBusy, EngineFailed, PromptInvalid, UsageError
from tests import scripted
from tests.scripted import write_script

QUESTION = Conversation([{"role": "user", "content": "how are you today?"}])
ANSWER = "Fine, thank you \N{SMILING FACE WITH SMILING EYES}. And how is your order?"
# On a model of random weights these make an answer that is not one token over and over.
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
LIVELY = Sampling(temperature=2.0, top_k=0, top_p=1.0, seed=11, max_tokens=24)


SLOW = pytest.mark.slow


@pytest.fixture(
    params=[
        "scripted",
        pytest.param("isolated", marks=SLOW),
        pytest.param("batched", marks=SLOW),
        pytest.param("genai", marks=SLOW),
    ]
)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Each engine with room for three answers at a time and a prefix cache, if it can have one."""
    limits = Limits(slots=3, context_tokens=200, kv_bytes=10**8, waiting=8)
    folder = tmp_path
    if request.param in ("scripted", "isolated"):
        write_script(tmp_path, {"how are you today?": ANSWER}, context_tokens=200)
    else:
        folder = request.getfixturevalue("int4_folder")
    loaded: Engine
    if request.param == "isolated":
        from edgeship.engine.isolated import IsolatedEngine

        loaded = IsolatedEngine(folder, engine=scripted.ENGINE, limits=limits)
    else:
        name = scripted.ENGINE if request.param == "scripted" else request.param
        loaded = load(folder, engine=name, limits=limits)
    yield loaded
    loaded.close()


def test_every_engine_is_tested_here() -> None:
    # Foundry Local answers conversations alone and tells no token ids: test_foundry.py asks what it can.
    assert set(ENGINES) == {"genai", "batched", "foundry"}


def test_unknown_engine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no engine is called 'warp'"):
        load(tmp_path, engine="warp")


def test_an_answer_ends_with_its_reason_and_only_there(engine: Engine) -> None:
    tokens = list(engine.stream(engine.render(QUESTION), LIVELY))
    assert [token.finish is not None for token in tokens] == [False] * (len(tokens) - 1) + [True]
    assert all(token.id is not None and 0 <= token.id < engine.vocab_size for token in tokens)
    assert len(tokens) <= 24


def test_an_answer_that_was_begun_goes_on(engine: Engine) -> None:
    asked = Conversation([*QUESTION.messages, {"role": "assistant", "content": "Fine, thank"}], continues=True)
    prompt, anew = engine.render(asked), engine.render(QUESTION)
    assert prompt.continues
    assert prompt.tokens[: len(anew.tokens)] == anew.tokens
    assert len(prompt.tokens) > len(anew.tokens)
    answer = ask(engine, asked, Sampling(max_tokens=4))
    assert answer.tokens == collect(engine.stream(prompt, Sampling(max_tokens=4))).tokens
    if engine.name == "scripted":
        assert answer.text == " you"


def test_the_same_seed_gives_the_same_answer(engine: Engine) -> None:
    prompt = engine.render(QUESTION)
    first, second = (collect(engine.stream(prompt, LIVELY)) for _ in range(2))
    assert (first.tokens, first.text, first.finish) == (second.tokens, second.text, second.finish)
    assert first.text


def test_max_tokens_cuts(engine: Engine) -> None:
    answer = ask(engine, QUESTION, Sampling(max_tokens=3, ignore_eos=True))
    assert (len(answer.tokens), answer.finish) == (3, "length")
    assert answer.usage.completion_tokens == 3
    assert 0 < answer.usage.ttft_s <= answer.usage.e2e_s


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_stop_text_ends_the_answer_and_is_not_shown(engine: Engine, length: int) -> None:
    prompt = engine.render(QUESTION)
    whole = collect(engine.stream(prompt, LIVELY))
    stop = whole.text[4 : 4 + length]
    answer = collect(engine.stream(prompt, Sampling(**(vars(LIVELY) | {"stop": (stop, "never said")}))))
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert (answer.finish, answer.stopped_by, whole.stopped_by) == ("stop", stop, None)
    assert whole.tokens[: len(answer.tokens)] == answer.tokens


def test_ignore_eos_fills_the_context(engine: Engine) -> None:
    prompt = engine.render(QUESTION)
    room = engine.context_tokens - len(prompt.tokens)
    answer = collect(engine.stream(prompt, Sampling(ignore_eos=True, max_tokens=10**9)))
    assert (len(answer.tokens), answer.finish) == (room, "length")


def test_the_longest_prompt_leaves_room_for_one_token(engine: Engine) -> None:
    prompt = Prompt((7,) * (engine.context_tokens - 1))
    answer = collect(engine.stream(prompt, Sampling(ignore_eos=True)))
    assert (len(answer.tokens), answer.finish) == (1, "length")


def test_a_longer_prompt_is_refused_with_both_numbers(engine: Engine) -> None:
    length = engine.context_tokens
    with pytest.raises(PromptInvalid, match=f"has {length} tokens and the model takes at most {length - 1}"):
        engine.stream(Prompt((7,) * length), Sampling())


def test_each_token_s_place_is_told_beside_its_log_probability(engine: Engine) -> None:
    """In the text of all tokens: where a stop text is held back, a token's own text is told later."""
    prompt = engine.encode("how are you")
    settings = replace(LIVELY, logprobs=0)
    steps = list(engine.stream(prompt, settings))
    starts = [step.start for step in steps]
    assert starts == [len("".join(step.text for step in steps[:place])) for place in range(len(steps))]
    text = "".join(step.text for step in steps)
    held = list(engine.stream(prompt, replace(settings, stop=(text[3:8] + "never said",))))
    assert [step.start for step in held] == starts
    assert [step.start for step in engine.stream(prompt, LIVELY)] == [None] * len(steps)


def test_what_an_engine_tells_of_its_tokens(engine: Engine) -> None:
    text = "how are you \N{GRINNING FACE}?"
    tokens = engine.codec.encode(text, special=False).tokens
    assert engine.codec.decode(tokens) == text
    assert b"".join(spelling.in_bytes for spelling in engine.codec.spell(tokens)) == text.encode()
    assert engine.codec.places(tokens, text)[:2] == (0, len(engine.codec.decode(tokens[:1])))
    assert engine.codec.render(QUESTION) == engine.render(QUESTION)
    assert not engine.codec.thinks


def test_cancelled_before_the_first_token(engine: Engine) -> None:
    cancel = threading.Event()
    cancel.set()
    [only] = engine.stream(engine.render(QUESTION), Sampling(), cancel=cancel)
    assert (only.id, only.text, only.finish) == (None, "", "cancelled")


def test_cancelled_in_the_middle_keeps_what_was_said(engine: Engine) -> None:
    cancel = threading.Event()
    prompt = engine.render(QUESTION)
    whole = collect(engine.stream(prompt, LIVELY))
    pieces: list[str] = []

    def tell(text: str) -> None:
        pieces.append(text)
        if len(pieces) == 3:
            cancel.set()

    answer = collect(engine.stream(prompt, LIVELY, cancel=cancel), tell)
    assert answer.finish == "cancelled"
    assert answer.text == "".join(pieces)
    assert whole.text.startswith(answer.text)
    assert len(answer.tokens) < len(whole.tokens)


def test_a_dropped_answer_leaves_the_engine_usable(engine: Engine) -> None:
    prompt = engine.render(QUESTION)
    before = collect(engine.stream(prompt, LIVELY)).tokens
    dropped = engine.stream(prompt, LIVELY)
    next(dropped)
    del dropped
    assert collect(engine.stream(prompt, LIVELY)).tokens == before


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


def test_usage_is_on_the_last_step_and_only_there(engine: Engine) -> None:
    prompt = engine.render(QUESTION)
    tokens = list(engine.stream(prompt, Sampling(max_tokens=5, ignore_eos=True)))
    assert [token.usage is None for token in tokens] == [True] * 4 + [False]
    usage = tokens[-1].usage
    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(prompt.tokens), 5)
    assert 0 <= usage.queue_s <= usage.ttft_s <= usage.e2e_s


def test_answers_side_by_side_are_those_that_are_given_alone(engine: Engine) -> None:
    prompts = [engine.encode(text) for text in ("how are you", "today?", "yes, and a longer one than that", "a", "b c")]
    settings = [replace(LIVELY, seed=seed, max_tokens=4 + seed) for seed in range(len(prompts))]
    alone = [collect(engine.stream(*pair)).tokens for pair in zip(prompts, settings, strict=True)]
    with ThreadPoolExecutor(len(prompts)) as pool:
        together = list(pool.map(lambda *pair: collect(engine.stream(*pair)).tokens, prompts, settings))
    assert together == alone


def test_more_requests_than_may_wait_are_refused(engine: Engine) -> None:
    prompt = engine.render(QUESTION)
    streams: list[Iterator[Token]] = []

    def fill() -> None:
        for _ in range(50):
            streams.append(engine.stream(prompt, Sampling(ignore_eos=True)))

    with pytest.raises(EngineBusy, match="wait already"):
        fill()
    assert len(streams) >= 8
    del streams[1:]
    assert list(streams[0])[-1].finish == "length"


def test_past_its_deadline_an_answer_is_cut(engine: Engine) -> None:
    prompt = engine.render(QUESTION)
    [only] = engine.stream(prompt, Sampling(ignore_eos=True), deadline_s=0.0)
    assert (only.id, only.finish) == (None, "deadline")
    assert collect(engine.stream(prompt, Sampling(max_tokens=2, ignore_eos=True))).finish == "length"


def test_log_probabilities_are_the_models_own(engine: Engine) -> None:
    prompt = engine.encode("how are you today")
    answer = collect(engine.stream(prompt, replace(LIVELY, logprobs=3, max_tokens=4, ignore_eos=True)))
    assert len(answer.logprobs) == 4
    tokens = prompt.tokens + answer.tokens
    expected = _log_softmax(engine.score(tokens[:-1], len(prompt.tokens) - 1))
    for found, row, token in zip(answer.logprobs, expected, answer.tokens, strict=True):
        assert found.logprob == pytest.approx(row[token], abs=0.1)
        assert len(found.top) == 3
        assert [value for _, value in found.top] == sorted((value for _, value in found.top), reverse=True)
        assert found.top[0][1] == pytest.approx(row.max(), abs=0.1)


def test_log_probabilities_of_a_prompt(engine: Engine) -> None:
    prompt = engine.encode("how are you today, and tomorrow")
    first, *rest = engine.stream(prompt, Sampling(max_tokens=2, prompt_logprobs=2, ignore_eos=True))
    assert first.prompt_logprobs
    assert all(token.prompt_logprobs is None for token in rest)
    assert [token.prompt_tokens for token in (first, *rest)] == [len(prompt.tokens), None]
    expected = _log_softmax(engine.score(prompt.tokens))
    assert [found.logprob for found in first.prompt_logprobs] == pytest.approx(
        [float(row[token]) for row, token in zip(expected, prompt.tokens[1:], strict=False)], abs=0.1
    )


def test_log_probabilities_of_a_prompt_whose_answer_is_forced(engine: Engine) -> None:
    prompt = engine.encode("how are you today")
    forced = Sampling(prompt_logprobs=0, constraint=Constraint("regex", "abc"))
    found = collect(engine.stream(prompt, forced))
    assert found.text == "abc"
    assert len(found.prompt_logprobs) == len(prompt.tokens) - 1


def test_a_setting_that_only_the_model_can_check_is_named(engine: Engine) -> None:
    with pytest.raises(PromptInvalid, match="outside the vocabulary") as refused:
        engine.stream(engine.encode("hello"), Sampling(logit_bias={10**6: 1.0}))
    assert refused.value.param == "logit_bias"


def test_a_bias_decides(engine: Engine) -> None:
    settings = Sampling(temperature=0.0, logit_bias={65: 1000.0}, max_tokens=3, ignore_eos=True)
    assert ask(engine, QUESTION, settings).tokens == (65, 65, 65)


@SLOW
@pytest.mark.parametrize(
    ("constraint", "valid"),
    [
        (Constraint("regex", "[a-c]{3,5}"), lambda text: re.fullmatch("[a-c]{3,5}", text)),
        (
            Constraint("json_schema", json.dumps(SCHEMA)),
            lambda text: isinstance(json.loads(text)["ok"], bool),
        ),
        (Constraint("lark", 'start: "yes" | "no"'), lambda text: text in ("yes", "no")),
    ],
    ids=lambda value: value.kind if isinstance(value, Constraint) else "",
)
def test_an_answer_is_held_to_its_constraint(engine: Engine, constraint: Constraint, valid: object) -> None:
    assert callable(valid)
    for seed in range(4):
        answer = ask(engine, QUESTION, replace(LIVELY, seed=seed, max_tokens=100, constraint=constraint))
        assert answer.finish == "stop"
        assert valid(answer.text), answer.text
        assert answer.usage.completion_tokens == len(answer.tokens)


@SLOW
def test_an_answer_that_was_cut_says_why_it_is_incomplete(engine: Engine) -> None:
    answer = ask(engine, QUESTION, replace(LIVELY, max_tokens=2, constraint=Constraint("regex", "a{50}")))
    assert (answer.finish, answer.text.strip("a")) == ("length", "")


@SLOW
@pytest.mark.parametrize(
    "constraint",
    [Constraint("json_schema", "{"), Constraint("json_schema", '{"type": 3}'), Constraint("regex", "(")],
)
def test_a_constraint_that_cannot_be_read(engine: Engine, constraint: Constraint) -> None:
    with pytest.raises(ConstraintInvalid):
        engine.stream(engine.render(QUESTION), Sampling(constraint=constraint))


def test_a_second_turn_knows_the_first(engine: Engine) -> None:
    first = engine.encode("how are you today, my dear friend? " * 2)
    said = collect(engine.stream(first, replace(LIVELY, max_tokens=8)))
    second = Prompt(first.tokens + said.tokens + engine.encode(" and you?").tokens)
    answer = collect(engine.stream(second, LIVELY))
    # An engine without a prefix cache says so by knowing nothing.
    assert answer.usage.cached_tokens in (0, *range(len(first.tokens), len(second.tokens)))
    assert answer.usage.cached_tokens > 0 or engine.name == "genai"


@pytest.mark.parametrize("tokens", [(), (3, -1), (10**6,)])
def test_impossible_tokens(engine: Engine, tokens: tuple[int, ...]) -> None:
    with pytest.raises(PromptInvalid, match=r"empty|outside the vocabulary"):
        engine.stream(Prompt(tokens), Sampling())
    with pytest.raises(PromptInvalid, match=r"empty|outside the vocabulary"):
        engine.score(tokens)


def test_bad_settings_are_refused_before_the_first_token(engine: Engine) -> None:
    with pytest.raises(PromptInvalid, match="top_p is 0"):
        engine.stream(engine.render(QUESTION), Sampling(top_p=0))


def test_no_conversation_and_no_text(engine: Engine) -> None:
    with pytest.raises(PromptInvalid, match="no message"):
        engine.render(Conversation([]))
    with pytest.raises(PromptInvalid, match="not Unicode"):
        engine.encode("half \udc80 a pair")
    with pytest.raises(PromptInvalid, match="not Unicode"):
        engine.render(Conversation([{"role": "user", "content": "\ud800"}]))


NO_EVENT: Any = threading.Event
NO_FLOAT: Any = Decimal("0.5")


@pytest.mark.parametrize(
    ("ending", "named"),
    [
        ({"cancel": 5}, "cancel is 5"),
        ({"cancel": NO_EVENT}, "cancel is <class"),
        ({"deadline_s": math.nan}, "deadline_s is nan"),
        ({"deadline_s": math.inf}, "deadline_s is inf"),
        ({"deadline_s": -1}, "deadline_s is -1"),
        ({"deadline_s": "soon"}, "deadline_s is 'soon'"),
        ({"deadline_s": True}, "deadline_s is True"),
        ({"deadline_s": -(10**400)}, "deadline_s is -1000"),
        ({"deadline_s": 10**400}, "deadline_s is 1000"),
    ],
)
def test_what_could_end_no_answer_is_refused(engine: Engine, ending: dict[str, Any], named: str) -> None:
    for ask_for in (engine.stream, engine.converse):
        given: Any = Prompt((5,)) if ask_for == engine.stream else QUESTION
        with pytest.raises(PromptInvalid, match=named) as caught:
            ask_for(given, LIVELY, **ending)
        assert caught.value.hint


def test_closed(engine: Engine) -> None:
    prompt = engine.render(QUESTION)
    engine.close()
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine.stream(prompt, Sampling())
    with pytest.raises(EngineFailed, match="closed"):
        engine.score(prompt.tokens)


@pytest.mark.parametrize(
    ("sampling", "named"),
    [
        (Sampling(temperature=-0.1), "temperature is -0.1; it must be a number from 0 to"),
        (Sampling(temperature=math.nan), "temperature is nan"),
        (Sampling(temperature=NO_FLOAT), r"temperature is Decimal\('0.5'\); it must be a number from 0 to"),
        (Sampling(logit_bias={1: NO_FLOAT}), r"logit_bias is \{1: Decimal\('0.5'\)\}; it must be made of numbers"),
        (Sampling(top_p=1.01), "top_p is 1.01; it must be greater than 0 and at most 1"),
        (Sampling(top_p=math.nan), "top_p is nan"),
        (Sampling(top_k=-1), "top_k is -1; it must be from 0 to"),
        (Sampling(repetition_penalty=0), "repetition_penalty is 0; it must be a number from 0.0001 to"),
        (Sampling(repetition_penalty=math.inf), "repetition_penalty is inf"),
        (Sampling(max_tokens=0), "max_tokens is 0; it must be from 1 to"),
        (Sampling(stop=("a", "")), "stop is .*; it must be without empty texts"),
        (Sampling(repetition_penalty=1e-300), "repetition_penalty is 1e-300; it must be a number from 0.0001 to"),
        (Sampling(presence_penalty=1e300), "presence_penalty is"),
        (Sampling(frequency_penalty=-1e300), "frequency_penalty is"),
        (Sampling(logit_bias={5: 1e300}), "made of numbers from -1e9 to 1e9"),
        (Sampling(max_tokens=10**400), r"max_tokens is 1000.*; it must be from 1 to 2\^64 - 1"),
        (Sampling(thinking_tokens=-1), "thinking_tokens is -1; it must be from 0 to"),
        (Sampling(seed=-1), "seed is -1; it must be from 0 to"),
        (Sampling(temperature="hot"), "temperature is 'hot': input should be a valid number"),  # type: ignore[arg-type]
        (Sampling(top_k=1.5), "top_k is 1.5: input should be a valid integer"),  # type: ignore[arg-type]
        (Sampling(max_tokens=True), "max_tokens is True: input should be a valid integer"),
        (Sampling(stop=(1,)), r"stop is \(1,\): input should be a valid string"),  # type: ignore[arg-type]
        (Sampling(logit_bias={5: None}), "logit_bias is .*: input should be a valid number"),  # type: ignore[dict-item]
        (Sampling(constraint=Constraint("warp", "x")), "constraint is .*: input should be 'json_schema'"),  # type: ignore[arg-type]
        (Sampling(constraint=Constraint("regex", None)), "constraint is .*: input should be a valid string"),  # type: ignore[arg-type]
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
    with pytest.raises(ContextFull, match="takes at most 1, since memory is short") as full:
        check_tokens((0, 9), limit=1, vocab_size=10, cut="memory is short")
    assert "tools" in (full.value.hint or "")  # clients offer some that nobody typed
    with pytest.raises(PromptInvalid, match="token id 10 is outside the vocabulary of 10"):
        check_tokens((0, 10), limit=2, vocab_size=10)


def test_unset_settings_come_from_the_defaults() -> None:
    defaults = Sampling(temperature=0.7, top_p=0.9, max_tokens=100)
    assert Sampling(temperature=0.0, seed=1).over(defaults) == Sampling(
        temperature=0.0, top_p=0.9, max_tokens=100, seed=1
    )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"limits": Limits(slots=0)}, "slots is 0; .* from 1 to 1024"),
        ({"limits": Limits(slots=10**9)}, "slots is 1000000000; .* from 1 to 1024"),
        ({"limits": Limits(slots=1.5)}, "slots is 1.5"),  # type: ignore[arg-type]
        ({"limits": Limits(slots=True)}, "slots is True"),
        ({"limits": Limits(context_tokens="many")}, "context_tokens is 'many'"),  # type: ignore[arg-type]
        ({"limits": Limits(context_tokens=2**31)}, "context_tokens is 2147483648"),
        ({"limits": Limits(kv_bytes=-1)}, "kv_bytes is -1; .* from 0 to"),
        ({"limits": Limits(waiting=None)}, "waiting is None"),  # type: ignore[arg-type]
        ({"threads": 10**9}, "threads is 1000000000; .* from 1 to 1024"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": "2"}, "threads is '2'"),
        ({"speculation": "yes"}, "speculation is 'yes'; it must be True or False"),
    ],
)
def test_settings_that_no_engine_can_have(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    from edgeship.engine.isolated import IsolatedEngine

    for open_engine in (load, IsolatedEngine):
        with pytest.raises(UsageError, match=named) as caught:
            open_engine(tmp_path, **settings)
        assert caught.value.hint
        with pytest.raises(UsageError, match="limits is 5"):
            open_engine(tmp_path, limits=5)  # type: ignore[arg-type]


def test_a_script_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"scripted\.json cannot be read"):
        load(tmp_path, engine=scripted.ENGINE)
    write_script(tmp_path, {}, colour="red")
    with pytest.raises(EngineFailed, match="colour"):
        load(tmp_path, engine=scripted.ENGINE)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    found: np.ndarray = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return found
