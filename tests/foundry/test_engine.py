"""Foundry Local as a chat: what it is asked besides what every chat is asked, and that it refuses the rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.engine.answer import ask
from edgeship.engine.api import Constraint, Conversation, Limits, Sampling
from edgeship.engine.isolated import IsolatedChat
from edgeship.engine.opening import load, load_chat
from edgeship.engine.text import TextCodec
from edgeship.errors import (
    ConstraintInvalid,
    EngineBusy,
    EngineFailed,
    FoundryFailed,
    NotSupported,
    PromptInvalid,
    TemplateMismatch,
)
from edgeship.foundry.engine import FoundryEngine
from edgeship.foundry.sdk import Local
from edgeship.system.machine import usable_cores
from tests.engine.test_chat import LIVELY, QUESTION, SCHEMA

pytestmark = pytest.mark.slow

EVAL = Path(__file__).parents[2] / "examples" / "triage" / "eval.jsonl"


@pytest.fixture
def engine(int4_folder: Path) -> Iterator[FoundryEngine]:
    """Random weights, one place, and room for 200 tokens."""
    with FoundryEngine(int4_folder, limits=Limits(context_tokens=200, waiting=8)) as loaded:
        yield loaded


def cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in EVAL.read_text(encoding="utf-8").splitlines()]


def copy_of(package: Path, folder: Path) -> None:
    for path in package.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())


def test_it_answers_greedily_as_our_own_engine_does(example: Path) -> None:
    """On the example's eval, all 324 cases; float32 near ties could flip one, so 95 % are asked for."""
    greedy = Sampling(temperature=0.0)
    answers = []
    for name in ("foundry", "batched"):
        with load_chat(example, engine=name) as chat:
            answers.append([ask(chat, Conversation(case["messages"]), greedy).text for case in cases()])
    same = sum(map(str.__eq__, *answers))
    assert same >= 0.95 * len(answers[0]), f"{same} of {len(answers[0])}"


def test_steps_have_texts_and_no_ids(engine: FoundryEngine) -> None:
    steps = list(engine.converse(QUESTION, LIVELY))
    assert all(step.id is None for step in steps)
    assert "".join(step.text for step in steps)


def test_the_packages_own_settings_are_used_where_none_are_given(example: Path) -> None:
    """The example answers greedily. Foundry Local by itself would sample."""
    question = Conversation(cases()[0]["messages"])
    with FoundryEngine(example) as engine:
        greedy = ask(engine, question, Sampling(temperature=0.0)).text
        assert {ask(engine, question, Sampling()).text for _ in range(10)} == {greedy}
        lively = replace(LIVELY, max_tokens=40)
        assert len({ask(engine, question, replace(lively, seed=seed)).text for seed in range(4)}) > 1


def test_the_context_cuts(engine: FoundryEngine) -> None:
    endless = Constraint("regex", "[a-z]{5000}")
    answer = ask(engine, QUESTION, replace(LIVELY, max_tokens=10**6, constraint=endless))
    assert answer.finish == "length"
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == engine.context_tokens


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
def test_an_answer_is_really_held_to_its_constraint(engine: FoundryEngine, constraint: Constraint, valid: Any) -> None:
    for seed in range(4):
        answer = ask(engine, QUESTION, replace(LIVELY, seed=seed, max_tokens=100, constraint=constraint))
        assert answer.finish == "stop"
        assert valid(answer.text), answer.text


def test_any_json_object_is_one(example: Path) -> None:
    with FoundryEngine(example) as engine:
        sampling = Sampling(temperature=0.0, constraint=Constraint("json_object"))
        answer = ask(engine, Conversation(cases()[0]["messages"]), sampling)
    assert isinstance(json.loads(answer.text), dict)


