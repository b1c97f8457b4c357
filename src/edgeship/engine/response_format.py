"""OpenAI's `response_format` as a constraint, in every form that clients send. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from edgeship.engine.api import Constraint
from edgeship.errors import ConstraintInvalid
from edgeship.system import json_file

_HINT = 'Send {"type": "json_schema", "json_schema": {"name": NAME, "schema": SCHEMA}}.'
_WRAPPER = {"name", "description", "schema", "strict"}
_KEYWORDS = {"type", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs"}
"""One of them at least is in any schema that says something."""
_TEXTS: dict[str, Literal["lark", "regex"]] = {"lark_grammar": "lark", "regex": "regex"}


def is_wrapper(value: Any) -> bool:
    """Whether this is a response_format that holds a schema, and no schema itself."""
    return isinstance(value, Mapping) and value.get("type") == "json_schema"


def schema_constraint(text: str) -> Constraint | None:
    """A JSON schema as a constraint, also in the wrapper in which OpenAI's clients send it; None for plain text."""
    try:
        value = json_file.parse(text)
    except ValueError:
        return Constraint("json_schema", text)  # the engine says what is wrong with it
    return constraint(value) if is_wrapper(value) else Constraint("json_schema", text)


def read_schema(constraint: Constraint) -> Any:
    """The schema of a constraint. Raises ConstraintInvalid where its text is no JSON."""
    try:
        return json_file.parse(constraint.text)
    except ValueError as error:
        raise ConstraintInvalid(
            f"the json schema cannot be used: it is no JSON: {error}", hint="Mend it, or ask without a constraint."
        ) from error


def constraint(response_format: Mapping[str, Any]) -> Constraint | None:
    """What an answer is held to; None for plain text.

    json_schema: in OpenAI's wrapper, or the schema alone or as text, as Foundry Local's clients send it.
    lark_grammar, regex: a text under the same key. Raises ConstraintInvalid.
    """
    kind = response_format.get("type")
    if kind is None:
        raise ConstraintInvalid("response_format has no type", hint=_HINT)
    strangers = [name for name, value in response_format.items() if name not in ("type", kind) and value is not None]
    if strangers:
        raise ConstraintInvalid(f"response_format has {strangers[0]!r} beside the type {kind!r}", hint=_HINT)
    if kind == "text":
        return None
    if kind == "json_object":
        return Constraint("json_object")
    if kind == "json_schema":
        return Constraint("json_schema", _schema(response_format.get("json_schema")))
    if isinstance(kind, str) and kind in _TEXTS:
        text = response_format.get(kind)
        if not isinstance(text, str) or not text.strip():
            raise ConstraintInvalid(f"response_format has the type {kind!r} and no text under {kind!r}", hint=_HINT)
        return Constraint(_TEXTS[kind], text)
    raise ConstraintInvalid(f"response_format has the type {kind!r}, which is not known", hint=_HINT)


def _schema(given: Any) -> str:
    if isinstance(given, str) and given.strip():
        return given
    if isinstance(given, Mapping) and given:
        return json.dumps(_unwrapped(given) if _is_wrapped(given) else given, ensure_ascii=False)
    raise ConstraintInvalid("response_format has the type 'json_schema' and no schema", hint=_HINT)


def _is_wrapped(given: Mapping[str, Any]) -> bool:
    """Whether it has a schema in it. In a schema alone, "schema" and "name" are no keywords, and hold to nothing."""
    if isinstance(given.get("schema"), Mapping | bool) and ("name" in given or _WRAPPER.issuperset(given)):
        return True
    return isinstance(given.get("name"), str) and _KEYWORDS.isdisjoint(given)


def _unwrapped(given: Mapping[str, Any]) -> Any:
    strangers = [name for name, value in given.items() if name not in _WRAPPER and value is not None]
    if strangers:
        raise ConstraintInvalid(f"response_format.json_schema has {strangers[0]!r}, which is not known", hint=_HINT)
    if given.get("schema") is None:
        raise ConstraintInvalid("response_format.json_schema has no schema", hint=_HINT)
    return given["schema"]
