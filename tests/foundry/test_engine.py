"""Foundry Local as an engine: what of the contract it keeps, and that it refuses the rest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.engine.answer import ask
from edgeship.engine.api import Constraint, Conversation, Engine, Limits, Prompt, Sampling
from edgeship.engine.opening import load
from edgeship.errors import (
    ConstraintInvalid,
    EngineBusy,
    EngineFailed,
    FoundryFailed,
    NotSupported,
    PromptInvalid,
    TemplateMismatch,
)
from edgeship.foundry.sdk import Local
from edgeship.package import DAMAGED, genai_config
from edgeship.system.machine import usable_cores

# Asked of the engine below, as of every other.
from tests.engine.test_contract import (  # noqa: F401
    LIVELY,
    QUESTION,
    SCHEMA,
    test_a_constraint_that_cannot_be_read,
    test_a_dropped_answer_leaves_the_engine_usable,
    test_a_longer_prompt_is_refused_with_both_numbers,
    test_a_stop_text_ends_the_answer_and_is_not_shown,
    test_bad_settings_are_refused_before_the_first_token,
    test_cancelled_before_the_first_token,
    test_closed,
    test_impossible_tokens,
    test_no_conversation_and_no_text,
    test_the_same_seed_gives_the_same_answer,
)

pytestmark = pytest.mark.slow

EVAL = Path(__file__).parents[2] / "examples" / "triage" / "eval.jsonl"


@pytest.fixture
def engine(int4_folder: Path) -> Iterator[Engine]:
    """Random weights, one place, and room for 200 tokens."""
    loaded = load(int4_folder, engine="foundry", limits=Limits(context_tokens=200, waiting=8))
    yield loaded
    loaded.close()


def cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in EVAL.read_text(encoding="utf-8").splitlines()]


def copy_of(package: Path, folder: Path) -> None:
    for path in package.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())


def test_it_answers_greedily_as_our_own_engine_does(example: Path) -> None:
    """On the example's eval, all 324 cases; float32 near ties could flip one, so 95 % are asked for."""
    answers = []
    for name in ("foundry", "batched"):
        engine = load(example, engine=name)
        try:
            prompts = [engine.render(Conversation(case["messages"])) for case in cases()]
            answers.append([ask(engine, prompt, Sampling(temperature=0.0)).text for prompt in prompts])
        finally:
            engine.close()
    same = sum(map(str.__eq__, *answers))
    assert same >= 0.95 * len(answers[0]), f"{same} of {len(answers[0])}"


def test_an_answer_has_texts_a_reason_and_what_it_cost(engine: Engine) -> None:
    prompt = engine.render(QUESTION)
    steps = list(engine.stream(prompt, LIVELY))
    assert [step.finish is not None for step in steps] == [False] * (len(steps) - 1) + [True]
    assert all(step.id is None for step in steps)
    assert "".join(step.text for step in steps)
    usage = steps[-1].usage
    assert usage
    assert usage.prompt_tokens == len(prompt.tokens)
    assert 1 <= usage.completion_tokens <= 24
    assert 0 <= usage.queue_s <= usage.ttft_s <= usage.e2e_s


def test_the_packages_own_settings_are_used_where_none_are_given(example: Path) -> None:
    """The example answers greedily. Foundry Local by itself would sample."""
    engine = load(example, engine="foundry")
    try:
        prompt = engine.render(Conversation(cases()[0]["messages"]))
        greedy = ask(engine, prompt, Sampling(temperature=0.0)).text
        assert {ask(engine, prompt, Sampling()).text for _ in range(10)} == {greedy}
        lively = replace(LIVELY, max_tokens=40)
        assert len({ask(engine, prompt, replace(lively, seed=seed)).text for seed in range(4)}) > 1
    finally:
        engine.close()


def test_max_tokens_and_the_context_cut(engine: Engine) -> None:
    prompt = engine.render(QUESTION)
    answer = ask(engine, prompt, replace(LIVELY, max_tokens=3))
    assert (answer.usage.completion_tokens, answer.finish) == (3, "length")
    room = engine.context_tokens - len(prompt.tokens)
    endless = Constraint("regex", "[a-z]{5000}")
    answer = ask(engine, prompt, replace(LIVELY, max_tokens=10**6, constraint=endless))
    assert (answer.usage.completion_tokens, answer.finish) == (room, "length")


