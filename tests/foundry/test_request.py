"""Settings and constraints in Foundry Local's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeship.engine.api import Constraint, Conversation, Sampling
from edgeship.errors import NotSupported, PromptInvalid
from edgeship.foundry.request import check_supported, guidance, plain_messages, search_options

DEFAULTS = Sampling(temperature=0.0, repetition_penalty=1.1, min_p=0.0)


def test_every_setting_is_said() -> None:
    settings = Sampling(temperature=0.7, top_p=0.9, top_k=0, seed=-1, max_tokens=50)
    assert search_options(settings, 100) == {
        "max_output_tokens": "50",
        "temperature": "0.7",
        "top_p": "0.9",
        "top_k": "0",
        "do_sample": "true",
        "seed": str(2**31 - 1),
    }


def test_greedy_is_said_too_and_the_room_is_the_limit() -> None:
    greedy = search_options(Sampling(temperature=0.0), 100)
    assert greedy == {"max_output_tokens": "100", "temperature": "0.0", "do_sample": "false"}
    assert search_options(Sampling(temperature=0.0, max_tokens=500), 100) == greedy


def test_the_packages_own_penalty_is_no_request() -> None:
    check_supported(Sampling().over(DEFAULTS), DEFAULTS)
    with pytest.raises(NotSupported, match="repetition_penalty"):
        check_supported(Sampling(repetition_penalty=1.0).over(DEFAULTS), DEFAULTS)


def test_messages() -> None:
    messages = [{"role": role, "content": "a"} for role in ("system", "user", "assistant", "tool")]
    assert plain_messages(Conversation(messages)) == messages
    with pytest.raises(PromptInvalid, match="without text"):
        plain_messages(Conversation([{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"tools": [{"type": "function", "function": {"name": "weather"}}]}, "no tools"),
        ({"variables": {"enable_thinking": False}}, "no variables"),
    ],
)
def test_what_it_cannot_give_its_template(more: dict[str, Any], named: str) -> None:
    with pytest.raises(NotSupported, match=named):
        plain_messages(Conversation([{"role": "user", "content": "a"}], **more))


def test_tools_that_are_not_to_be_called_are_left_out() -> None:
    tool = {"type": "function", "function": {"name": "weather"}}
    messages = [{"role": "user", "content": "a"}]
    assert plain_messages(Conversation(messages, [tool], tool_choice="none")) == messages


def test_json_is_held_to_one_line_in_either_layout() -> None:
    found = guidance(Constraint("json_schema", '{"type": "object"}'))
    assert found["guidance_type"] == "lark_grammar"
    start, first, second = found["guidance_data"].splitlines()
    assert start == "start: layout_0 | layout_1"
    for line, separators in ((first, (", ", ": ")), (second, (",", ":"))):
        rule = json.loads(line.partition("%json ")[2])
        assert rule["type"] == "object"
        layout = rule["x-guidance"]
        assert (layout["item_separator"], layout["key_separator"]) == separators
        assert layout["whitespace_flexible"] is False


def test_other_constraints_are_handed_on() -> None:
    assert guidance(Constraint("regex", "a+")) == {"guidance_type": "regex", "guidance_data": "a+"}
    assert guidance(Constraint("lark", "start: A")) == {"guidance_type": "lark_grammar", "guidance_data": "start: A"}
    assert '"type": "object"' in guidance(Constraint("json_object"))["guidance_data"]


def test_what_is_enforced_of_a_schema_is_handed_on() -> None:
    assert '%json {"x-guidance"' in guidance(Constraint("json_schema", "true"))["guidance_data"]
    text = json.dumps({"type": "string", "format": "password", "x-guidance": {"key_separator": " : "}})
    data = guidance(Constraint("json_schema", text))["guidance_data"]
    assert "password" not in data
    assert " : " not in data
