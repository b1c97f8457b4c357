"""What Ollama's clients ask, as conversations and settings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edgeship.engine.api import Constraint
from edgeship.errors import RequestInvalid
from edgeship.serve.models import Opened
from edgeship.serve.ollama.request import ChatRequest, GenerateRequest, seconds
from tests.serve import serving


@pytest.fixture(scope="module")
def opened() -> Opened:
    return serving.opened(context_tokens=1000)


def chat(**body: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "a"}]} | body)


def generate(**body: Any) -> GenerateRequest:
    return GenerateRequest.model_validate({"model": "m", "prompt": "a"} | body)


def test_options_are_settings() -> None:
    options = {
        "num_predict": 5,
        "temperature": 1,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.05,
        "seed": 7,
        "stop": ["x"],
        "repeat_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.25,
    }
    found = chat(options=options).sampling()
    assert (found.max_tokens, found.temperature, found.top_k, found.top_p, found.min_p) == (5, 1, 40, 0.9, 0.05)
    assert (found.seed, found.stop, found.repetition_penalty) == (7, ("x",), 1.1)
    assert (found.presence_penalty, found.frequency_penalty) == (0.5, 0.25)


@pytest.mark.parametrize("none", [{}, {"num_predict": -1}, {"num_predict": -2, "seed": -1}, {"num_predict": 0}])
def test_what_means_nothing_is_not_set(none: dict[str, int]) -> None:
    found = chat(options=none).sampling()
    assert (found.max_tokens, found.seed) == (None, None)
    assert chat(options={"top_k": -1}).sampling().top_k == 0


def test_a_model_that_is_not_to_think_has_no_tokens_for_it() -> None:
    assert [chat(think=think).sampling().thinking_tokens for think in (None, True, "low", False)] == [None] * 3 + [0]


def test_num_predict_beside_the_options() -> None:
    assert chat(num_predict=9).sampling().max_tokens == 9
    assert chat(num_predict=9, options={"num_predict": 3}).sampling().max_tokens == 3


@pytest.mark.parametrize(
    "without_effect",
    [
        {"num_gpu": 99, "num_thread": 4, "use_mmap": True, "numa": False, "num_batch": 512, "num_keep": 5},
        {"mirostat": 0, "mirostat_tau": 5.0, "tfs_z": 1.0, "typical_p": 1, "repeat_last_n": -1},
    ],
)
def test_options_that_change_no_answer(without_effect: dict[str, Any]) -> None:
    assert chat(options=without_effect).sampling() == chat().sampling()


@pytest.mark.parametrize(
    "options",
    [
        {"mirostat": 1},
        {"typical_p": 0.7},
        {"repeat_last_n": 64},
        {"penalize_newline": False},
        {"vocab_only": True},
        {"dry_multiplier": 1},
        {"repeat_penalty": 0},
        {"num_predict": -3},
    ],
)
def test_options_that_would(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        chat(options=options)


def test_formats() -> None:
    assert chat(format="").sampling().constraint is None
    assert chat(format="json").sampling().constraint == Constraint("json_object")
    assert chat(format={"type": "object"}).sampling().constraint == Constraint("json_schema", '{"type": "object"}')
    with pytest.raises(ValidationError):
        chat(format="yaml")


def test_messages(opened: Opened) -> None:
    call = {"id": "c", "index": 0, "function": {"name": "f", "arguments": {"a": 1}}}
    messages = [
        {"role": "user", "content": "a", "images": []},
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_name": "f", "tool_call_id": "c"},
    ]
    found = list(chat(messages=messages, system="Be kind.").conversation(opened).messages)
    assert found[:2] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a"}]
    function = {"name": "f", "arguments": '{"a": 1}'}
    assert found[2] == {
        "role": "assistant",
        "content": "",
        "reasoning_content": "Hm.",
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
    }
    assert found[3] == {"role": "tool", "content": "1", "name": "f", "tool_call_id": "c"}


def test_a_prompt_is_a_question(opened: Opened) -> None:
    assert list(generate(system="Be kind.").conversation(opened).messages) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
    ]


def test_fields_with_nothing_in_them_are_not_given(opened: Opened) -> None:
    request = generate(suffix="", template="", context=[], images=[], system="", format="", options={})
    assert len(request.conversation(opened).messages) == 1
    assert chat(template="", format=None, tools=None, options=None, keep_alive=None).keep_alive_s is None


@pytest.mark.parametrize(
    "body", [{"suffix": "b"}, {"template": "{{ .Prompt }}"}, {"context": [1]}, {"images": ["aGk="]}, {"width": 1}]
)
def test_fields_that_are_not_read(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(body))):
        generate(**body)


def test_a_raw_prompt_takes_nothing_from_a_template() -> None:
    generate(raw=True, think=False).require_raw()
    for more in ({"system": "Be kind."}, {"think": True}):
        with pytest.raises(RequestInvalid, match=f"^{next(iter(more))}: "):
            generate(raw=True, **more).require_raw()


@pytest.mark.parametrize(("given", "expected"), [(0, 0.0), (-1, -1.0), (1.5, 1.5), ("1h30m", 5400.0)])
def test_durations(given: float | str, expected: float) -> None:
    assert seconds(given, "keep_alive") == expected


def test_what_is_no_duration() -> None:
    with pytest.raises(RequestInvalid, match=r"keep_alive is .* no duration"):
        seconds("5 minutes", "keep_alive")
