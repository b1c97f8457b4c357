"""A JSON schema taken apart into alternatives, each of which has one type and says all about it itself."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from edgeship.engine import json_schema

# What each type has that restricts it.
_KEYWORDS = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "boolean": (),
    "null": (),
    "array": ("items", "prefixItems", "additionalItems", "minItems", "maxItems"),
    "object": ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
}
_KEYWORDS["integer"] = _KEYWORDS["number"]
_ANY = ("string", "number", "boolean", "null", "array", "object")
_LARGER = ("minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum")
_SMALLER = ("maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum")
# Schemas by strangers refer to themselves, and alternatives of alternatives multiply.
_MOST, _MOST_WORK = 1000, 20_000

Schema = dict[str, Any]


class Alternatives:
    """Takes parts of one schema apart. left_out: keywords that the alternatives do not keep."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._work = 0
        self.left_out: set[str] = set()

    def of(self, schema: Any, through: tuple[str, ...] = ()) -> list[Schema]:
        """All alternatives: each has a "type", and either keywords of it, or a "const".

        through: references that led here. Raises ValueError for what is no schema, or too much of one.
        """
        self._work += 1
        if self._work > _MOST_WORK:
            raise ValueError("it has too many alternatives")
        if schema is True:
            schema = {}
        if schema is False:
            return []
        if not isinstance(schema, Mapping):
            raise ValueError(f"{json.dumps(schema)} is no schema")
        found = self._own(schema)
        reference = schema.get("$ref")
        if reference in through:
            return []  # by itself alone it says of no value that it fits
        if reference is not None:
            found = self._both(found, self.of(self._at(reference), (*through, reference)))
        for part in schema.get("allOf", ()):
            found = self._both(found, self.of(part, through))
        for word in ("anyOf", "oneOf"):
            if word in schema:
                branches = [self.of(each, through) for each in schema[word]]
                if word == "oneOf" and any(_overlap(*pair) for pair in itertools.combinations(branches, 2)):
                    self.left_out.add(word)
                found = self._both(found, [*itertools.chain(*branches)])
        return found

    def kinds(self, argument: str) -> frozenset[str]:
        """The types that one property of an object may have."""
        schemas = (property_of(each, argument) for each in self.of(self._root) if each["type"] == "object")
        return frozenset(each["type"] for schema in schemas for each in self.of(schema))

    def _own(self, schema: Mapping[str, Any]) -> list[Schema]:
        """The alternatives that a schema has by itself, whatever it refers to."""
        types = schema.get("type", _ANY)
        kinds = [types] if isinstance(types, str) else list(types)
        if stranger := next((kind for kind in kinds if kind not in _KEYWORDS), None):
            raise ValueError(f"there is no type {stranger!r}")
        if "const" not in schema and "enum" not in schema:
            return [
                {"type": kind, **{word: schema[word] for word in _KEYWORDS[kind] if word in schema}} for kind in kinds
            ]
        values = [schema["const"]] if "const" in schema else schema["enum"]
        found = [{"type": kind, "const": value} for value in values if (kind := _kind_of(value, kinds))]
        self.left_out |= {word for each in found for word in _KEYWORDS[each["type"]] if word in schema}
        return found

    def _at(self, reference: Any) -> Any:
        place = str(reference)
        found = self._root if place == "#" else json_schema.at(self._root, place) if place.startswith("#/") else None
        if found is None:
            raise ValueError(f"{place!r} refers to nothing in it")
        return found

    def _both(self, ones: list[Schema], others: list[Schema]) -> list[Schema]:
        """What is both one of these and one of those."""
        if len(ones) * len(others) > _MOST:
            raise ValueError("it has too many alternatives")
        return [both for pair in itertools.product(ones, others) if (both := self._merged(*pair)) is not None]

    def _merged(self, one: Schema, other: Schema) -> Schema | None:
        kind = _common(one["type"], other["type"])
        if kind is None:
            return None
        if "const" in one and "const" in other:
            return one if _same(one["const"], other["const"]) else None
        if "const" in one or "const" in other:
            value, schema = (one, other) if "const" in one else (other, one)
            if kind == "integer" and not _is_integer(value["const"]):
                return None
            self.left_out |= schema.keys() - {"type"}
            return value
        found = {**one, "type": kind}
        for word, value in other.items():
            if word not in found or word == "type":
                found[word] = found.get(word, value)
            elif word in _LARGER or word in _SMALLER:
                found[word] = (max if word in _LARGER else min)(found[word], value)
            elif word == "required":
                found[word] = [*dict.fromkeys([*found[word], *value])]
            elif word in ("items", "additionalProperties"):
                found[word] = {"allOf": [found[word], value]}
            elif word != "properties" and not _same(found[word], value):
                self.left_out.add(word)
        if kind == "array" and ("prefixItems" in one) != ("prefixItems" in other):
            self.left_out.add("prefixItems")
        if kind == "object":
            names = dict.fromkeys([*one.get("properties", ()), *other.get("properties", ())])
            found["properties"] = {name: _all_of(property_of(one, name), property_of(other, name)) for name in names}
        return found


def property_of(schema: Mapping[str, Any], name: str) -> Any:
    """The schema of a property of an object."""
    properties = schema.get("properties", {})
    return properties[name] if name in properties else schema.get("additionalProperties", True)


def _kind_of(value: Any, kinds: Iterable[str]) -> str | None:
    """Which of these types a value has."""
    if isinstance(value, bool):
        own: tuple[str, ...] = ("boolean",)
    elif isinstance(value, int | float):
        own = ("integer", "number") if _is_integer(value) else ("number",)
    else:
        own = ({str: "string", type(None): "null", list: "array"}.get(type(value), "object"),)
    return next((kind for kind in own if kind in kinds), None)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) or float(value).is_integer()


def _common(one: str, other: str) -> str | None:
    if {one, other} == {"integer", "number"}:
        return "integer"
    return one if one == other else None


def _all_of(one: Any, other: Any) -> Any:
    if one is True or other is True or _same(one, other):
        return other if one is True else one
    return {"allOf": [one, other]}


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _overlap(ones: list[Schema], others: list[Schema]) -> bool:
    """Whether a value may fit both of two branches, as far as can be told at a glance."""
    return any(_may_both(one, other) for one, other in itertools.product(ones, others))


def _may_both(one: Schema, other: Schema) -> bool:
    if _common(one["type"], other["type"]) is None:
        return False
    if "const" in one and "const" in other:
        return _same(one["const"], other["const"])
    told = set(one.get("required", ())) & set(other.get("required", ()))
    return not any(_differ(property_of(one, name), property_of(other, name)) for name in told)


def _differ(one: Any, other: Any) -> bool:
    """Whether two schemas name different values."""
    values = [_named(one), _named(other)]
    return all(values) and not any(_same(*pair) for pair in itertools.product(*values))


def _named(schema: Any) -> list[Any]:
    if not isinstance(schema, Mapping):
        return []
    return [schema["const"]] if "const" in schema else schema.get("enum", [])
