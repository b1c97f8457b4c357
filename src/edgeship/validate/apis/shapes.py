"""The parts that the APIs' schemas are made of: strict on types and on what clients read, tolerant of anything more."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}


def only(*values: Any) -> Schema:
    """One of these values."""
    return {"enum": list(values)}


def maybe(schema: Schema) -> Schema:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def either(*schemas: Schema) -> Schema:
    """What fits one of them."""
    return {"anyOf": list(schemas)}


def listed(schema: Schema, least: int = 0) -> Schema:
    """A list of such things."""
    return {"type": "array", "items": schema, "minItems": least}


def thing(needs: dict[str, Schema], may: dict[str, Schema] | None = None) -> Schema:
    """An object that has some fields, and may have others."""
    return {"type": "object", "properties": {**needs, **(may or {})}, "required": list(needs)}


def by_type(kinds: dict[str, Schema], others: bool = False) -> Schema:
    """An object whose field "type" tells which fields it has. others: whether types may come that are not listed."""
    known = thing({"type": NAME} if others else {"type": only(*kinds)})
    rules = [
        {"if": {"properties": {"type": only(kind)}, "required": ["type"]}, "then": schema}
        for kind, schema in kinds.items()
    ]
    return {**known, "allOf": rules}
