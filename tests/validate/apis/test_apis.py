"""What is known of each API: its words for a question, and where things stand in its answers and streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.validate.apis import APIS, CHAT, COMPLETIONS, MESSAGES, OLLAMA_CHAT, OLLAMA_GENERATE, RESPONSES
from edgeship.validate.apis.api import Api
from edgeship.validate.apis.told import Told, events
from edgeship.validate.conformance.wanted import Wanted
from edgeship.validate.over_http import Reply

HELD = Wanted("Hello", 4, stop="x", forced="é").body
SCHEMA = {"type": "string", "enum": ["é"]}
MESSAGE = [{"role": "user", "content": "Hello"}]


def test_a_question_in_the_words_of_each_api() -> None:
    assert CHAT.body(HELD) == HELD
    assert CHAT.body(HELD, stream=True)["stream_options"] == {"include_usage": True}
    assert COMPLETIONS.body(HELD)["prompt"] == "Hello"
    responses = RESPONSES.body(HELD)
    assert (responses["input"], responses["max_output_tokens"], responses["store"]) == (MESSAGE, 4, False)
    assert responses["text"] == {"format": {"type": "json_schema", "name": "word", "schema": SCHEMA, "strict": True}}
    assert MESSAGES.body(HELD)["stop_sequences"] == ["x"]
    assert MESSAGES.request(HELD).headers == (("anthropic-version", "2023-06-01"),)
    options = {"num_predict": 4, "temperature": 0, "stop": ["x"]}
    assert OLLAMA_CHAT.body(HELD) == {"messages": MESSAGE, "format": SCHEMA, "options": options, "stream": False}
    assert OLLAMA_GENERATE.body(HELD, stream=True) == {
        "prompt": "Hello",
        "format": SCHEMA,
        "options": options,
        "stream": True,
    }


STREAMS: dict[Api, list[dict[str, Any]]] = {
    CHAT: [
        {"choices": [{"delta": {"content": "H"}}]},
        {"choices": [{"delta": {"content": "i"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    ],
    COMPLETIONS: [
        {"choices": [{"text": "H"}]},
        {"choices": [{"text": "i", "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    ],
    RESPONSES: [
        {"type": "response.output_text.delta", "delta": "H"},
        {"type": "response.output_text.delta", "delta": "i"},
        {
            "type": "response.completed",
            "response": {
                "status": "completed",
                "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
                "usage": {"input_tokens": 3, "output_tokens": 2},
            },
        },
    ],
    MESSAGES: [
        {"type": "message_start", "message": {"usage": {"input_tokens": 1, "cache_read_input_tokens": 2}}},
        {"type": "content_block_delta", "delta": {"text": "H"}},
        {"type": "content_block_delta", "delta": {"text": "i"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    ],
    OLLAMA_CHAT: [
        {"message": {"content": "H"}, "done": False},
        {
            "message": {"content": "i"},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 3,
            "eval_count": 2,
        },
    ],
    OLLAMA_GENERATE: [
        {"response": "H", "done": False},
        {"response": "i", "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2},
    ],
}


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_a_stream_is_read_piece_by_piece(api: Api) -> None:
    told = Told()
    for event in STREAMS[api]:
        api.piece(told, event)
    assert (told.text, told.finish, told.prompt_tokens, told.completion_tokens) == ("Hi", "stop", 3, 2)
    assert told.pieces == 2


@pytest.mark.parametrize(
    ("api", "end"),
    [
        (CHAT, 'data: {"a": 1}\n\ndata: [DONE]\n\n'),
        (COMPLETIONS, "data: [DONE]\r\n\r\n"),
        (RESPONSES, 'event: x\ndata: {"type": "response.completed", "response": {}}\n\n'),
        (MESSAGES, 'event: message_stop\ndata: {"type": "message_stop"}\n\n'),
        (OLLAMA_CHAT, '{"model": "m", "done": true, "context": [1]}\n'),
    ],
)
def test_what_ends_a_stream_is_known(api: Api, end: str) -> None:
    before = "data: {}\n\n" * 20_000
    assert api.is_over((before + end).encode())
    assert not api.is_over((before + end[:-1]).encode())
    assert not api.is_over((end + "data: {}\n\n").encode())


def test_what_comes_not_as_its_api_has_it_is_told() -> None:
    for reply, fault in (
        (Reply(500, b"", "whole", 0.1), "it is answered with 500"),
        (Reply(None, b"", "late", 0.1, fault="nothing came"), "nothing came"),
        (Reply(200, b"[]", "whole", 0.1), "the answer: $"),
        (Reply(200, b"{", "cut", 0.1, fault="it broke"), "it broke"),
    ):
        for api in APIS:
            assert api.told(reply, stream=False).faults[0].startswith(fault)
            assert api.told(reply, stream=True).faults


@given(st.lists(st.text(max_size=20), min_size=1, max_size=8))
def test_events_are_read_as_they_were_written(texts: list[str]) -> None:
    body = b"".join(f"event: e\r\ndata: {json.dumps({'a': text})}\r\n\r\n".encode() for text in texts)
    faults: list[str] = []
    assert [event.data["a"] for event in events(body + b": still here\n\n", faults)] == texts
    assert not faults
