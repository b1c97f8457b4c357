"""What requests of the Responses API come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship.engine.api import Constraint, Sampling
from edgeship.engine.text import TextCodec
from edgeship.serve.openai.response_items import read_items
from edgeship.serve.openai.response_request import ResponseRequest
from tests import checkpoints
from tests.scripted import DEFAULTS
from tests.serve import serving


def read(**body: Any) -> ResponseRequest:
    return ResponseRequest.model_validate({"model": "m", "input": "hello"} | body)


def test_how_an_answer_is_made() -> None:
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
    asked = read(temperature=0.5, top_p=0.9, max_output_tokens=7, text={"format": form})
    constraint = Constraint("json_schema", '{"type": "object"}')
    assert asked.sampling() == Sampling(temperature=0.5, top_p=0.9, max_tokens=7, constraint=constraint)
    assert read().sampling() == Sampling()


def test_log_probabilities_are_asked_for_by_include() -> None:
    include = ["message.output_text.logprobs"]
    assert read(include=include).sampling().logprobs == 0
    assert read(include=include, top_logprobs=3).sampling().logprobs == 3
    assert read(top_logprobs=0).sampling().logprobs is None


def test_what_is_answered(tmp_path: Path) -> None:
    checkpoints.make_tokenizer(tmp_path, "{{ messages }}{{ reasoning_effort }}")
    opened = serving.opened(TextCodec(tmp_path))
    asked = read(
        instructions="Be kind.",
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        reasoning={"effort": "low"},
    )
    found = asked.conversation(read_items(asked.input), opened)
    assert [message["role"] for message in found.messages] == ["system", "user"]
    function = {"name": "f", "parameters": {"type": "object"}, "strict": True}
    assert found.tools == [{"type": "function", "function": function}]
    assert (found.tool_choice, found.allowed_tools, found.parallel_tool_calls) == ("required", ["f"], False)
    assert found.variables == {"reasoning_effort": "low"}


def test_a_response_tells_the_settings_that_were_used() -> None:
    told = read(top_p=0.5).told(Sampling(temperature=0.7, presence_penalty=0.1).over(DEFAULTS))
    assert (told["temperature"], told["top_p"], told["presence_penalty"]) == (0.7, 0.5, 0.1)
    assert told["text"]["format"] == {"type": "text"}
    assert told["reasoning"] == {"effort": None, "summary": None}
    unknown = read().told(Sampling())  # a server's own settings are not known
    assert (unknown["temperature"], unknown["top_p"]) == (1.0, 1.0)
