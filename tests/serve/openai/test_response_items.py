"""Items of the Responses API as messages."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.errors import RequestInvalid
from edgeship.package.conversation import Conversation
from edgeship.serve.openai.response_items import messages_of, read_items

CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'}
CALLED = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}


def test_a_text_is_a_message_of_the_user() -> None:
    [item] = read_items("hello")
    assert item.pop("id").startswith("msg_")
    content = [{"type": "input_text", "text": "hello"}]
    assert item == {"type": "message", "status": "completed", "role": "user", "content": content}


def test_a_turn_of_the_model_is_one_message() -> None:
    items = read_items(
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
    items = read_items(
        [
            {"role": "assistant", "phase": "commentary", "content": "I look."},
            {"role": "assistant", "phase": "final_answer", "content": "Rain."},
        ]
    )
    assert [item["phase"] for item in items] == ["commentary", "final_answer"]
    assert [message["content"] for message in messages_of(items)] == ["I look.", "Rain."]


def test_thoughts_alone_are_a_message_without_text() -> None:
    items = read_items([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, {**USER}])
    assert messages_of(items)[0] == {"role": "assistant", "reasoning_content": "Hm.", "content": ""}


USER = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "item_reference", "id": "x"}, "input[1].type"),
        ({"type": 3}, "input[1].type"),
        ({"role": "tool", "content": "x"}, "input[1].role"),
        ({"role": "user"}, "input[1].content"),
        ({"role": "user", "content": [{"type": "input_file"}]}, "input[1].content[0]"),
        ({"role": "user", "content": "x", "phase": "commentary", "name": "x"}, "input[1].name"),
        ({"role": "user", "content": "x", "phase": "last"}, "input[1].phase"),
        ({"role": "user", "content": "x", "id": 1}, "input[1].id"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[1].call_id"),
        ({"type": "function_call_output", "call_id": "c1", "output": 3}, "input[1].output"),
        ({"type": "reasoning", "summary": [], "encrypted_content": "x"}, "input[1].encrypted_content"),
        ({"type": "reasoning", "summary": "x"}, "input[1].summary"),
    ],
)
def test_an_item_that_is_wrong_is_named(item: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        read_items([USER, item])
    assert caught.value.param == param


def test_what_is_empty_or_null_is_not_there() -> None:
    [item] = read_items([{"role": "assistant", "content": "x", "tool_calls": [], "refusal": None, "id": None}])
    assert item["id"].startswith("msg_")


def test_the_output_of_a_call_that_is_not_there() -> None:
    with pytest.raises(RequestInvalid, match="'c2'"):
        messages_of(read_items([CALL, {"type": "function_call_output", "call_id": "c2", "output": "x"}]))


def test_more_items_than_are_read() -> None:
    with pytest.raises(RequestInvalid, match="5000 items"):
        read_items([USER] * 5000)
