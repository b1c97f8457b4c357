from __future__ import annotations

from typing import Any

import pytest

from edgeship.errors import PromptInvalid
from edgeship.package.conversation import Conversation, text_of

USER = {"role": "user", "content": "hello"}
FUNCTION = {"name": "weather", "arguments": "{}"}
TOOL = {"type": "function", "function": {"name": "weather"}}
CALL = {"id": "1", "type": "function", "function": FUNCTION}


def test_what_openais_clients_send_is_taken() -> None:
    Conversation(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "hello"}], "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [CALL, {"function": {"name": "a", "arguments": {}}}]},
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "content": "rain", "tool_call_id": "1"},
            {"role": "assistant", "content": "", "tool_calls": []},
        ],
        tools=[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        variables={"enable_thinking": False},
    )


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([], "no message"),
        ("hello", "the messages are no list"),
        ([USER, "hello"], "message 2 is no object"),
        ([{"content": "hello"}], "message 1 has no role"),
        ([{"role": "", "content": "hello"}], "message 1 has no role"),
        ([USER, USER, {"role": "user"}], "message 3 has no content"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], "message 1 has no content"),
        ([{"role": "user", "content": 3}], "message 1: content is neither a text nor a list of parts"),
        ([{"role": "user", "content": {"text": "a"}}], "message 1: content is neither"),
        ([{"role": "user", "content": ["a"]}], "message 1, part 1 is no object"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}],
            "message 1, part 2: type is 'image_url', and only 'text' is read",
        ),
        ([{"role": "user", "content": [{"text": "a"}]}], "message 1, part 1: type is None"),
        ([{"role": "user", "content": [{"type": "text"}]}], "message 1, part 1: text is no text"),
        ([USER | {"name": 3}], "message 1: name is no text"),
        ([USER | {"tool_call_id": 3}], "message 1: tool_call_id is no text"),
        ([USER | {"tool_calls": {}}], "message 1: tool_calls is no list"),
        ([USER | {"tool_calls": ["a"]}], "message 1, tool call 1 is no object"),
        ([USER | {"tool_calls": [CALL, CALL | {"type": "shell"}]}], "message 1, tool call 2: type is 'shell'"),
        ([USER | {"tool_calls": [CALL | {"function": 3}]}], "tool call 1: function is no object"),
        ([USER | {"tool_calls": [CALL | {"function": {"arguments": "{}"}}]}], "function.name is no text"),
        ([USER | {"tool_calls": [CALL | {"function": FUNCTION | {"arguments": "{"}}]}], "arguments is no JSON object"),
        ([USER | {"tool_calls": [CALL | {"function": FUNCTION | {"arguments": "[]"}}]}], "arguments is no JSON object"),
        (
            [USER | {"tool_calls": [CALL | {"function": FUNCTION | {"arguments": '{"a": ' * 5000}}]}],
            "arguments is no JSON object",
        ),
        ([USER | {"tool_calls": [CALL | {"id": 3}]}], "message 1, tool call 1: id is no text"),
    ],
)
def test_what_is_no_conversation_is_named_with_its_place(messages: Any, named: str) -> None:
    with pytest.raises(PromptInvalid, match=named):
        Conversation(messages)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"tools": "weather"}, "tools is no list"),
        ({"tools": [{"function": {}}]}, "tool 1: function.name is no text"),
        ({"tools": [{"function": {"name": ""}}]}, "tool 1: function.name has 0 characters, not 1 to 256"),
        (
            {"tools": [TOOL, {"function": {"name": "b", "parameters": "none"}}]},
            "tool 2: function.parameters is no object",
        ),
        ({"tools": [{"function": {"name": "n" * 257}}]}, "tool 1: function.name has 257 characters"),
        ({"tools": [TOOL, TOOL]}, "two tools are called 'weather'"),
        ({"tools": [TOOL], "tool_choice": "weather"}, "tool_choice is 'weather' and none of auto, none, required"),
        ({"tools": [TOOL], "tool_choice": ["auto"]}, "tool_choice is"),
        ({"tool_choice": "required"}, "tool_choice is 'required' and there are no tools"),
        ({"tools": [TOOL], "allowed_tools": ["time"]}, "'time' is to be called, and no tool has that name"),
        ({"tools": [TOOL], "allowed_tools": [[]]}, "no tool has that name"),
        ({"tools": [TOOL], "allowed_tools": "weather"}, "allowed_tools is no list"),
        ({"tools": [TOOL], "parallel_tool_calls": 1}, "parallel_tool_calls is not true or false"),
        ({"variables": 3}, "variables are no object"),
        ({"variables": {"messages": []}}, "no template variable may be called 'messages'"),
        ({"variables": {"": 1}}, "no template variable may be called ''"),
        ({"variables": {"a b": 1}}, "no template variable may be called 'a b'"),
    ],
)
def test_tools_and_variables_are_looked_at_too(more: dict[str, Any], named: str) -> None:
    with pytest.raises(PromptInvalid, match=named):
        Conversation([USER], **more)


def test_how_an_answer_may_call_functions() -> None:
    tools = [TOOL, {"type": "function", "function": {"name": "time"}}]
    asked = Conversation([USER], tools)
    assert asked.tool_use
    assert asked.tool_use.names == ("weather", "time")
    assert not asked.tool_use.required
    assert asked.tool_use.parallel
    named = Conversation([USER], tools, tool_choice="required", allowed_tools=["time"], parallel_tool_calls=False)
    assert named.tool_use
    assert (named.tool_use.names, named.tool_use.required, named.tool_use.parallel) == (("time",), True, False)
    assert Conversation([USER], tools, tool_choice="none").tool_use is None
    assert Conversation([USER]).tool_use is None


@pytest.mark.parametrize(
    ("conversation", "uses"),
    [
        (Conversation([USER]), False),
        (Conversation([USER], [TOOL]), True),
        (Conversation([USER], [TOOL], tool_choice="none"), False),
        (Conversation([USER, {"role": "assistant", "tool_calls": [CALL]}]), True),
        (Conversation([USER, {"role": "tool", "content": "rain"}]), True),
    ],
)
def test_whether_a_conversation_is_about_tools(conversation: Conversation, uses: bool) -> None:
    assert conversation.uses_tools is uses


def test_a_content_as_one_text() -> None:
    assert text_of([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]) == "a\nb"
    assert (text_of("a"), text_of(None)) == ("a", "")


CALLED = {"type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ({"role": "user", "content": "hello"}, "it is not the assistant's"),
        ({"role": "assistant", "content": " \n"}, "it has no text"),
        ({"role": "assistant", "content": "I look.", "tool_calls": [CALLED]}, "it calls functions"),
    ],
)
def test_what_cannot_be_continued(last: dict[str, Any], why: str) -> None:
    with pytest.raises(PromptInvalid, match=why) as caught:
        Conversation([{"role": "user", "content": "hello"}, last], continues=True)
    assert caught.value.param == "messages"


def test_a_required_call_begins_anew() -> None:
    begun = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Good"}]
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(PromptInvalid, match="a call is required"):
        Conversation(begun, tools, tool_choice="required", continues=True)