@pytest.mark.parametrize(
    ("sampling", "named"),
    [
        (Sampling(min_p=0.1), "min_p"),
        (Sampling(repetition_penalty=1.3), "repetition_penalty but the package's own"),
        (Sampling(presence_penalty=0.5), "presence_penalty"),
        (Sampling(frequency_penalty=-0.5), "frequency_penalty"),
        (Sampling(logit_bias={5: 1.0}), "logit_bias"),
        (Sampling(ignore_eos=True), "ignore_eos"),
        (Sampling(thinking_tokens=9), "thinking_tokens"),
        (Sampling(logprobs=0), "logprobs"),
        (Sampling(prompt_logprobs=1), "prompt_logprobs"),
        (Sampling(temperature=2.5), "no temperature above 2"),
    ],
)
def test_what_it_would_ignore_or_lacks_is_refused(engine: FoundryEngine, sampling: Sampling, named: str) -> None:
    with pytest.raises(NotSupported, match=named) as caught:
        engine.converse(QUESTION, sampling)
    assert (caught.value.http_status, caught.value.exit_code) == (400, 2)
    assert caught.value.hint


def test_settings_that_change_nothing_are_taken(engine: FoundryEngine) -> None:
    neutral = Sampling(min_p=0.0, presence_penalty=0.0, frequency_penalty=0.0, logit_bias={}, repetition_penalty=1.0)
    assert ask(engine, QUESTION, replace(neutral, max_tokens=2)).finish in ("stop", "length")


def test_it_is_no_engine_that_shows_tokens(int4_folder: Path) -> None:
    with pytest.raises(NotSupported, match="shows no tokens"):
        load(int4_folder, engine="foundry")


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "user", "content": ""}, "without text"),
        ({"role": "user", "content": "a\0b"}, "NUL"),
        ({"role": "wizard", "content": "a"}, "no role 'wizard'"),
    ],
)
def test_messages_that_it_would_leave_out_or_cut(engine: FoundryEngine, message: dict[str, str], named: str) -> None:
    with pytest.raises(PromptInvalid, match=named):
        engine.converse(Conversation([message]), LIVELY)


@pytest.mark.parametrize("text", ["  spaces around \n", "cafe\u0301", "a\n\n\nb \t", "\u1e9b\u0323"])
def test_a_prompt_has_as_many_tokens_there_as_here(engine: FoundryEngine, int4_folder: Path, text: str) -> None:
    """Texts that readers of templates have differed about; the engine mends what it can and would refuse the rest."""
    question = Conversation([{"role": "user", "content": text}])
    own = TextCodec(int4_folder).render(question)
    assert ask(engine, question, LIVELY).usage.prompt_tokens == len(own.tokens)


def test_control_tokens_in_a_text_are_refused(engine: FoundryEngine) -> None:
    """Here they are text, and there they would end the turn; as many accents could make the counts the same."""
    with pytest.raises(PromptInvalid, match="takes control tokens"):
        engine.converse(Conversation([{"role": "user", "content": "a<|im_end|>" + "e\u0301" * 9}]), LIVELY)


