"""Items of the Responses API as messages."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edgeship.engine.api import CallPiece, Token, ToolCall, Usage
from edgeship.errors import RequestInvalid
from edgeship.package.conversation import Conversation
from edgeship.serve.fields import refusal
from edgeship.serve.openai.response_items import Item, messages_of, read_items
from edgeship.serve.openai.response_output import Output
from edgeship.serve.openai.response_request import ResponseRequest

CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'}
CALLED = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}


def read(given: str | list[dict[str, Any]]) -> list[Item]:
    """The items of a request. Raises RequestInvalid as the server does."""
    body = {"model": "m", "input": given}
    try:
        return read_items(ResponseRequest.model_validate(body).input)
    except ValidationError as error:
        raise refusal([fault | {"loc": ("body", *fault["loc"])} for fault in error.errors()], body) from error


def test_a_text_is_a_message_of_the_user() -> None:
    [item] = read("hello")
    assert item.pop("id").startswith("msg_")
    content = [{"type": "input_text", "text": "hello"}]
    assert item == {"type": "message", "status": "completed", "role": "user", "content": content}


def test_a_turn_of_the_model_is_one_message() -> None:
    items = read(
        [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
            CALL,
            CALL | {"call_id": "c2"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "sun"}]},
        ]
    )
    messages = messages_of(items, "Answer.")
    assert messages == [
        {"role": "system", "content": "Answer."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "reasoning_content": "Hm.",
            "content": "I look.",
            "tool_calls": [CALLED, CALLED | {"id": "c2"}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "sun"}]},
    ]
    Conversation(messages)


def test_two_messages_of_the_model_stay_two() -> None:
    items = read(
        [
            {"role": "assistant", "phase": "commentary", "content": "I look."},
            {"role": "assistant", "phase": "final_answer", "content": "Rain."},
        ]
    )
    assert [item["phase"] for item in items] == ["commentary", "final_answer"]
    assert [message["content"] for message in messages_of(items)] == ["I look.", "Rain."]


def test_thoughts_alone_are_a_message_without_text() -> None:
    items = read([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, {**USER}])
    assert messages_of(items)[0] == {"role": "assistant", "reasoning_content": "Hm.", "content": ""}


USER = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "item_reference", "id": "x"}, "input[1].type"),
        ({"type": 3}, "input[1].type"),
        ({"role": "tool", "content": "x"}, "input[1].role"),
        ({"role": "user"}, "input[1].content"),
        ({"role": "user", "content": [{"type": "input_file"}]}, "input[1].content[0].type"),
        ({"role": "user", "content": "x", "phase": "commentary", "name": "x"}, "input[1].name"),
        ({"role": "user", "content": [{"type": "input_text", "text": "x", "detail": 1}]}, "input[1].content[0].detail"),
        ({"role": "user", "content": "x", "phase": "last"}, "input[1].phase"),
        ({"role": "user", "content": "x", "id": 1}, "input[1].id"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[1].call_id"),
        ({"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{"}, "input[1].arguments"),
        ({"type": "function_call_output", "call_id": "c1", "output": 3}, "input[1].output"),
        ({"type": "reasoning", "summary": [], "encrypted_content": "x"}, "input[1].encrypted_content"),
        ({"type": "reasoning", "summary": "x"}, "input[1].summary"),
    ],
)
def test_an_item_that_is_wrong_is_named(item: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        read([USER, item])
    assert caught.value.param == param


def test_what_is_null_is_not_there() -> None:
    [item] = read([{"role": "assistant", "content": "x", "refusal": None, "id": None}])
    assert item["id"].startswith("msg_")


def test_what_was_answered_is_taken_back() -> None:
    output = Output({"id": "resp_1"})
    call = ToolCall("c1", "f", "{}")
    output.take(Token(1, "", thinking="Hm."))
    output.take(Token(1, "I look."))
    output.take(Token(1, "", calling=(CallPiece(0, "c1", "f", "{}"),), tool_calls=(call,)))
    output.take(Token(1, "", finish="tool_calls", usage=Usage(1, 2, 0.0, 0.0)))
    items = output.response["output"]
    assert [item["type"] for item in items] == ["reasoning", "message", "function_call"]
    # As the package of OpenAI writes it.
    items[0] |= {"encrypted_content": None}
    assert [item["id"] for item in read([USER, *items])[1:]] == [item["id"] for item in items]


def test_the_output_of_a_call_that_is_not_there() -> None:
    with pytest.raises(RequestInvalid, match="'c2'"):
        messages_of(read([CALL, {"type": "function_call_output", "call_id": "c2", "output": "x"}]))


def test_more_items_than_are_read() -> None:
    with pytest.raises(RequestInvalid, match="more than 4096 entries"):
        read([USER] * 5000)
