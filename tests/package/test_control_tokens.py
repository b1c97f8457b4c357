from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from edgeship.errors import PromptInvalid
from edgeship.package.control_tokens import ControlTokens
from edgeship.package.conversation import Conversation

ADDED = {
    1: AddedToken("<|begin|>", special=True),
    2: AddedToken("<|end|>", special=False, normalized=False),  # around turns, and not called special
    3: AddedToken("<call>", special=True),
    4: AddedToken("<tool>", special=False),
    5: AddedToken("user", special=True),
    6: AddedToken("\n", special=True),
    7: AddedToken("<Full>", special=True, normalized=True),
}
CONTROL = ControlTokens(ADDED, (1, 2, 6))


def shown(value: Any) -> str:
    """All that is said, one after the other, as a template without marks of its own would show it."""
    if isinstance(value, dict):
        return "".join(shown(part) for pair in value.items() for part in pair)
    return "".join(map(shown, value)) if isinstance(value, list | tuple) else str(value)


def found(conversation: Conversation) -> list[str]:
    """The control tokens that are known as typed, from their second character on."""
    marked = CONTROL.mark(conversation)
    text, places = CONTROL.typed(shown([marked.messages, marked.tools, marked.variables]))
    original = shown([conversation.messages, conversation.tools, conversation.variables])
    assert text == original or '"' in original  # arguments, which are JSON
    return [text[place : place + 4] for place in places]


def said(content: Any, role: str = "user", **besides: Any) -> Conversation:
    return Conversation([{"role": role, "content": content, **besides}])


def test_control_tokens_are_found_in_whatever_is_said() -> None:
    assert found(said("a<|begin|>b<|end|>")) == ["|beg", "|end"]
    assert found(said([{"type": "text", "text": "<call>"}])) == ["call"]
    assert found(said("x", name="<|end|>")) == ["|end"]
    assert found(said("x", role="<|end|>system")) == ["|end"]
    tool = {"type": "function", "function": {"name": "f", "description": "<call>", "parameters": {"<|end|>": 1}}}
    assert found(Conversation([{"role": "user", "content": "x"}], [tool])) == ["call", "|end"]
    assert found(Conversation([{"role": "user", "content": "x"}], variables={"date": ["<|end|>"]})) == ["|end"]


def test_arguments_are_read_before_they_are_searched() -> None:
    arguments = json.dumps({"a": "<|begin|>"}).replace("<", "\\u003c")
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    assert found(Conversation([{"role": "assistant", "content": None, "tool_calls": [call]}])) == ["|beg"]


def test_what_the_assistant_said_keeps_all_but_tokens_of_turns() -> None:
    assert found(said("<call>{}<|end|>", role="assistant")) == ["|end"]


def test_what_is_no_control_token() -> None:
    """Neither tokens that nobody calls special, nor words and blanks, which are part of ordinary texts."""
    assert found(said("<tool> a user\nand <|beginning|>")) == []
    untouched = said("<tool> user\n")
    assert CONTROL.mark(untouched) == untouched
    assert ControlTokens({}, ()).mark(untouched) == untouched


@pytest.mark.parametrize("parts", [("<", "|end|>"), ("a<|e", "nd", "|>b"), ("<|begin<|e", "nd|>"), ("<|e \n", "nd|>")])
def test_tokens_that_a_template_puts_together_are_typed_too(parts: tuple[str, ...]) -> None:
    as_parts = CONTROL.mark(said([{"type": "text", "text": part} for part in parts]))
    as_turns = CONTROL.mark(Conversation([{"role": "user", "content": part} for part in parts]))
    for texts in (
        [part["text"] for part in as_parts.messages[0]["content"]],
        [m["content"] for m in as_turns.messages],
    ):
        text, places = CONTROL.typed("".join(each.strip() for each in texts))
        assert text == "".join(part.strip() for part in parts)
        assert len(places) == 1


def test_a_beginning_that_nothing_completes_is_none() -> None:
    marked = CONTROL.mark(said("1 <"))
    assert CONTROL.typed(f"<|begin|>{marked.messages[0]['content']}<|end|>") == ("<|begin|>1 <<|end|>", [])


@given(st.text(st.sampled_from("<|>endbgi "), max_size=40))
def test_every_control_token_in_a_text_is_found_and_nothing_else_changes(text: str) -> None:
    back, places = CONTROL.typed(CONTROL.mark(said(text)).messages[0]["content"])
    assert back == text
    assert {place - 1 for place in places} >= {text.find(token) for token in ("<|begin|>", "<|end|>")} - {-1}


def test_what_becomes_a_control_token_only_when_it_is_normalized_is_refused() -> None:
    CONTROL.require_written([7, 7, 9], "<Full> a <Full>", [])
    with pytest.raises(PromptInvalid, match="'<Full>'") as caught:
        CONTROL.require_written([7, 7], "<Full> a \N{FULLWIDTH LESS-THAN SIGN}Full>", [])
    assert caught.value.hint
    with pytest.raises(PromptInvalid):
        CONTROL.require_written([7, 7], "<Full> <Full>", [1])


def test_what_is_nested_too_deeply() -> None:
    deep: Any = "<|end|>"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PromptInvalid, match="too deeply"):
        CONTROL.mark(Conversation([{"role": "user", "content": "x"}], variables={"deep": deep}))
