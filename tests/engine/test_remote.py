"""A server that fails, and one that is slow: what is made of it, and that neither key nor prompt shows."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from edgeship.engine import remote
from edgeship.engine.answer import ask
from edgeship.engine.api import Conversation, EngineFault, Sampling, Token
from edgeship.engine.completions import Chunks
from edgeship.engine.remote import RemoteChat
from edgeship.errors import ContextFull, EngineBusy, EngineFailed, PromptInvalid, RemoteFailed, UsageError
from tests.chat_server import Answer, Handler, Server, models, serving
from tests.waiting import until

QUESTION = Conversation([{"role": "user", "content": "a secret question"}])
KEY = "sk-4711-0815"
HELLO = {"choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": None}]}
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def hello(handler: Handler) -> None:
    """A good answer."""
    handler.begin()
    for data in (HELLO, STOP, "[DONE]"):
        handler.event(data)
    handler.end()


@contextmanager
def talking(completions: Answer, **options: Any) -> Iterator[tuple[RemoteChat, Server]]:
    with serving(completions) as server, RemoteChat(server.url, **options) as chat:
        yield chat, server


def error_of(completions: Answer, **options: Any) -> Exception:
    """What an answer ends with."""
    with talking(completions, **options) as (chat, _), pytest.raises(Exception) as caught:  # noqa: PT011
        ask(chat, QUESTION, Sampling())
    return caught.value


# --- faults of a server ----------------------------------------------------------------------------------------------


def test_nobody_answers_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(RemoteFailed, match="no server answers there") as caught:
            RemoteChat(url)
    assert (caught.value.where, caught.value.exit_code, caught.value.http_status) == (url, 5, 502)
    assert "Start the server" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("status", "body", "kind", "named"),
    [
        (400, {"error": {"message": "no such field"}}, PromptInvalid, r"refuses the request \(400\): no such field"),
        (422, {"detail": "bad"}, PromptInvalid, "bad"),
        (
            400,
            {"error": {"message": "This model's maximum context length is 5 tokens"}},
            ContextFull,
            "maximum context",
        ),
        (400, {"error": {"message": "the request exceeds the available context size"}}, ContextFull, "context size"),
        (401, {"error": {"message": "bad key"}}, RemoteFailed, "wants another key .*bad key"),
        (404, {"error": {"message": "no model m"}}, RemoteFailed, "no such model or request .*no model m"),
        (429, {"error": "slow down"}, EngineBusy, "busy .*slow down"),
        (503, "<html>overloaded</html>", EngineBusy, "overloaded"),
        (500, "", RemoteFailed, r"failed \(500\): it does not say why"),
    ],
)
def test_a_status_is_told_with_the_servers_own_words(status: int, body: Any, kind: type[Exception], named: str) -> None:
    error = error_of(lambda handler: handler.say(body, status))
    assert type(error) is kind
    with pytest.raises(kind, match=named):
        raise error


def test_a_busy_server_may_say_for_how_long() -> None:
    error = error_of(lambda handler: handler.say("", 429, Retry_After="7"))
    assert isinstance(error, EngineBusy)
    assert error.hint == "Try again in 7 s."


def test_an_answer_that_is_no_stream() -> None:
    error = error_of(lambda handler: handler.say("<html></html>", Content_Type="text/html"))
    assert isinstance(error, RemoteFailed)
    assert "no stream of events" in error.what


@pytest.mark.parametrize("ending", [Handler.cut, Handler.end])
def test_a_stream_that_is_cut_keeps_what_was_said(ending: Callable[[Handler], None]) -> None:
    def cut(handler: Handler) -> None:
        handler.begin()
        handler.event(HELLO)
        ending(handler)

    with talking(cut) as (chat, _):
        steps = chat.converse(QUESTION, Sampling())
        assert next(steps).text == "hello"
        with pytest.raises(RemoteFailed, match=r"broke|ended before"):
            next(steps)


def test_a_server_may_leave_out_the_last_event() -> None:
    def short(handler: Handler) -> None:
        handler.begin()
        handler.event(HELLO)
        handler.event(STOP)
        handler.end()

    with talking(short) as (chat, _):
        assert ask(chat, QUESTION, Sampling()).text == "hello"


def test_a_server_may_send_comments_and_keep_the_stream_open() -> None:
    def chatty(handler: Handler) -> None:
        handler.begin()
        handler.raw(b": still there\n\n")
        hello_data = b'data: {"choices": [{"delta": {"content": "h\\u00fc"}}]}\r\n\r\n'
        handler.raw(hello_data[:17])
        handler.raw(hello_data[17:])
        handler.event(STOP)
        handler.event("[DONE]")
        handler.wait_until_the_client_is_gone()

    with talking(chatty) as (chat, server):
        assert ask(chat, QUESTION, Sampling()).text == "h\u00fc"
        assert server.gone.wait(30)


def test_an_event_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_EVENT_BYTES", 1000)

    def endless(handler: Handler) -> None:
        handler.begin()
        while True:
            handler.raw(b"data: " + b"x" * 500)

    error = error_of(endless)
    assert isinstance(error, RemoteFailed)
    assert "1000 byte limit" in error.what


def test_a_server_that_is_silent_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SILENT_S", 0.2)
    error = error_of(Handler.wait_until_the_client_is_gone)
    assert isinstance(error, RemoteFailed)
    assert "said nothing for" in error.what


def test_nothing_is_sent_elsewhere() -> None:
    with serving(hello) as other, serving(hello) as server:
        place = f"{other.url}/chat/completions"
        server.answers["/v1/chat/completions"] = lambda handler: handler.say("", 307, Location=f"{place}?key={KEY}")
        with (
            RemoteChat(server.url, api_key=KEY) as chat,
            pytest.raises(RemoteFailed, match=f"(?m)sends requests on to {place}$"),
        ):
            ask(chat, QUESTION, Sampling())
        assert other.asked == []


def test_a_fault_of_ours_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Chunks, "push", fail)
    error = error_of(hello)
    assert isinstance(error, EngineFault)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert "a bug" in caplog.text


def test_a_fault_of_ours_while_an_answer_is_cut_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Chunks, "usage", fail)
    with talking(Handler.wait_until_the_client_is_gone) as (chat, _):
        with pytest.raises(EngineFault, match="a bug"):
            next(chat.converse(QUESTION, Sampling(), deadline_s=0.0))
        until(lambda: chat.stats().running == 0)


# --- ending an answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [False, True])
@pytest.mark.parametrize("how", ["cancelled", "deadline", "dropped", "closed"])
def test_an_answer_ends_though_no_byte_comes(how: str, said: bool) -> None:
    def silent(handler: Handler) -> None:
        if said:
            handler.begin()
            handler.event(HELLO)
        reached.set()
        handler.wait_until_the_client_is_gone()

    reached, cancel = threading.Event(), threading.Event()
    with talking(silent) as (chat, server):
        steps = chat.converse(QUESTION, Sampling(), cancel=cancel, deadline_s=0.3 if how == "deadline" else None)
        assert reached.wait(30)
        if said:
            assert next(steps).text == "hello"
        if how == "cancelled":
            cancel.set()
        elif how == "closed":
            chat.close()
        if how == "closed":
            with pytest.raises(EngineFailed, match="closed"):
                next(steps)
        elif how == "dropped":
            del steps
        else:
            [last] = steps
            assert (last.finish, last.usage is None) == (how, False)
        # The server hears of it: its work is not wanted any more.
        assert server.gone.wait(30)
        until(lambda: chat.stats().running == 0)


def test_a_chat_may_be_closed_by_a_callback() -> None:
    given: list[Token | Exception] = []

    def endless(handler: Handler) -> None:
        handler.begin()
        handler.event(HELLO)
        handler.wait_until_the_client_is_gone()

    with talking(endless) as (chat, _):

        def close(step: Token | Exception) -> None:
            given.append(step)
            chat.close()

        chat.converse(QUESTION, Sampling(), on_step=close)
        until(lambda: len(given) == 2)
        assert isinstance(given[1], EngineFailed)


def test_a_callback_that_does_not_come_back_holds_up_no_other_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeship.engine.pacing.CALLBACK_S", 0.01)
    called, going_on = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        called.set()
        going_on.wait()

    with talking(hello) as (chat, _):
        chat.converse(QUESTION, Sampling(), on_step=hang)
        assert called.wait(60)
        assert ask(chat, QUESTION, Sampling()).text == "hello"
        chat.close()
        assert not going_on.is_set()
    going_on.set()


# --- connections -----------------------------------------------------------------------------------------------------


def test_all_answers_share_one_thread_and_connections_are_used_again() -> None:
    with talking(hello) as (chat, server):
        for _ in range(5):
            assert ask(chat, QUESTION, Sampling()).text == "hello"
            until(lambda: chat.stats().running == 0)
        assert len(server.clients) == 1
        with ThreadPoolExecutor(20) as pool:
            texts = list(pool.map(lambda _: ask(chat, QUESTION, Sampling()).text, range(60)))
        assert set(texts) == {"hello"}
        assert [thread.name for thread in threading.enumerate()].count("edgeship remote") == 1
    assert "edgeship remote" not in [thread.name for thread in threading.enumerate()]


def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with talking(hello) as (chat, _):
        assert ask(chat, QUESTION, Sampling()).text == "hello"


# --- the key ---------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with talking(hello, api_key=KEY) as (chat, server):
        ask(chat, QUESTION, Sampling())
        assert server.asked[0][1]["Authorization"] == f"Bearer {KEY}"
        server.answers["/v1/chat/completions"] = lambda handler: handler.say(
            {"error": {"message": f"{handler.headers['Authorization']} is no good key"}}, 401
        )
        with pytest.raises(RemoteFailed, match=r"Bearer \*\*\* is no good key") as caught:
            ask(chat, QUESTION, Sampling())
    for shown in (caplog.text, repr(vars(caught.value)), repr(chat)):
        assert KEY not in shown
        assert "secret question" not in shown


@pytest.mark.parametrize("key", [f"{KEY}\n", "p\u00e4ss", "two words"])
def test_a_key_that_is_none(key: str) -> None:
    with pytest.raises(UsageError, match="characters that no key has") as caught:
        RemoteChat("http://127.0.0.1:9/v1", api_key=key)
    assert key.strip() not in str(caught.value)


def test_a_key_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="a key does not belong into it") as caught:
        RemoteChat(f"http://user:{KEY}@127.0.0.1:9/v1")
    assert KEY not in f"{caught.value} {caught.value.where}"


# --- models ----------------------------------------------------------------------------------------------------------


def test_the_only_model_is_meant() -> None:
    with talking(hello) as (chat, server):
        ask(chat, QUESTION, Sampling())
        assert (chat.model, server.asked[0][2]["model"]) == ("test-model", "test-model")
        assert chat.context_tokens is None


@pytest.mark.parametrize(
    ("facts", "tokens"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"meta": {"n_ctx": 8192, "n_ctx_train": 32768}}, 8192),
        ({"context_length": 100}, 100),
        ({"max_model_len": None, "meta": 3}, None),
    ],
)
def test_how_long_its_context_is(facts: dict[str, Any], tokens: int | None) -> None:
    with serving(hello, models("a", "b", **facts)) as server, RemoteChat(server.url, "b") as chat:
        assert chat.context_tokens == tokens


def test_of_several_models_one_must_be_named() -> None:
    with serving(hello, models(*(f"m{number}" for number in range(12)))) as server:
        with pytest.raises(UsageError, match=r"(?m)has 12 models: m0, m1, .*m9, \.\.\.$"):
            RemoteChat(server.url)
        with RemoteChat(server.url, "m3") as chat:
            assert chat.model == "m3"


def test_several_names_of_the_only_model() -> None:
    with serving(hello, models("triage", "triage:1", "chat", root="triage")) as server, RemoteChat(server.url) as chat:
        assert chat.model == "triage"


def test_a_server_that_lists_no_models() -> None:
    with serving(hello, lambda handler: handler.say("", 404)) as server:
        with pytest.raises(UsageError, match="lists no model"):
            RemoteChat(server.url)
        with RemoteChat(server.url, "mine") as chat:
            assert ask(chat, QUESTION, Sampling()).text == "hello"


DEEP = "[" * 100_000


@pytest.mark.parametrize("body", ["<html>", "[]", {"data": [3]}, {"data": None}, {"data": [{"id": ["a"]}]}, DEEP])
def test_a_list_of_models_that_is_none(body: Any) -> None:
    unreadable = pytest.raises(RemoteFailed, match="list of models cannot be read")
    with serving(hello, lambda handler: handler.say(body)) as server, unreadable:
        RemoteChat(server.url)
    assert "edgeship remote" not in [thread.name for thread in threading.enumerate()]


def test_a_list_of_models_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()

    def drip(handler: Handler) -> None:
        handler.begin()
        while not going_on.wait(0.01):
            with suppress(OSError):
                handler.raw(b" ")

    monkeypatch.setattr("edgeship.engine.remote.LIST_S", 0.2)
    with serving(hello, drip) as server:
        with pytest.raises(RemoteFailed, match="has not listed its models"):
            RemoteChat(server.url)
        going_on.set()


def test_a_refusal_that_is_deep() -> None:
    with (
        serving(lambda handler: handler.say(DEEP, 400)) as server,
        RemoteChat(server.url, "mine") as chat,
        pytest.raises(PromptInvalid, match="refuses the request"),
    ):
        ask(chat, QUESTION, Sampling())


@pytest.mark.parametrize("charset", ["utf-16", "none-such"])
def test_a_stream_in_letters_that_cannot_be_read(charset: str) -> None:
    def answer(handler: Handler) -> None:
        data = b"data: {}\n\n\xff"
        handler.send_response(200)
        handler.send_header("Content-Type", f"text/event-stream; charset={charset}")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    with (
        serving(answer) as server,
        RemoteChat(server.url, "mine") as chat,
        pytest.raises(RemoteFailed, match="stream"),
    ):
        ask(chat, QUESTION, Sampling())


# --- beside the answers -----------------------------------------------------------------------------------------------


def test_all_names_of_a_model_are_known() -> None:
    def listed(handler: Handler) -> None:
        entries = [("triage", "a"), ("triage:1", "a"), ("other", "b")]
        handler.say({"data": [{"id": name, "root": root} for name, root in entries]})

    with serving(hello, listed) as server, RemoteChat(server.url, "triage") as chat:
        assert chat.names == {"triage", "triage:1"}
    with serving(hello, models("one", "two")) as server, RemoteChat(server.url, "one") as chat:
        assert chat.names == {"one"}


def test_a_server_is_asked_beside_its_api() -> None:
    with talking(hello) as (chat, server):
        server.answers["/tokenize"] = lambda handler: handler.say({"count": 3})
        assert chat.tell("/tokenize", {"prompt": "a b c"}) == {"count": 3}
        assert server.asked[-1][::2] == ("/tokenize", {"prompt": "a b c"})
        server.answers["/tokenize"] = lambda handler: handler.say("<html>")
        with pytest.raises(RemoteFailed, match="says to /tokenize cannot be read"):
            chat.tell("/tokenize", {})
        server.answers["/tokenize"] = lambda handler: handler.say({"error": "no"}, 404)
        with pytest.raises(RemoteFailed, match="404"):
            chat.tell("/tokenize", {})
