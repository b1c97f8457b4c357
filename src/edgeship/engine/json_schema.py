"""A JSON schema as answers can be held to it: annotations left aside, and what cannot be kept named.

JSON Schema lets a validator ignore formats that it does not know, and words that are not its own. All else in a schema
is meant: what the library below could not keep, or would keep only nearly, is to be refused by name, or left out where
whoever asks allows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from edgeship.engine.api import Constraint
from edgeship.errors import ConstraintInvalid
from edgeship.system import json_file

# The formats that are enforced; any other says something to people only.
FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"))
# Some would go on for ever: with fractions of a second, or until an @ comes. None that is meant is longer than this.
_LONGEST = {"date-time": 35, "time": 24, "duration": 32, "email": 254, "uri": 1024}
# The library reads bounds as floating-point numbers, and writes no patterns for those with more than 18 digits.
_EXACT, _MOST = 1 << 53, 10**18
_INT64_MOST = (1 << 63) - 1
_MOST_MULTIPLE = (1 << 32) - 1
_MOST_NAMED = 5

_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_SINGLE = ("items", "additionalItems", "additionalProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
# What is not allowed in regular expressions here; escapes and sets of characters are passed over.
_LOOKING_AROUND = re.compile(r"(\\[1-9]|\\k<|\(\?<?[=!])|\\.|\[(?:\\.|[^\]\\])*+\]?", re.DOTALL)

# Keywords that mean something and are not enforced, and when they mean nothing all the same.
_NOT_ENFORCED: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "uniqueItems": lambda value, _: value is False,
    "not": lambda value, _: value is False,
    "contains": lambda _, schema: schema.get("minContains") == 0 and "maxContains" not in schema,
    "minContains": lambda *_: True,  # means nothing but beside contains, which is named then
    "maxContains": lambda *_: True,
    "if": lambda _, schema: not ("then" in schema or "else" in schema),
    "then": lambda *_: True,
    "else": lambda *_: True,
    **dict.fromkeys(
        ("propertyNames", "unevaluatedItems", "unevaluatedProperties", "dependentSchemas", "dependentRequired"),
        lambda value, _: value in (True, {}),
    ),
    **dict.fromkeys(("dependencies", "$dynamicRef", "$recursiveRef"), lambda value, _: value == {}),
}


def kept(constraint: Constraint) -> dict[str, Any]:
    """What is enforced of a constraint's schema. Raises ConstraintInvalid where something is not, unless lenient."""
    try:
        schema, left_out = read(constraint.text)
    except ValueError as error:
        raise ConstraintInvalid(
            f"the json schema cannot be used: it is no JSON schema: {error}",
            hint="Mend it, or ask without a constraint.",
        ) from error
    if left_out and not constraint.lenient:
        raise ConstraintInvalid(
            f"the json schema cannot be kept: {listed(left_out)} cannot be enforced",
            hint="Leave that out of the schema and check the answers for it. --schema-lenient leaves it out for you.",
        )
    return schema


def read(text: str) -> tuple[dict[str, Any], list[str]]:
    """A schema that says all that is enforced, and what of the given one it leaves out, each with its place.

    Raises ValueError for what is no schema.
    """
    schema = json_file.parse(text)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise ValueError("a JSON schema is an object, and this is " + ("false" if schema is False else "none"))
    schema.pop("x-guidance", None)  # the library's own options are not the schema's to choose
    left_out: list[str] = []
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("#", schema)]
    while todo:
        place, each = todo.pop()
        if not isinstance(each, dict) or id(each) in seen:
            continue
        seen.add(id(each))
        left_out += [f"{name} at {place}" for name in _take_out(each)]
        todo += _below(place, each, schema)
    return schema, sorted(left_out)


