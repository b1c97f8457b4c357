"""What every chat promises, asked of each one: engines of ours, Foundry Local, and a URL."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.engine.answer import ask
from edgeship.engine.api import Chat, Constraint, Conversation, Limits, Sampling, Token
from edgeship.engine.isolated import IsolatedEngine
from edgeship.engine.opening import load_chat
from edgeship.engine.remote import RemoteChat
from edgeship.errors import ConstraintInvalid, ContextFull, EngineFailed, PromptInvalid
from tests import chat_server, scripted
from tests.scripted import write_script
from tests.waiting import until

QUESTION = Conversation([{"role": "user", "content": "how are you today?"}])
ANSWER = "Fine, thank you \N{SMILING FACE WITH SMILING EYES}. And how is your order?"
# On a model of random weights these make an answer that is not one token over and over.
LIVELY = Sampling(temperature=2.0, top_k=0, top_p=1.0, seed=11, max_tokens=24)
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
SLOW = pytest.mark.slow
LIMITS = Limits(slots=3, context_tokens=200, kv_bytes=10**8, waiting=8)


@pytest.fixture(
    params=[
        "scripted",
        "remote",
        pytest.param("isolated", marks=SLOW),
        pytest.param("batched", marks=SLOW),
        pytest.param("genai", marks=SLOW),
        pytest.param("foundry", marks=SLOW),
    ]
)
def chat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Chat]:
    """Each chat with room for 200 tokens."""
    with ExitStack() as stack:
        yield stack.enter_context(opened(request, tmp_path, stack))


def opened(request: pytest.FixtureRequest, folder: Path, stack: ExitStack) -> Chat:
    """The chat that is asked for, and in the stack what it needs."""
    if request.param in ("batched", "genai"):
        return load_chat(request.getfixturevalue("int4_folder"), engine=request.param, limits=LIMITS)
    if request.param == "foundry":
        one = replace(LIMITS, slots=1)
        return load_chat(request.getfixturevalue("int4_folder"), engine="foundry", limits=one)
    write_script(folder, {"how are you today?": ANSWER}, context_tokens=200)
    if request.param == "isolated":
        return IsolatedEngine(folder, engine=scripted.ENGINE, limits=LIMITS)
    engine = load_chat(folder, engine=scripted.ENGINE, limits=LIMITS)
    if request.param == "scripted":
        return engine
    stack.enter_context(engine)
    answers, listed = chat_server.answers_of(engine), chat_server.models("m", max_model_len=200)
    return RemoteChat(stack.enter_context(chat_server.serving(answers, listed)).url, extras=True)


def called_back(chat: Chat, sampling: Sampling, **more: Any) -> list[Token | Exception]:
    """The steps that a callback is given, up to the last one."""
    given: queue.SimpleQueue[Token | Exception] = queue.SimpleQueue()
    assert list(chat.converse(QUESTION, sampling, on_step=given.put, **more)) == []
    steps = [given.get(timeout=30)]
    while isinstance(steps[-1], Token) and not steps[-1].finish:
        steps.append(given.get(timeout=30))
    return steps


# --- an answer -------------------------------------------------------------------------------------------------------


def test_an_answer_ends_with_its_reason_and_what_it_cost_and_only_there(chat: Chat) -> None:
    steps = list(chat.converse(QUESTION, LIVELY))
    assert [step.finish is not None for step in steps] == [False] * (len(steps) - 1) + [True]
    assert [step.usage is not None for step in steps] == [False] * (len(steps) - 1) + [True]
    assert "".join(step.text for step in steps)
    usage = steps[-1].usage
    assert usage
    assert usage.prompt_tokens > 0
    assert 1 <= usage.completion_tokens <= 24
    assert 0 <= usage.queue_s <= usage.ttft_s <= usage.e2e_s


def test_the_same_seed_gives_the_same_answer(chat: Chat) -> None:
    first, second = (ask(chat, QUESTION, LIVELY) for _ in range(2))
    assert (first.text, first.finish) == (second.text, second.finish)
    assert first.text


def test_max_tokens_cuts(chat: Chat) -> None:
    answer = ask(chat, QUESTION, replace(LIVELY, max_tokens=3))
    assert (answer.usage.completion_tokens, answer.finish) == (3, "length")


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_stop_text_ends_the_answer_and_is_not_shown(chat: Chat, length: int) -> None:
    whole = ask(chat, QUESTION, LIVELY)
    stop = whole.text[4 : 4 + length]
    answer = ask(chat, QUESTION, replace(LIVELY, stop=(stop, "never said")))
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert answer.finish == "stop"


@SLOW
def test_an_answer_is_held_to_a_schema(chat: Chat) -> None:
    constraint = Constraint("json_schema", json.dumps(SCHEMA))
    for seed in range(2):
        answer = ask(chat, QUESTION, replace(LIVELY, seed=seed, max_tokens=100, constraint=constraint))
        assert answer.finish == "stop"
        assert isinstance(json.loads(answer.text)["ok"], bool)


def test_answers_at_the_same_time_are_those_that_are_given_alone(chat: Chat) -> None:
    texts = ("how are you", "today?", "yes, and a longer one than that", "a", "b c")
    questions = [Conversation([{"role": "user", "content": text}]) for text in texts]
    settings = [replace(LIVELY, seed=seed, max_tokens=4 + seed) for seed in range(len(questions))]
    alone = [ask(chat, *pair).text for pair in zip(questions, settings, strict=True)]
    with ThreadPoolExecutor(len(questions)) as pool:
        together = list(pool.map(lambda *pair: ask(chat, *pair).text, questions, settings))
    assert together == alone


# --- its end from outside --------------------------------------------------------------------------------------------


def test_cancelled_before_the_first_token(chat: Chat) -> None:
    cancel = threading.Event()
    cancel.set()
    [only] = chat.converse(QUESTION, LIVELY, cancel=cancel)
    assert (only.id, only.text, only.finish) == (None, "", "cancelled")
    assert only.usage


def test_cancelled_in_the_middle_keeps_what_was_said(chat: Chat) -> None:
    cancel = threading.Event()
    whole = ask(chat, QUESTION, LIVELY)
    pieces: list[str] = []

    def tell(text: str) -> None:
        pieces.append(text)
        if len(pieces) == 3:
            cancel.set()

    answer = ask(chat, QUESTION, LIVELY, cancel=cancel, tell=tell)
    assert answer.finish == "cancelled"
    assert answer.text == "".join(pieces)
    assert whole.text.startswith(answer.text)
    assert len(answer.text) < len(whole.text)


def test_past_its_deadline_an_answer_is_cut(chat: Chat) -> None:
    [only] = chat.converse(QUESTION, LIVELY, deadline_s=0.0)
    assert (only.text, only.finish) == ("", "deadline")
    assert ask(chat, QUESTION, replace(LIVELY, max_tokens=2)).finish == "length"


def test_a_dropped_answer_leaves_the_chat_usable(chat: Chat) -> None:
    before = ask(chat, QUESTION, LIVELY).text
    dropped = chat.converse(QUESTION, LIVELY)
    next(dropped)
    del dropped
    assert ask(chat, QUESTION, LIVELY).text == before
    until(lambda: chat.stats().running == 0)


# --- steps that are called back --------------------------------------------------------------------------------------


def test_a_callback_is_given_the_same_steps(chat: Chat) -> None:
    read = list(chat.converse(QUESTION, LIVELY))
    given = called_back(chat, LIVELY)
    assert all(isinstance(step, Token) for step in given)
    tokens = [step for step in given if isinstance(step, Token)]
    assert "".join(step.text for step in tokens) == "".join(step.text for step in read)
    assert (tokens[-1].finish, tokens[-1].usage is None) == (read[-1].finish, False)
    assert [step.id for step in tokens] == [step.id for step in read]


def test_a_callback_hears_that_its_answer_was_cut(chat: Chat) -> None:
    cancel = threading.Event()
    cancel.set()
    for more, reason in (({"cancel": cancel}, "cancelled"), ({"deadline_s": 0.0}, "deadline")):
        [only] = called_back(chat, LIVELY, **more)
        assert isinstance(only, Token)
        assert only.finish == reason


def test_what_is_called_back_ends_where_it_is_closed(chat: Chat) -> None:
    given: queue.SimpleQueue[Token | Exception] = queue.SimpleQueue()
    handle = chat.converse(QUESTION, LIVELY, on_step=given.put)
    handle.close()
    last = given.get(timeout=30)
    while isinstance(last, Token) and not last.finish:
        last = given.get(timeout=30)
    until(lambda: chat.stats().running == 0)
    assert ask(chat, QUESTION, LIVELY).text


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, asyncio.CancelledError])
def test_a_callback_that_raises_ends_its_own_answer(
    chat: Chat, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    calls: list[object] = []

    def fail(step: object) -> None:
        calls.append(step)
        raise kind("a bug of the caller's")

    chat.converse(QUESTION, LIVELY, on_step=fail)
    until(lambda: chat.stats().running == 0 and bool(calls))
    assert len(called_back(chat, LIVELY)) > 1
    assert len(calls) == 1
    assert "a bug of the caller's" in caplog.text


# --- conversations ---------------------------------------------------------------------------------------------------


def test_a_text_in_parts_is_that_text(chat: Chat) -> None:
    parts = Conversation([{"role": "user", "content": [{"type": "text", "text": "how are you today?"}]}])
    whole, pieces = (ask(chat, question, LIVELY) for question in (QUESTION, parts))
    assert (pieces.text, pieces.usage.prompt_tokens) == (whole.text, whole.usage.prompt_tokens)


def test_what_no_chat_takes(chat: Chat) -> None:
    with pytest.raises(PromptInvalid, match="no message"):
        list(chat.converse(Conversation([]), LIVELY))
    with pytest.raises(PromptInvalid, match="not Unicode"):
        list(chat.converse(Conversation([{"role": "user", "content": "\ud800"}]), LIVELY))
    with pytest.raises(PromptInvalid, match="top_p is 0"):
        list(chat.converse(QUESTION, Sampling(top_p=0)))
    with pytest.raises(ConstraintInvalid):
        list(chat.converse(QUESTION, Sampling(constraint=Constraint("json_schema", "{"))))


def test_a_conversation_that_is_longer_than_the_context(chat: Chat) -> None:
    with pytest.raises(ContextFull, match=r"200|199"):
        list(chat.converse(Conversation([{"role": "user", "content": "how are you? " * 200}]), LIVELY))
    assert ask(chat, QUESTION, LIVELY).text


# --- the chat itself -------------------------------------------------------------------------------------------------


def test_what_it_says_of_itself(chat: Chat) -> None:
    assert chat.name
    assert chat.context_tokens == 200
    assert isinstance(chat.defaults, Sampling)
    until(lambda: (chat.stats().running, chat.stats().waiting) == (0, 0))


def test_closed(chat: Chat) -> None:
    chat.close()
    chat.close()
    with pytest.raises(EngineFailed, match="closed"):
        list(chat.converse(QUESTION, LIVELY))


def test_after_a_with_block_it_is_closed(chat: Chat) -> None:
    with chat as same:
        assert same is chat
        assert ask(chat, QUESTION, LIVELY).text
    with pytest.raises(EngineFailed, match="closed"):
        list(chat.converse(QUESTION, LIVELY))
