"""Whether JSON is what a JSON schema says, by jsonschema-rs: the whole of JSON Schema, and no schema from elsewhere.

What holds answers to a schema while they are made (`engine/grammar.py`) knows a part of it and wants one order of
properties, so it cannot judge answers that were made without it. Patterns are searched for without going back.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, NoReturn

from edgeship.errors import DependencyMissing
from edgeship.system.fields import shown

if TYPE_CHECKING:
    import jsonschema_rs

_SHOWN = 300
_WORDS = {
    *("$ref", "$dynamicRef", "$recursiveRef", "$defs", "definitions", "type", "enum", "const", "allOf", "anyOf"),
    *("oneOf", "not", "if", "then", "else", "properties", "patternProperties", "additionalProperties"),
    *("propertyNames", "required", "dependentRequired", "dependentSchemas", "dependencies", "minProperties"),
    *("maxProperties", "items", "prefixItems", "unevaluatedProperties", "unevaluatedItems", "additionalItems"),
    *("contains", "minContains", "maxContains", "minItems", "maxItems", "uniqueItems", "minLength", "maxLength"),
    *("pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "$schema"),
    *("$id", "$comment", "title", "description", "default", "examples"),
}
"""One of them at least is in any schema; in an example of what is wanted there is none."""


def require_schema(schema: Any) -> None:
    """Raises ValueError that says what is wrong with a schema, or that it has no word of JSON Schema's."""
    _validator(json.dumps(schema))
    if isinstance(schema, dict) and schema and _WORDS.isdisjoint(schema):
        raise ValueError(f"{shown(next(iter(schema)))} is no word of JSON Schema's, so that it would allow anything")


def fault(schema: Any, value: Any) -> str | None:
    """What of a value a schema does not allow, with its place; None where it allows all. Raises as `require_schema`."""
    import jsonschema_rs

    try:
        found = next(iter(_validator(json.dumps(schema)).iter_errors(value)), None)
    except (jsonschema_rs.ValidationError, ValueError, OverflowError, RecursionError) as error:
        return f"it cannot be held against the schema: {_first_line(error)}"
    if found is None:
        return None
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in found.instance_path)
    return f"${place}: {found.message[:_SHOWN]}"


@functools.lru_cache(maxsize=64)
def _validator(text: str) -> jsonschema_rs.Validator:
    try:
        import jsonschema_rs
    except ImportError as error:
        raise DependencyMissing(
            f"jsonschema-rs cannot be imported: {error}", hint="pip install --force-reinstall jsonschema-rs"
        ) from error
    try:
        return jsonschema_rs.validator_for(
            json.loads(text), pattern_options=jsonschema_rs.RegexOptions(), retriever=_refuse
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise ValueError(_first_line(error)) from error


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"schemas from elsewhere are not read: {uri}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:_SHOWN]