def listed(left_out: Sequence[str]) -> str:
    """What a schema loses, in words of which there are not too many."""
    more = len(left_out) - _MOST_NAMED
    return ", ".join(left_out[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _take_out(schema: dict[str, Any]) -> Iterator[str]:
    """Removes what is not enforced, and gives the names of what was meant."""
    unknown = "format" in schema and isinstance(schema["format"], str) and schema["format"] not in FORMATS
    if unknown:
        del schema["format"]
    schema.update({name: int(schema[name]) for name in _LENGTHS if _is_whole(schema.get(name))})
    _bound(schema)
    meant = [name for name, means_nothing in _NOT_ENFORCED.items() if _is_meant(schema, name, means_nothing)]
    for name in _NOT_ENFORCED:
        schema.pop(name, None)
    inexact = [name for name in (*_BOUNDS, "multipleOf", "const", "enum", "pattern") if _is_beyond(schema, name)]
    for name in inexact:
        del schema[name]
    yield from (*meant, *inexact)


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _bound(schema: dict[str, Any]) -> None:
    """Gives a text of a format its longest length, where the schema states no shorter one."""
    form = schema.get("format")
    longest = _LONGEST.get(form) if isinstance(form, str) else None
    lengths = [schema[name] for name in ("minLength", "maxLength") if name in schema]
    # What is no length, the library refuses by name.
    if longest and all(isinstance(length, int) for length in lengths) and schema.get("minLength", 0) <= longest:
        schema["maxLength"] = min(longest, schema.get("maxLength", longest))


def _is_meant(schema: dict[str, Any], name: str, means_nothing: Callable[[Any, dict[str, Any]], bool]) -> bool:
    return name in schema and not means_nothing(schema[name], schema)


def _is_beyond(schema: dict[str, Any], name: str) -> bool:
    """Whether a keyword is enforced in general, but not with this value."""
    value = schema.get(name)
    if name == "pattern":
        return isinstance(value, str) and any(found[1] for found in _LOOKING_AROUND.finditer(value))
    if name in ("const", "enum"):
        return not all(map(_is_exact, _numbers(value)))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if name == "multipleOf":
        return not abs(value) <= _MOST_MULTIPLE or _coefficient(value) > _MOST_MULTIPLE  # also of what is no number
    # The library cuts bounds off at this one, which happens to be it.
    return not (_is_exact(value) or (value, name, schema.get("type")) == (_INT64_MOST, "maximum", "integer"))


def _is_exact(number: float) -> bool:
    if abs(number) <= _EXACT:
        return True
    return abs(number) < _MOST and Decimal(repr(float(number))) == number


def _coefficient(number: float) -> float:
    """The number without its point, as the library finds it: in steps, which round."""
    while number % 1:
        number *= 10.0
    return number


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _below(place: str, schema: dict[str, Any], root: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas in a schema, also those that it refers to."""
    for name in _MAPS:
        if isinstance(schema.get(name), dict):
            yield from ((f"{place}/{name}/{key}", value) for key, value in schema[name].items())
    for name in _LISTS:
        if isinstance(schema.get(name), list):
            yield from ((f"{place}/{name}/{number}", value) for number, value in enumerate(schema[name]))
    yield from ((f"{place}/{name}", schema[name]) for name in _SINGLE if name in schema)
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        yield reference, at(root, reference)


def self_contained(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """A schema that stands within another one, on its own: with all that it refers to there, and nothing else."""
    names: dict[str, str] = {}
    waiting = list[str]()

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(each) for each in value]
        return {name: inside(name, inner) for name, inner in value.items()} if isinstance(value, dict) else value

    def inside(name: str, inner: Any) -> Any:
        if name == "$ref" and isinstance(inner, str) and (inner == "#" or inner.startswith("#/")):
            if inner not in names:
                names[inner] = str(len(names))
                waiting.append(inner)
            return f"#/$defs/{names[inner]}"
        if name in ("$defs", "definitions"):
            return {}  # what of it is referred to comes along
        if name in ("properties", "patternProperties") and isinstance(inner, dict):
            return {key: moved(each) for key, each in inner.items()}
        return inner if name in ("const", "enum") else moved(inner)

    found: dict[str, Any] = moved(schema)
    known = dict[str, Any]()
    while waiting:
        reference = waiting.pop()
        known[names[reference]] = moved(at(root, reference))
    return found | ({"$defs": known} if known else {})


def at(root: Any, reference: str) -> Any:
    for step in reference.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(root, list) and step.isdecimal() and int(step) < len(root):
            root = root[int(step)]
        elif isinstance(root, dict) and step in root:
            root = root[step]
        else:
            return None  # the library says so
    return root
