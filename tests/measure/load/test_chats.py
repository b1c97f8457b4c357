"""What is seen of the answers of chats and engines of ours."""

from __future__ import annotations

import queue
from collections.abc import Callable

import pytest

from edgeship.engine.api import CallPiece, Token, Usage
from edgeship.errors import EngineFailed, NotSupported
from edgeship.measure.load.chats import ChatAsker, read
from edgeship.measure.load.records import Failure, Reply
from edgeship.measure.load.workload import Question
from tests.scripted import ScriptedEngine

USAGE = Usage(7, 3, 0.1, 0.4, cached_tokens=2, reasoning_tokens=1)
HELLO = ({"role": "user", "content": "hello"},)


def test_each_token_is_a_piece_in_its_channels() -> None:
    call = CallPiece(0, "c", "f", "{}")
    steps = [
        (0.1, Token(1, "", thinking="h")),
        (0.2, Token(2, "")),
        (0.3, Token(3, "a", calling=(call,))),
        (0.4, Token(4, "", "stop", usage=USAGE)),
    ]
    reply = read(steps, 9.0)
    assert [one.kinds for one in reply.arrivals] == [("thinking",), (), ("text", "call"), ()]
    assert [one.tokens for one in reply.arrivals] == [1, 1, 1, 1]
    assert (reply.end_s, reply.finish, reply.failure, reply.text) == (0.4, "stop", None, "a")
    assert (reply.prompt_tokens, reply.output_tokens, reply.cached_tokens, reply.reasoning_tokens) == (7, 3, 2, 1)
    assert reply.counted_output_tokens == 4


def test_texts_of_a_chat_without_tokens_hold_any_number_of_them() -> None:
    reply = read([(0.1, Token(None, "ab")), (0.2, Token(None, "", "length", usage=USAGE))], 9.0)
    assert [(one.at_s, one.tokens) for one in reply.arrivals] == [(0.1, None)]
    assert (reply.output_tokens, reply.counted_output_tokens, reply.end_s) == (3, None, 0.2)


@pytest.mark.parametrize(
    ("last", "failure"),
    [
        (Token(None, "", "deadline", usage=USAGE), Failure("timeout", "the answer was not complete in 9 s")),
        (Token(None, "", "cancelled", usage=USAGE), Failure("cancelled", "the answer was cancelled")),
        (EngineFailed("it broke"), Failure("engine-failed", "it broke")),
        (KeyError("x"), Failure("internal", "KeyError: 'x'")),
    ],
)
def test_what_was_cut_or_failed_is_no_answer(last: Token | Exception, failure: Failure) -> None:
    reply = read([(0.1, Token(1, "a")), (0.2, last)], 9.0)
    assert (reply.failure, len(reply.arrivals), reply.end_s) == (failure, 1, 0.2)


def answer(asker: ChatAsker, question: Question) -> Reply:
    inbox: queue.SimpleQueue[Callable[[], Reply]] = queue.SimpleQueue()
    asker.ask(question, 30.0, inbox.put)
    return inbox.get(timeout=30)()


def test_an_engine_is_asked_by_tokens_and_by_messages() -> None:
    with ScriptedEngine({"hello": "Good day."}) as engine:
        asker = ChatAsker(engine)
        by_messages = answer(asker, Question(messages=HELLO, new_tokens=20))
        tokens = engine.encode("hello").tokens
        by_tokens = answer(asker, Question(tokens=tokens, new_tokens=4, ignore_eos=True))
    assert (by_messages.text, by_messages.finish) == ("Good day.", "stop")
    assert by_messages.output_tokens == by_messages.counted_output_tokens == len(by_messages.arrivals)
    assert (by_tokens.output_tokens, by_tokens.finish, by_tokens.prompt_tokens) == (4, "length", len(tokens))


def test_a_chat_that_cannot_go_on_past_the_end_is_asked_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedEngine({"hello": "Good day."}) as engine:
        converse = engine.converse

        def refusing(conversation: object, sampling: object, **how: object) -> object:
            if sampling.ignore_eos or sampling.repetition_penalty is not None:  # type: ignore[attr-defined]
                raise NotSupported("there is no ignore_eos here")
            return converse(conversation, sampling, **how)  # type: ignore[arg-type]

        monkeypatch.setattr(engine, "converse", refusing)
        asker = ChatAsker(engine)
        assert asker.takes_ignore_eos
        reply = answer(asker, Question(messages=HELLO, new_tokens=20, ignore_eos=True))
        assert not asker.takes_ignore_eos
    assert reply.text == "Good day."
