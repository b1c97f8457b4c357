"""OpenAI's response_format as a constraint."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeship.engine.api import Constraint
from edgeship.engine.response_format import constraint, is_wrapper
from edgeship.errors import ConstraintInvalid

SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
TEXT = json.dumps(SCHEMA)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Constraint("json_object")),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}, Constraint("json_schema", TEXT)),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
            Constraint("json_schema", TEXT),
        ),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": True}}, Constraint("json_schema", "true")),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}, Constraint("json_schema", TEXT)),
        ({"type": "json_object", "json_schema": None}, Constraint("json_object")),
        ({"type": "json_schema", "json_schema": SCHEMA}, Constraint("json_schema", TEXT)),
        ({"type": "json_schema", "json_schema": TEXT}, Constraint("json_schema", TEXT)),
        ({"type": "lark_grammar", "lark_grammar": "start: A"}, Constraint("lark", "start: A")),
        ({"type": "regex", "regex": "a+"}, Constraint("regex", "a+")),
    ],
)
def test_forms(given: dict[str, Any], expected: Constraint | None) -> None:
    assert constraint(given) == expected


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "no type"),
        ({"type": None}, "no type"),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strickt": True}}, "'strickt'"),
        ({"type": "json_schema", "json_schema": {"name": "a", "shema": SCHEMA}}, "'shema'"),
        ({"type": "json_schema", "json_schema": {"name": "a"}}, "no schema"),
        ({"type": "xml"}, "'xml', which is not known"),
        ({"type": "json_object", "schema": SCHEMA}, "'schema' beside the type 'json_object'"),
        ({"type": "text", "json_schema": {"schema": SCHEMA}}, "'json_schema' beside the type 'text'"),
        ({"json_schema": {"schema": SCHEMA}}, "response_format has no type"),
        ({"type": 3}, "3, which is not known"),
        ({"type": []}, r"\[\], which is not known"),
        ({"type": {"a": 1}}, "which is not known"),
        ({"type": "json_schema"}, "no schema"),
        ({"type": "json_schema", "json_schema": {}}, "no schema"),
        ({"type": "json_schema", "json_schema": " "}, "no schema"),
        ({"type": "lark_grammar"}, "no text under 'lark_grammar'"),
        ({"type": "regex", "regex": ["a"]}, "no text under 'regex'"),
    ],
)
def test_forms_that_mean_nothing(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ConstraintInvalid, match=named) as caught:
        constraint(given)
    assert caught.value.http_status == 400


def test_a_schema_is_no_wrapper() -> None:
    assert is_wrapper({"type": "json_schema", "json_schema": {}})
    assert not is_wrapper(SCHEMA)
    assert not is_wrapper(True)
