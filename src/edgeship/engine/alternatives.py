"""A JSON schema taken apart into alternatives, each of which has one type and says all about it itself."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edgeship.engine import json_schema
from edgeship.system.fields import shown


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


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
# What the value of a keyword has to be; the keywords here are all that is read of a schema.
_SHAPES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("properties", "patternProperties"), lambda value: isinstance(value, Mapping)),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "enum", "prefixItems"), lambda value: isinstance(value, list)),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _is_count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _is_number),
    **dict.fromkeys(("pattern", "format", "$ref"), lambda value: isinstance(value, str)),
    "required": _is_texts,
    "type": lambda value: isinstance(value, str) or _is_texts(value),
}
_LARGER = ("minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum")
_SMALLER = ("maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum")
# Schemas by strangers refer to themselves, and alternatives of alternatives multiply: each pair of them is work, too.
_MOST, _MOST_WORK = 1000, 100_000

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
        self._works(1)
        if schema is True:
            schema = {}
        if schema is False:
            return []
        if not isinstance(schema, Mapping):
            raise ValueError(f"{json.dumps(schema)} is no schema")
        found = self._own(schema)
        reference = _said(schema, "$ref")
        if reference in through:
            return []  # by itself alone it says of no value that it fits
        if reference is not None:
            found = self._both(found, self.of(self._at(reference), (*through, reference)))
        for part in _said(schema, "allOf", ()):
            found = self._both(found, self.of(part, through))
        for word in ("anyOf", "oneOf"):
            if word in schema:
                branches = [self.of(each, through) for each in _said(schema, word)]
                found = self._both(found, [*itertools.chain(*branches)])
                if word == "oneOf" and any(self._overlap(*pair) for pair in itertools.combinations(branches, 2)):
                    self.left_out.add(word)
        return found

    def kinds(self, argument: str) -> frozenset[str]:
        """The types that one property of an object may have."""
        schemas = (property_of(each, argument) for each in self.of(self._root) if each["type"] == "object")
        return frozenset(each["type"] for schema in schemas for each in self.of(schema))

    def _own(self, schema: Mapping[str, Any]) -> list[Schema]:
        """The alternatives that a schema has by itself, whatever it refers to."""
        types = _said(schema, "type", _ANY)
        kinds = [types] if isinstance(types, str) else list(types)
        if stranger := next((kind for kind in kinds if kind not in _KEYWORDS), None):
            raise ValueError(f"there is no type {stranger!r}")
        if "const" not in schema and "enum" not in schema:
            return [
                {"type": kind, **{word: _said(schema, word) for word in _KEYWORDS[kind] if word in schema}}
                for kind in kinds
            ]
        values = [schema["const"]] if "const" in schema else _said(schema, "enum")
        found = [{"type": kind, "const": value} for value in values if (kind := _kind_of(value, kinds))]
        self.left_out |= {word for each in found for word in _KEYWORDS[each["type"]] if word in schema}
        return found

    def _at(self, reference: str) -> Any:
        root = self._root
        found = root if reference == "#" else json_schema.at(root, reference) if reference.startswith("#/") else None
        if found is None:
            raise ValueError(f"{reference!r} refers to nothing in it")
        return found

    def _both(self, ones: list[Schema], others: list[Schema]) -> list[Schema]:
        """What is both one of these and one of those."""
        if len(ones) * len(others) > _MOST:
            raise _too_many()
        self._works(len(ones) * len(others))
        return [both for pair in itertools.product(ones, others) if (both := self._merged(*pair)) is not None]

    def _overlap(self, ones: list[Schema], others: list[Schema]) -> bool:
        """Whether a value may fit both of two branches, as far as can be told at a glance."""
        self._works(len(ones) * len(others))
        return any(self._may_both(one, other) for one, other in itertools.product(ones, others))

    def _may_both(self, one: Schema, other: Schema) -> bool:
        if _common(one["type"], other["type"]) is None:
            return False
        if "const" in one and "const" in other:
            return _same(one["const"], other["const"])
        told = set(one.get("required", ())) & set(other.get("required", ()))
        return not any(self._differ(property_of(one, name), property_of(other, name)) for name in told)

    def _differ(self, one: Any, other: Any) -> bool:
        """Whether two schemas name different values."""
        values = [set(map(_written, _named(schema))) for schema in (one, other)]
        self._works(sum(map(len, values)))
        return all(values) and values[0].isdisjoint(values[1])

    def _works(self, steps: int) -> None:
        self._work += steps
        if self._work > _MOST_WORK:
            raise _too_many()

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
            self._works(len(names))
            found["properties"] = {name: _all_of(property_of(one, name), property_of(other, name)) for name in names}
        return found


def property_of(schema: Mapping[str, Any], name: str) -> Any:
    """The schema of a property of an object."""
    properties = schema.get("properties", {})
    return properties[name] if name in properties else schema.get("additionalProperties", True)


def _said(schema: Mapping[str, Any], word: str, otherwise: Any = None) -> Any:
    """The value of a keyword. Raises ValueError for one that the keyword cannot have."""
    if word not in schema:
        return otherwise
    if word in _SHAPES and not _SHAPES[word](schema[word]):
        raise ValueError(f"its {word} is {shown(schema[word])}, which cannot be")
    return schema[word]


def _too_many() -> ValueError:
    return ValueError("it has too many alternatives")


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
    return _written(one) == _written(other)


def _written(value: Any) -> str:
    """The same for values that are the same."""
    return json.dumps(value, sort_keys=True)


def _named(schema: Any) -> list[Any]:
    if not isinstance(schema, Mapping):
        return []
    return [schema["const"]] if "const" in schema else _said(schema, "enum", [])
