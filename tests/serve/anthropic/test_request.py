"""What Anthropic's clients ask, as settings."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.engine.api import Constraint
from edgeship.errors import RequestInvalid
from edgeship.serve.anthropic.request import MessagesRequest, ToolChoice


def asked(**body: Any) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "a"}]} | body
    return MessagesRequest.model_validate(body)


def test_settings() -> None:
    found = asked(temperature=1, top_p=0.9, top_k=40, stop_sequences=["x", "y"]).sampling()
    assert (found.max_tokens, found.temperature, found.top_p, found.top_k) == (100, 1, 0.9, 40)
    assert found.stop == ("x", "y")
    assert asked().sampling().constraint is None


def test_a_schema_for_the_answer() -> None:
    wanted = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert asked(output_config=wanted).sampling().constraint == Constraint("json_schema", '{"type": "object"}')


@pytest.mark.parametrize(
    ("thinking", "tokens"),
    [
        (None, None),
        ({"type": "adaptive"}, None),
        ({"type": "disabled"}, 0),
        ({"type": "enabled", "budget_tokens": 60}, 60),
        ({"type": "enabled"}, None),
    ],
)
def test_a_budget_for_thoughts(thinking: Any, tokens: int | None) -> None:
    assert asked(thinking=thinking).sampling().thinking_tokens == tokens


@pytest.mark.parametrize(("kind", "tokens"), [("enabled", 100), ("adaptive", 100), ("disabled", 5)])
def test_budgets_of_no_use(kind: str, tokens: int) -> None:
    with pytest.raises(RequestInvalid, match=f"budget_tokens is {tokens}, and") as caught:
        asked(thinking={"type": kind, "budget_tokens": tokens}).sampling()
    assert caught.value.param == "thinking.budget_tokens"


@pytest.mark.parametrize(
    ("choice", "tool_choice", "allowed"),
    [
        ({"type": "auto"}, "auto", ()),
        ({"type": "any"}, "required", ()),
        ({"type": "none"}, "none", ()),
        ({"type": "tool", "name": "f"}, "required", ("f",)),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_choices_of_tools(choice: dict[str, Any], tool_choice: str, allowed: tuple[str, ...], alone: bool) -> None:
    found = ToolChoice.model_validate(choice | {"disable_parallel_tool_use": alone}).of_conversation()
    assert found == {"tool_choice": tool_choice, "allowed_tools": allowed, "parallel_tool_calls": not alone}


@pytest.mark.parametrize("choice", [{"type": "tool"}, {"type": "any", "name": "f"}])
def test_a_name_goes_with_a_tool(choice: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalid, match=r"tool_choice\.name"):
        ToolChoice.model_validate(choice).of_conversation()