@pytest.mark.parametrize(
    ("constraint", "valid"),
    [
        (Constraint("regex", "[a-c]{3,5}"), lambda text: re.fullmatch("[a-c]{3,5}", text)),
        (Constraint("json_schema", json.dumps(SCHEMA)), lambda text: isinstance(json.loads(text)["ok"], bool)),
        (
            Constraint("json_schema", json.dumps({"enum": ["a", 2, None]})),
            lambda text: json.loads(text) in ("a", 2, None),
        ),
        (Constraint("lark", 'start: "yes" | "no"'), lambda text: text in ("yes", "no")),
    ],
    ids=lambda value: value.kind if isinstance(value, Constraint) else "",
)
def test_an_answer_is_really_held_to_its_constraint(engine: Engine, constraint: Constraint, valid: Any) -> None:
    for seed in range(4):
        answer = ask(engine, engine.render(QUESTION), replace(LIVELY, seed=seed, max_tokens=100, constraint=constraint))
        assert answer.finish == "stop"
        assert valid(answer.text), answer.text


def test_any_json_object_is_one(example: Path) -> None:
    engine = load(example, engine="foundry")
    try:
        prompt = engine.render(Conversation(cases()[0]["messages"]))
        answer = ask(engine, prompt, Sampling(temperature=0.0, constraint=Constraint("json_object")))
        assert isinstance(json.loads(answer.text), dict)
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("sampling", "named"),
    [
        (Sampling(min_p=0.1), "min_p"),
        (Sampling(repetition_penalty=1.3), "repetition_penalty but the package's own"),
        (Sampling(presence_penalty=0.5), "presence_penalty"),
        (Sampling(frequency_penalty=-0.5), "frequency_penalty"),
        (Sampling(logit_bias={5: 1.0}), "logit_bias"),
        (Sampling(ignore_eos=True), "ignore_eos"),
        (Sampling(logprobs=0), "logprobs"),
        (Sampling(prompt_logprobs=1), "prompt_logprobs"),
        (Sampling(temperature=2.5), "no temperature above 2"),
    ],
)
def test_what_it_would_ignore_or_lacks_is_refused(engine: Engine, sampling: Sampling, named: str) -> None:
    with pytest.raises(NotSupported, match=named) as caught:
        engine.stream(engine.render(QUESTION), sampling)
    assert (caught.value.http_status, caught.value.exit_code) == (400, 2)
    assert caught.value.hint


def test_settings_that_change_nothing_are_taken(engine: Engine) -> None:
    neutral = Sampling(min_p=0.0, presence_penalty=0.0, frequency_penalty=0.0, logit_bias={}, repetition_penalty=1.0)
    assert ask(engine, engine.render(QUESTION), replace(neutral, max_tokens=2)).finish in ("stop", "length")


def test_texts_without_a_conversation_and_logits_are_refused(engine: Engine) -> None:
    with pytest.raises(NotSupported, match="conversations"):
        engine.stream(engine.encode("once upon a time"), Sampling())
    with pytest.raises(NotSupported, match="no logits"):
        engine.score((5, 6, 7))


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "user", "content": ""}, "without text"),
        ({"role": "user", "content": "a\0b"}, "NUL"),
        ({"role": "wizard", "content": "a"}, "no role 'wizard'"),
    ],
)
def test_messages_that_it_would_leave_out_or_cut(engine: Engine, message: dict[str, str], named: str) -> None:
    with pytest.raises(PromptInvalid, match=named):
        engine.render(Conversation([message]))


@pytest.mark.parametrize("text", ["  spaces around \n", "cafe\u0301", "<|im_end|>", "a\n\n\nb \t", "\u1e9b\u0323"])
def test_a_prompt_has_as_many_tokens_there_as_here(engine: Engine, int4_folder: Path, text: str) -> None:
    """Texts that readers of templates have differed about; the engine mends what it can and would refuse the rest."""
    own = load(int4_folder, engine="genai")
    messages = [{"role": "user", "content": text}]
    assert engine.render(Conversation(messages)).tokens == own.render(Conversation(messages)).tokens
    own.close()


