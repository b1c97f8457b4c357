"""Messages made of blocks, as chat templates get them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from edgeship.errors import RequestInvalid
from edgeship.package.conversation import Conversation
from edgeship.serve.anthropic.blocks import Message, Texts, conversation_of, is_begun
from edgeship.serve.anthropic.messages import _text, _thinking, _tool_use

CALL = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}}


def read(*messages: dict[str, Any], system: Any = None) -> Any:
    told = TypeAdapter(Texts | None).validate_python(system)
    found = conversation_of(told or (), [TypeAdapter(Message).validate_python(message) for message in messages])
    Conversation(found)
    return found


def result(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": content} | more]}


def test_texts_and_instructions() -> None:
    assert read({"role": "user", "content": "hello"}, system="Be kind.") == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hello"},
    ]
    parts = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    plain = [{"type": "text", "text": text} for text in "ab"]
    assert read({"role": "user", "content": parts}, system=parts) == [
        {"role": "system", "content": plain},
        {"role": "user", "content": plain},
    ]


def test_calls_and_what_they_came_to() -> None:
    found = read(
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, CALL]},
        result("20 degrees"),
    )
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert found[1] == {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
    }
    assert found[2] == {"role": "tool", "content": "20 degrees", "tool_call_id": "call_1"}


def test_a_result_beside_a_question_is_a_message_of_its_own() -> None:
    mixed = result([{"type": "text", "text": "20"}])
    mixed["content"].append({"type": "text", "text": "And tomorrow?"})
    found = read({"role": "user", "content": "?"}, {"role": "assistant", "content": [CALL]}, mixed)
    assert [(message["role"], message["content"]) for message in found[2:]] == [
        ("tool", "20"),
        ("user", "And tomorrow?"),
    ]


def test_a_call_that_failed_says_so() -> None:
    calling: list[dict[str, Any]] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": [CALL]}]
    assert read(*calling, result("no such city", is_error=True))[2]["content"] == [
        {"type": "text", "text": "Error:"},
        {"type": "text", "text": "no such city"},
    ]
    assert read(*calling, result(None))[2]["content"] == ""


def test_thoughts_go_back_to_the_model() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "Yes.", "citations": None}]}
    found = read({"role": "user", "content": "a"}, said, {"role": "user", "content": "b"})
    assert found[1] == {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}


def test_what_was_answered_is_taken_back() -> None:
    thought, text = _thinking("Hm."), _text("I look.")
    content = [thought, text, _tool_use("call_1", "weather", {"city": "Paris"})]
    found = read({"role": "user", "content": "a"}, {"role": "assistant", "content": content}, result("20"))
    assert found[1]["content"] == "I look."


def test_turns_of_one_side_become_one() -> None:
    found = read(
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    )
    assert [message["role"] for message in found] == ["user", "assistant", "user"]
    assert [part["text"] for part in found[0]["content"]] == ["a", "b"]


def test_results_stay_apart() -> None:
    two = result("1")
    two["content"] += result("2")["content"]
    found = read({"role": "user", "content": "?"}, {"role": "assistant", "content": [CALL, CALL | {"id": "x"}]}, two)
    assert [message["content"] for message in found[2:]] == ["1", "2"]


def test_the_last_answer_was_begun_unless_it_calls_tools() -> None:
    def begun(*messages: dict[str, Any]) -> bool:
        return is_begun([TypeAdapter(Message).validate_python(message) for message in messages])

    question = {"role": "user", "content": "a"}
    assert not begun(question)
    assert begun(question, {"role": "assistant", "content": "I"})
    with pytest.raises(RequestInvalid, match="nothing says what they came to") as caught:
        begun(question, {"role": "assistant", "content": [CALL]})
    assert caught.value.param == "messages[1]"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "boss", "content": "a"},
        {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "image", "source": {}}]},
        {"role": "user", "content": [CALL]},
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]},
        {"role": "user", "content": [{"type": "text", "text": "a", "citations": [{}]}]},
        {"role": "user", "content": [{"type": "text", "text": "a", "other": 1}]},
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "for": 5}}]},
        {"role": "assistant", "content": [CALL | {"caller": {"type": "code_execution_20250825", "tool_id": "x"}}]},
        result([{"type": "image", "source": {}}]),
    ],
)
def test_what_is_not_read(message: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(message)
