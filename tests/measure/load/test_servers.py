"""How a server's tokens are counted, by whichever way it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edgeship.engine.remote import RemoteChat
from edgeship.measure.load.servers import ServerAsker
from tests.chat_server import Handler, Server
from tests.measure.load.scripted_server import Script, scripted

QUICK = Script(first_s=0.0, gap_s=0.0)


@contextmanager
def asking(script: Script) -> Iterator[tuple[ServerAsker, Server]]:
    with scripted(script) as server, RemoteChat(server.url) as chat:
        yield ServerAsker(chat, 10.0), server


def llama_template(handler: Handler) -> None:
    body = handler.server.asked[-1][2]
    handler.say({"prompt": f"<user> {body['messages'][0]['content']} </user> <answer>"})


def llama_tokenize(handler: Handler) -> None:
    """As llama.cpp's server has it: it knows nothing of `messages` and `prompt`."""
    handler.say({"tokens": list(range(len(handler.server.asked[-1][2].get("content", "").split())))})


def test_by_a_tokenizer_as_vllm_has_it() -> None:
    with asking(Script(tokenizes=True, first_s=0.0, gap_s=0.0)) as (asker, _):
        count, cheap = asker.counter()
        assert (count("a b"), cheap, asker.count("a b c")) == (5, True, 3)


def test_by_a_tokenizer_as_llama_cpp_has_it() -> None:
    with asking(QUICK) as (asker, server):
        server.answers |= {"/tokenize": llama_tokenize, "/apply-template": llama_template}
        count, cheap = asker.counter()
        assert (count("a b"), cheap, asker.count("a b c")) == (5, True, 3)


def test_by_the_usage_of_a_request() -> None:
    with asking(QUICK) as (asker, _):
        count, cheap = asker.counter()
        assert (count("a b"), cheap, asker.count("a b c")) == (5, False, None)


def test_a_tokenizer_that_hangs_is_not_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeship.engine.remote.LIST_S", 0.1)
    with asking(Script(tokenizes=True, first_s=0.0, gap_s=0.0)) as (asker, server):
        count, _ = asker.counter()
        assert count("a b") == 5
        server.answers["/tokenize"] = lambda handler: handler.wait_until_the_client_is_gone()
        assert count("a b") is None
        asked = len(server.asked)
        assert (count("a b"), len(server.asked)) == (None, asked)


def test_a_server_that_does_not_answer_is_not_asked_to_count() -> None:
    def fail(handler: Handler) -> None:
        handler.say("", 500)

    with scripted(QUICK, completions=fail) as server, RemoteChat(server.url) as chat:
        asker = ServerAsker(chat, 10.0)
        asked = len(server.asked)
        count, _ = asker.counter()
        assert (count("a"), asker.answers, len(server.asked)) == (None, False, asked)