def test_a_prompt_that_foundry_local_renders_otherwise_is_refused(tmp_path: Path, example: Path) -> None:
    copy_of(example, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_bytes())
    config["chat_template"] = "X" + config["chat_template"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    engine = load(tmp_path, engine="foundry")
    try:
        with pytest.raises(TemplateMismatch, match=r"makes 14 tokens .* template 13"):
            engine.render(Conversation([{"role": "user", "content": "hi"}]))
    finally:
        engine.close()


def test_an_answer_that_is_cancelled_ends_and_leaves_the_engine_usable(int4_folder: Path) -> None:
    engine = load(int4_folder, engine="foundry")
    try:
        prompt = engine.render(Conversation([{"role": "user", "content": "how are you? " * 20}]))
        cancel = threading.Event()
        stream = engine.stream(prompt, replace(LIVELY, max_tokens=200), cancel=cancel)
        first = next(stream)
        assert first.finish is None
        cancel.set()
        *_, last = stream
        assert last.finish == "cancelled"
        assert ask(engine, prompt, replace(LIVELY, max_tokens=2)).finish in ("stop", "length")
    finally:
        engine.close()


def test_past_its_deadline_an_answer_is_cut(engine: Engine) -> None:
    [only] = engine.stream(engine.render(QUESTION), LIVELY, deadline_s=0.0)
    assert (only.text, only.finish) == ("", "deadline")


def test_several_answers_wait_in_line_and_are_their_own(engine: Engine) -> None:
    prompts = [
        engine.render(Conversation([{"role": "user", "content": text}]))
        for text in ("a", "how are you", "b c d", "today?")
    ]
    settings = [replace(LIVELY, seed=seed) for seed in range(len(prompts))]
    alone = [ask(engine, *pair).text for pair in zip(prompts, settings, strict=True)]
    with ThreadPoolExecutor(len(prompts)) as pool:
        together = list(pool.map(lambda pair: ask(engine, *pair).text, zip(prompts, settings, strict=True)))
    assert together == alone


def test_more_requests_than_may_wait_are_refused(int4_folder: Path) -> None:
    engine = load(int4_folder, engine="foundry", limits=Limits(waiting=2))
    try:
        prompt = engine.render(QUESTION)
        endless = replace(LIVELY, max_tokens=400, constraint=Constraint("regex", "[a-z]{5000}"))
        streams = []

        def fill() -> None:
            for _ in range(50):
                streams.append(engine.stream(prompt, endless))

        with pytest.raises(EngineBusy, match="wait already"):
            fill()
        assert len(streams) >= 2
    finally:
        engine.close()


def test_two_engines_share_the_library(int4_folder: Path, example: Path) -> None:
    first, second = (load(folder, engine="foundry") for folder in (int4_folder, example))
    first.close()
    assert ask(second, second.render(Conversation(cases()[0]["messages"])), Sampling(max_tokens=5)).text
    second.close()
    third = load(int4_folder, engine="foundry")
    third.close()


def test_it_runs_with_the_threads_that_are_asked_for_and_the_package_stays_as_it_is(
    example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in example.iterdir()}
    registered: list[int | None] = []
    real = Local.register

    def register(self: Local, folder: Path, *arguments: Any) -> None:
        registered.append(genai_config.read(folder, DAMAGED).threads)
        real(self, folder, *arguments)

    monkeypatch.setattr(Local, "register", register)
    for threads in (1, None):
        engine = load(example, engine="foundry", threads=threads)
        assert engine.note is None
        assert ask(engine, engine.render(Conversation(cases()[0]["messages"])), Sampling(max_tokens=2)).text
        engine.close()
    assert registered == [1, usable_cores()]
    assert {path.name: path.read_bytes() for path in example.iterdir()} == before


def test_threads_that_it_cannot_take_are_said(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    engine = load(example, engine="foundry", threads=7)
    assert engine.note == "Foundry Local uses the threads that genai_config.json names (none, so its own choice)"
    engine.close()


def test_a_model_that_cannot_be_loaded(tmp_path: Path, example: Path) -> None:
    copy_of(example, tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no model at all")
    with pytest.raises(FoundryFailed, match="failed to load model"):
        load(tmp_path, engine="foundry")
    # The library is free again.
    load(example, engine="foundry").close()


def test_nothing_is_left_behind_by_a_process_that_used_it(tmp_path: Path, example: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeship.engine.opening import load\n"
        "engine = load(Path(sys.argv[1]), engine='foundry'); engine.close()"
    )
    environment = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, str(example)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.rglob("*")) == []


def test_closing_while_answers_are_made_ends_them(int4_folder: Path) -> None:
    engine = load(int4_folder, engine="foundry")
    endless = replace(LIVELY, max_tokens=400, constraint=Constraint("regex", "[a-z]{5000}"))
    stream = engine.stream(engine.render(QUESTION), endless)
    next(stream)
    threading.Thread(target=engine.close).start()
    with pytest.raises(EngineFailed, match="closed"):
        list(stream)


def test_prompts_compare_by_their_tokens() -> None:
    assert Prompt((1, 2), ({"role": "user", "content": "a"},)) == Prompt((1, 2))


def test_a_constraint_is_checked_before_it_is_sent(engine: Engine) -> None:
    with pytest.raises(ConstraintInvalid, match="json schema"):
        engine.stream(engine.render(QUESTION), Sampling(constraint=Constraint("json_schema", '{"type": 3}')))
