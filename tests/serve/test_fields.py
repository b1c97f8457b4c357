"""Whatever stands where in a request: what is not known is named, with its place, in every object of every API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeship.errors import RequestInvalid
from edgeship.serve import app as _app  # noqa: F401 - all requests are known
from edgeship.serve.anthropic import request as anthropic
from edgeship.serve.fields import Fields, refusal
from edgeship.serve.ollama import models as ollama_models
from edgeship.serve.ollama import request as ollama
from edgeship.serve.openai import chat, completions, response_request, tokens
from tests.serve.openai.test_requests import ANYTHING

Place = tuple[str | int, ...]

CACHED = {"type": "ephemeral", "ttl": "5m"}
CALL = {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
TOOL = {"type": "function", "function": FUNCTION, "cache_control": CACHED}
NAMED = {"type": "function", "function": {"name": "f"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}
MESSAGES = [
    {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": CACHED, "logprobs": []}]},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": [CALL]},
]
SETTINGS = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": False},
    "structured_outputs": {"regex": "a"},
    "stop": ["x"],
}
BLOCKS = [{"type": "text", "text": "a", "cache_control": CACHED}]
ANSWERED = [
    *BLOCKS,
    {"type": "thinking", "thinking": "hm", "signature": "", "cache_control": CACHED},
    {"type": "tool_use", "id": "c", "name": "f", "input": {}, "caller": {"type": "direct"}},
]
RESULTS = [{"type": "tool_result", "tool_use_id": "c", "content": BLOCKS, "is_error": False}]
ASKED: dict[str, Any] = {
    "model": "m",
    "system": BLOCKS,
    "messages": [{"role": "assistant", "content": ANSWERED}, {"role": "user", "content": [*BLOCKS, *RESULTS]}],
    "tools": [{"type": "custom", "name": "f", "input_schema": {}, "cache_control": CACHED}],
    "tool_choice": {"type": "tool", "name": "f"},
    "thinking": {"type": "enabled", "budget_tokens": 5},
    "output_config": {"format": {"type": "json_schema", "schema": {}}, "effort": "low"},
    "cache_control": CACHED,
}
OLLAMA: dict[str, Any] = {"model": "m", "options": {"num_predict": 5, "stop": "x"}, "format": {}}
CALLED = {"function": {"name": "f", "arguments": {}, "index": 0}, "id": "c", "type": "function", "index": 0}
ITEMS = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}], "status": "completed"},
    {"role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}]},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "content": []},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "a"}]},
]
RESPONSE: dict[str, Any] = {
    "model": "m",
    "input": ITEMS,
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "medium"},
    "tools": [{"type": "function"} | FUNCTION],
    "reasoning": {"effort": "low", "summary": "auto"},
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "metadata": {"a": "b"},
}
WHOLE: list[tuple[type[Fields], dict[str, Any]]] = [
    (chat.ChatRequest, SETTINGS | {"messages": MESSAGES, "tools": [TOOL], "tool_choice": NAMED}),
    (chat.ChatRequest, SETTINGS | {"messages": MESSAGES, "tools": [TOOL], "tool_choice": ALLOWED}),
    (completions.CompletionRequest, SETTINGS | {"prompt": ["a", "b"]}),
    (tokens.TokenizeRequest, {"model": "m", "messages": MESSAGES, "tools": [TOOL]}),
    (tokens.DetokenizeRequest, {"model": "m", "tokens": [1]}),
    (response_request.ResponseRequest, RESPONSE | {"tool_choice": {"type": "function", "name": "f"}}),
    (
        response_request.ResponseRequest,
        RESPONSE | {"tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}]}},
    ),
    (anthropic.Asked, ASKED),
    (anthropic.MessagesRequest, ASKED | {"max_tokens": 9, "metadata": {"user_id": "u"}}),
    (
        ollama.ChatRequest,
        OLLAMA | {"messages": [{"role": "assistant", "content": "a", "tool_calls": [CALLED]}], "tools": [TOOL]},
    ),
    (ollama.GenerateRequest, OLLAMA | {"prompt": "a"}),
    (ollama_models.ShowRequest, {"model": "m", "verbose": True}),
]
requests = pytest.mark.parametrize(("kind", "body"), WHOLE, ids=[kind.__name__ for kind, _ in WHOLE])


def refused(kind: type[Fields], body: dict[str, Any]) -> RequestInvalid | None:
    """What a client would be told; None where the request is taken."""
    try:
        kind.model_validate(body)
    except ValidationError as error:
        return refusal([fault | {"loc": ("body", *fault["loc"])} for fault in error.errors()], body)
    return None


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """All within a value, and the value itself."""
    yield here
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(inner, (*here, name))


def is_open(kind: type[Fields], place: Place) -> bool:
    """Whether whatever a client writes there is meant."""
    if place == ("metadata",):
        return kind is not anthropic.MessagesRequest
    names = ("parameters", "schema", "input_schema", "input", "arguments")
    return place == ("format",) or (bool(place) and place[-1] in names)


def at(value: Any, place: Place) -> Any:
    for part in place:
        value = value[part]
    return value


def named(place: Place) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def read_by(found: Any) -> Iterator[type[Fields]]:
    """The kinds of objects in a request that was taken."""
    if isinstance(found, Fields):
        yield type(found)
        found = [getattr(found, name) for name in type(found).model_fields]
    for inner in found if isinstance(found, list) else ():
        yield from read_by(inner)


def kinds(kind: type[Fields]) -> Iterator[type[Fields]]:
    for each in kind.__subclasses__():
        yield each
        yield from kinds(each)


def test_all_that_requests_are_made_of_is_tested_here() -> None:
    found = {kind for request, body in WHOLE for kind in read_by(request.model_validate(body))}
    general = {kind for kind in kinds(Fields) if kind.__subclasses__() and kind not in found}
    ours = {kind for kind in kinds(Fields) if kind.__module__.startswith("edgeship.")}
    assert ours - general - found == set()


@requests
def test_what_no_object_knows_is_named_with_its_place(kind: type[Fields], body: dict[str, Any]) -> None:
    assert refused(kind, body) is None
    tried = 0
    for place in places(body):
        if not isinstance(at(body, place), dict) or is_open(kind, place):
            continue
        changed = json.loads(json.dumps(body))  # nothing in it is shared
        at(changed, place)["surely_unknown"] = 1
        error = refused(kind, changed)
        assert error, place
        assert error.param == named((*place, "surely_unknown"))
        assert error.what == f"{error.param} is not supported here"
        tried += 1
    assert tried


@requests
@given(data=st.data())
@examples(max_examples=60)
def test_what_is_wrong_is_named_by_its_place_whatever_it_is(
    kind: type[Fields], body: dict[str, Any], data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from([place for place in places(body) if place]))
    changed = json.loads(json.dumps(body))  # nothing in it is shared
    at(changed, place[:-1])[place[-1]] = data.draw(ANYTHING)
    error = refused(kind, changed)
    if error:
        assert error.param
        assert error.param.startswith(str(place[0]))


WRONG: list[Any] = [7, -1, 0.5, 10**30, float("inf"), "x", "", "x" * 2000, True, [], [7], {}, {"a": 1}, [[]] * 9000]
PYDANTICS = re.compile(r"\bshould\b|[Uu]nable|\bvalid |pydantic|type=|[Ff]ield required|discriminator|literal")


@requests
def test_faults_are_told_in_our_own_words(kind: type[Fields], body: dict[str, Any]) -> None:
    for place in filter(None, places(body)):
        changed = json.loads(json.dumps(body))  # nothing in it is shared
        for wrong in WRONG:
            at(changed, place[:-1])[place[-1]] = wrong
            if error := refused(kind, changed):
                assert not PYDANTICS.search(error.what), error.what
        if isinstance(place[-1], str):
            del at(changed, place[:-1])[place[-1]]
            if error := refused(kind, changed):
                assert not PYDANTICS.search(error.what), error.what


ONLY: list[tuple[type[Fields], dict[str, Any]]] = [
    (chat.ChatRequest, {"model": "m", "messages": []}),
    (completions.CompletionRequest, {"model": "m", "prompt": "a"}),
    (anthropic.MessagesRequest, {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}),
    (ollama.ChatRequest, {"model": "m"}),
    (ollama.Options, {}),
]


@pytest.mark.parametrize(("kind", "body"), ONLY, ids=[kind.__name__ for kind, _ in ONLY])
def test_what_is_not_supported_is_taken_with_the_value_that_asks_for_nothing(
    kind: type[Fields], body: dict[str, Any]
) -> None:
    assert kind.only
    plain = kind.model_validate(body)
    assert kind.model_validate(body | kind.only) == plain
    assert kind.model_validate(body | dict.fromkeys(kind.only)) == plain
    for name, value in kind.only.items():
        twins: list[Any] = [int(value)] if isinstance(value, bool) else [bool(value)] if value in (0, 1) else []
        for other in [7, "x", [1], {}, *twins]:
            error = refused(kind, body | {name: other})
            assert error
            assert error.param == name
            assert error.what.endswith(f"and can only be {json.dumps(value)} here"), error.what
        assert {"const": value} in kind.model_json_schema()["properties"][name]["anyOf"]


def test_the_settings_that_vllm_s_clients_send_as_they_are_by_default_are_taken() -> None:
    sent = {
        "skip_special_tokens": True,
        "min_tokens": 0,
        "stop_token_ids": [],
        "best_of": 1,
        "include_stop_str_in_output": False,
        "spaces_between_special_tokens": True,
        "truncate_prompt_tokens": None,
        "length_penalty": 1.0,
        "use_beam_search": False,
        "store": False,
        "n": 1,
    }
    for kind, body in (ONLY[0], ONLY[1]):
        assert refused(kind, body | sent) is None
    assert refused(chat.ChatRequest, ONLY[0][1] | {"add_generation_prompt": True}) is None


def test_every_list_is_read_up_to_its_first_fault() -> None:
    """A body has room for a million wrong values, and to tell them all would hold up the server for seconds."""
    assert [*_lists(chat.ChatRequest.__pydantic_core_schema__)]
    for kind in kinds(Fields):
        for found in _lists(kind.__pydantic_core_schema__):
            assert found.get("fail_fast"), (kind, found)


def _lists(schema: Any) -> Iterator[dict[str, Any]]:
    """Those that a model reads, with what they hold."""
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            yield schema
        for name, part in schema.items():
            if name not in ("metadata", "serialization", "json_schema_input_schema"):
                yield from _lists(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _lists(part)
