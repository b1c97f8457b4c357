"""JSON in answers: read strictly, compared as JSON sees it, found in a text, and looked into by a path."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from edgeship.system.fields import shown

# Places in a text at which JSON is looked for: more brackets than that are no answer.
_MOST_PLACES = 10_000
_BEGINS = re.compile(r"[\[{]")
_STEP = re.compile(r"""\.([A-Za-z_][\w-]*)|\[(-?\d{1,9})\]|\[("(?:[^"\\]|\\.)*")\]|\['([^'\\]*)'\]""")


def parse_json(text: str) -> Any:
    """The value of a JSON text; stricter than `json.loads`: no NaN, no key twice. Raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error


def json_equal(left: Any, right: Any) -> bool:
    """Equality as JSON sees it: key order does not matter, 1 equals 1.0, and true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(json_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(json_equal, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def contained(text: str) -> Iterator[Any]:
    """The objects and arrays that stand in a text, one after the other; what is within one is not told by itself."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    at, places = 0, 0
    while (found := _BEGINS.search(text, at)) and places < _MOST_PLACES:
        places += 1
        try:
            value, at = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            at = found.start() + 1
        else:
            yield value


def path_steps(path: str) -> tuple[str | int, ...]:
    """The steps of a path such as `$.items[0]["unit price"]`: names and places, no wildcards. Raises ValueError."""
    if not path.startswith("$"):
        raise ValueError('a path begins with "$", which is the whole answer')
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise ValueError(f'{path[at : at + 20]!r} is not read: a step is .name, ["a name"] or [0]')
        name, place, quoted, single = found.groups()
        steps.append(int(place) if place else json.loads(quoted) if quoted else (name or single or ""))
        at = found.end()
    return tuple(steps)


def at_path(value: Any, steps: tuple[str | int, ...]) -> Any:
    """What stands there; a place below zero counts from the end. Raises LookupError that says where the way ends."""
    for step in steps:
        if isinstance(value, dict):
            there = isinstance(step, str) and step in value
        else:
            there = isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value)
        if not there:
            raise LookupError(f"there is no {step!r} in {shown(value)}")
        value = value[step]
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
