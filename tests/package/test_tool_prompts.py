"""What templates make of tools, calls and results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from edgeship.package import call_syntax, template
from edgeship.package.conversation import Conversation
from edgeship.package.tool_formats import FORMATS
from edgeship.package.tool_prompts import chosen_for
from tests import chat_templates, tool_templates
from tests.tool_templates import BY_FORMAT, TOKENS

WEATHER = {"type": "function", "function": {"name": "weather", "description": "of today", "parameters": {}}}
TIME = {"type": "function", "function": {"name": "time"}}
USER = {"role": "user", "content": "Rain in Bonn?"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
ANSWERED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "It rains."}
every_template = pytest.mark.parametrize("name", BY_FORMAT)


def rendered(text: str, conversation: Conversation, tokens: Mapping[str, str] = TOKENS) -> str:
    prompts = chosen_for(text, tuple(tokens.items()))
    variables: dict[str, Any] = prompts.variables(conversation)
    return template.render(
        text,
        template.readable(text, prompts.messages(conversation), tokens),
        special_tokens=tokens,
        tools=variables.pop("tools", ()),
        variables=variables,
    )


@every_template
def test_the_format_is_found_by_rendering(name: str) -> None:
    text, form, shown_by = BY_FORMAT[name]
    found = chosen_for(text, tuple(TOKENS.items()))
    assert (found.format.name, found.shown_by) == (form, shown_by)


@pytest.mark.parametrize("name", chat_templates.FAMILIES)
def test_templates_that_take_no_tools_are_told_in_words(name: str) -> None:
    family = chat_templates.FAMILIES[name]
    prompt = rendered(family.template, Conversation([USER], [WEATHER]), family.tokens)
    assert json.dumps(WEATHER["function"]) in prompt
    assert '<tool_call>\n{"name": "NAME"' in prompt
    assert "Rain in Bonn?" in prompt


@every_template
def test_a_whole_exchange_is_shown(name: str) -> None:
    text, form, _ = BY_FORMAT[name]
    prompt = rendered(text, Conversation([USER, ANSWERED, RESULT], [WEATHER, TIME]))
    places = [prompt.find(part) for part in ("of today", "Rain in Bonn?", "Bonn", "It rains.")]
    assert -1 not in places
    assert prompt.index("time") >= 0
    said = prompt.rpartition("Rain in Bonn?")[2]
    assert call_syntax.read(next(row for row in FORMATS if row.name == form), said) == ("weather", {"city": "Bonn"})
    assert said.index("It rains.") > said.rindex("Bonn")


every_plain_template = pytest.mark.parametrize("name", sorted(BY_FORMAT.keys() - {"phi4-each"}))
"""Those that render anything without tools."""


@every_plain_template
def test_tools_are_not_shown_where_none_may_be_called(name: str) -> None:
    text = BY_FORMAT[name][0]
    hidden = rendered(text, Conversation([USER], [WEATHER], tool_choice="none"))
    assert hidden == rendered(text, Conversation([USER]))
    assert "of today" not in hidden


@every_template
def test_all_tools_stay_in_the_prompt_where_only_some_may_be_called(name: str) -> None:
    text = BY_FORMAT[name][0]
    both = Conversation([USER], [WEATHER, TIME])
    assert rendered(text, replace(both, allowed_tools=("time",))) == rendered(text, both)


def test_instructions_stay_before_what_is_told_of_tools() -> None:
    asked = Conversation([{"role": "system", "content": "Be brief."}, USER], [WEATHER])
    prompt = rendered(tool_templates.CHATML, asked)
    assert prompt.startswith("<|im_start|>system\nBe brief.\n\nYou may call functions.")
    assert "<|system|>Be brief.<|tool|>[" in rendered(tool_templates.PHI4, asked)


def test_results_that_a_template_does_not_write_are_what_the_user_says() -> None:
    asked = Conversation([USER, ANSWERED, RESULT, RESULT | {"content": "And snows."}])
    assert rendered(tool_templates.CHATML, asked).endswith(
        "<|im_start|>user\n<tool_response>\nIt rains.\n</tool_response>\n<tool_response>\nAnd snows.\n</tool_response>"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def test_text_beside_a_call_is_kept() -> None:
    asked = Conversation([USER, ANSWERED | {"content": "Let me see."}, RESULT])
    assert "assistant\nLet me see.\n<tool_call>\n" in rendered(tool_templates.CHATML, asked)
    assert "assistant\nLet me see.\n<tool_call>\n" in rendered(tool_templates.QWEN, asked)


def test_results_get_the_name_of_what_was_called() -> None:
    assert '{"name": "weather", "content": "It rains."}' in rendered(
        tool_templates.HERMES, Conversation([USER, ANSWERED, RESULT])
    )


def test_ids_are_short_where_the_template_wants_them_so() -> None:
    prompt = rendered(tool_templates.MISTRAL, Conversation([USER, ANSWERED, RESULT]))
    identity = prompt.partition('"id": "')[2][:9]
    assert identity.isalnum()
    assert f'"call_id": "{identity}"' in prompt
    own = ANSWERED | {"tool_calls": [CALL | {"id": "abcDEF123"}]}
    assert '"id": "abcDEF123"' in rendered(tool_templates.MISTRAL, Conversation([USER, own]))


def test_a_call_without_an_id_gets_one_where_it_must() -> None:
    call = {"function": {"name": "weather", "arguments": {}}}
    assert '"id": "' in rendered(
        tool_templates.MISTRAL, Conversation([USER, {"role": "assistant", "tool_calls": [call]}])
    )


def test_a_template_that_fails_with_tools_is_told_in_words() -> None:
    text = "{% if tools %}{{ raise_exception('no tools') }}{% endif %}" + tool_templates.CHATML
    assert "You may call functions" in rendered(text, Conversation([USER], [WEATHER]))


def test_what_a_model_must_be_told_with_tools_is_said_where_nobody_says_anything() -> None:
    told = "developer\nYou are a model that can do function calling with the following functions<start_function_decl"
    assert told in rendered(tool_templates.FUNCTIONGEMMA, Conversation([USER], [WEATHER]))
    own = Conversation([{"role": "system", "content": "Call."}, USER], [WEATHER])
    assert "developer\nCall.<start_function_decl" in rendered(tool_templates.FUNCTIONGEMMA, own)
    assert "You are a model" not in rendered(tool_templates.FUNCTIONGEMMA, Conversation([USER]))