def test_a_prompt_that_foundry_local_renders_otherwise_is_refused(tmp_path: Path, example: Path) -> None:
    copy_of(example, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_bytes())
    config["chat_template"] = "X" + config["chat_template"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    question = Conversation([{"role": "user", "content": "hi"}])
    with FoundryEngine(tmp_path) as engine:
        with pytest.raises(TemplateMismatch, match=r"makes 14 tokens .* template 13"):
            engine.check(question)
        with pytest.raises(TemplateMismatch, match=r"makes 14 tokens .* template 13"):
            engine.converse(question, LIVELY)


def test_more_requests_than_may_wait_are_refused(int4_folder: Path) -> None:
    endless = replace(LIVELY, max_tokens=400, constraint=Constraint("regex", "[a-z]{5000}"))
    answers = []

    def fill(chat: FoundryEngine) -> None:
        for _ in range(50):
            answers.append(chat.converse(QUESTION, endless))

    with FoundryEngine(int4_folder, limits=Limits(waiting=2)) as chat:
        with pytest.raises(EngineBusy, match="wait already"):
            fill(chat)
        assert len(answers) >= 2


def test_what_is_prepared_for_ever_ends_with_its_answer(engine: FoundryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(engine.codec, "render", lambda _, **__: never.wait())
    cancelled = threading.Event()
    cancelled.set()
    for ending, reason in ({"deadline_s": 0.01}, "deadline"), ({"cancel": cancelled}, "cancelled"):
        [last] = engine.converse(QUESTION, LIVELY, **ending)
        assert last.finish == reason
    monkeypatch.undo()
    never.set()
    assert ask(engine, QUESTION, LIVELY).text


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_is_told_at_once_that_its_model_is_elsewhere(engine: FoundryEngine) -> None:
    child = vars(os)["fork"]()
    if not child:
        try:
            with pytest.raises(EngineFailed, match="forked"):
                engine.converse(QUESTION, LIVELY)
            engine.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert ask(engine, QUESTION, LIVELY).text


def test_closing_while_answers_are_made_ends_them(int4_folder: Path) -> None:
    engine = FoundryEngine(int4_folder)
    endless = replace(LIVELY, max_tokens=400, constraint=Constraint("regex", "[a-z]{5000}"))
    answer = engine.converse(QUESTION, endless)
    next(answer)
    threading.Thread(target=engine.close).start()
    with pytest.raises(EngineFailed, match="closed"):
        list(answer)


def test_two_engines_share_the_library(int4_folder: Path, example: Path) -> None:
    first, second = (FoundryEngine(folder) for folder in (int4_folder, example))
    first.close()
    assert ask(second, Conversation(cases()[0]["messages"]), Sampling(max_tokens=5)).text
    second.close()
    FoundryEngine(int4_folder).close()


def test_it_runs_with_the_threads_that_are_asked_for_and_the_package_stays_as_it_is(
    example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in example.iterdir()}
    registered: list[int | None] = []
    real = Local.register

    def register(self: Local, folder: Path, *arguments: Any) -> None:
        document = json.loads((folder / "genai_config.json").read_bytes())
        registered.append(document["model"]["decoder"]["session_options"]["intra_op_num_threads"])
        real(self, folder, *arguments)

    monkeypatch.setattr(Local, "register", register)
    for threads in (1, None):
        with FoundryEngine(example, threads=threads) as engine:
            assert engine.note is None
            assert ask(engine, Conversation(cases()[0]["messages"]), Sampling(max_tokens=2)).text
    assert registered == [1, usable_cores()]
    assert {path.name: path.read_bytes() for path in example.iterdir()} == before


def test_threads_that_it_cannot_take_are_said(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with FoundryEngine(example, threads=7) as engine:
        assert engine.note == "Foundry Local uses the threads that genai_config.json names (none, so its own choice)"


def test_a_model_that_cannot_be_loaded(tmp_path: Path, example: Path) -> None:
    copy_of(example, tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no model at all")
    with pytest.raises(FoundryFailed, match="failed to load model"):
        FoundryEngine(tmp_path)
    # The library is free again.
    FoundryEngine(example).close()


def test_nothing_is_left_behind_by_a_process_that_used_it(tmp_path: Path, example: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgeship.engine.opening import load_chat\n"
        "load_chat(Path(sys.argv[1]), engine='foundry').close()"
    )
    environment = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": "", "PYTHONPATH": os.environ["PYTHONPATH"]}
    done = subprocess.run(
        [sys.executable, "-c", code, str(example)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.rglob("*")) == []


def test_in_a_process_of_its_own_it_answers_the_same_and_leaves_nothing_behind(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, greedy = Conversation(cases()[0]["messages"]), Sampling(temperature=0.0)
    with FoundryEngine(example) as engine:
        here = ask(engine, question, greedy)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with IsolatedChat(example, engine="foundry") as chat:
        assert chat.pid != os.getpid()
        there = ask(chat, question, greedy)
        with pytest.raises(NotSupported, match="ignore_eos"):
            chat.converse(question, Sampling(ignore_eos=True))
    assert (there.text, there.finish) == (here.text, here.finish)
    assert there.usage.completion_tokens == here.usage.completion_tokens
    assert list(tmp_path.iterdir()) == []


def test_a_constraint_is_checked_before_it_is_sent(engine: FoundryEngine) -> None:
    with pytest.raises(ConstraintInvalid, match="json schema"):
        engine.converse(QUESTION, Sampling(constraint=Constraint("json_schema", '{"type": 3}')))
