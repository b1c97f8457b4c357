"""The shape of right answers, found in examples of them: JSON of certain fields, one of a few labels, a number, a code.

Pure. A shape is told and enforced as a constraint, so that answers can be held to it as well as against it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.engine.api import Constraint
from edgeship.engine.json_schema import kept
from edgeship.errors import ConstraintInvalid
from edgeship.measure.cases import patterns, schemas
from edgeship.measure.cases.json_values import parse_json
from edgeship.system.fields import shown

FEWEST = 5
"""Fewer examples have no shape in common that could not be chance."""
_FEWEST_EACH = 4
"""So often does each label occur on average at least; otherwise there may be others that no example has."""
_MOST_LABELS, _MOST_LABEL = 20, 60
_TOLD_LABELS = 8
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_NUMBER_PATTERN, _WHOLE_PATTERN = r"-?[0-9]+(\.[0-9]+)?", r"-?[0-9]+"
# Of a code: runs of digits, of letters, and single signs between them.
_RUNS = re.compile(r"[0-9]+|[A-Z]+|[a-z]+|[^0-9A-Za-z]")
_MOST_RUNS = 12


@dataclass(frozen=True)
class Shape:
    """told: in words, such as "one of 3 labels". constraint: the same for engines."""

    told: str
    constraint: Constraint


def infer(texts: Sequence[str]) -> Shape | None:
    """The narrowest shape that all these answers have; None for free text, and where they are too few to tell.

    An object's fields are those of the examples: those that all have are required, and no others are allowed.
    """
    said = [text.strip() for text in texts]
    if len(said) < FEWEST:
        return None
    return _json(said) or _labels(said) or _number(said) or _code(said)


def unlike(constraint: Constraint, text: str) -> str | None:
    """What of an answer is not as a constraint says; None where nothing is, or where that cannot be told (grammars)."""
    said = text.strip()
    if constraint.kind == "lark":
        return None
    if constraint.kind == "regex":
        try:
            fits = patterns.is_found(f"^(?s:{constraint.text})$", said)
        except ValueError:
            return None
        return None if fits else f"it is {shown(said)}, which the pattern {shown(constraint.text)} does not allow"
    try:
        value = parse_json(said)
    except ValueError as error:
        return f"it is {shown(said)}, which is no JSON: {error}"
    if constraint.kind == "json_object":
        return None if isinstance(value, dict) else f"it is {shown(said)}, which is no object"
    try:
        return schemas.fault(kept(constraint), value)
    except (ConstraintInvalid, ValueError):
        return None


# --- JSON ------------------------------------------------------------------------------------------------------------


def _json(texts: Sequence[str]) -> Shape | None:
    try:
        values = [parse_json(text) for text in texts]
    except ValueError:
        return None
    if not all(isinstance(value, dict | list) for value in values):
        return None
    schema = _schema(values)
    return Shape(f"JSON, {_told(schema)}", Constraint("json_schema", json.dumps(schema, ensure_ascii=False)))


def _schema(values: Sequence[Any]) -> dict[str, Any]:
    """What all values have in common: a schema that allows each of them."""
    objects = [value for value in values if isinstance(value, dict)]
    lists = [value for value in values if isinstance(value, list)]
    kinds = sorted({_kind(value) for value in values})
    if "integer" in kinds and "number" in kinds:
        kinds.remove("integer")
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if labels := _few([value for value in values if isinstance(value, str)]):
        if kinds == ["string"]:
            schema["enum"] = labels
        elif kinds == ["null", "string"]:
            schema["enum"] = [*labels, None]
    if objects:
        names = dict.fromkeys(name for value in objects for name in value)
        schema["properties"] = {name: _schema([one[name] for one in objects if name in one]) for name in names}
        schema["required"] = [name for name in names if all(name in value for value in objects)]
        schema["additionalProperties"] = False
    if items := [item for value in lists for item in value]:
        schema["items"] = _schema(items)
    return schema


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) or value.is_integer() else "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict) else "array"


def _told(schema: Mapping[str, Any]) -> str:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "enum" in schema:
        return f"one of {_listed(schema['enum'])}"
    if "properties" in schema:
        optional = set(schema["properties"]) - set(schema["required"])
        fields = (
            f"{name}{' (not always)' if name in optional else ''}: {_told(value)}"
            for name, value in schema["properties"].items()
        )
        return f"an object of {'; '.join(fields)}" if schema["properties"] else "an empty object"
    if kinds == ["array"]:
        return f"a list, of {_told(schema['items'])} each" if "items" in schema else "an empty list"
    return " or ".join(kinds)


# --- texts -----------------------------------------------------------------------------------------------------------


def _few(texts: Sequence[str]) -> list[str]:
    """The different texts, where they are so few beside their number that there are surely no others; else none."""
    different = sorted(set(texts))
    if not 2 <= len(different) <= _MOST_LABELS or len(texts) < _FEWEST_EACH * len(different):
        return []
    # One that occurs once says that there may be more such.
    alone = any(texts.count(text) == 1 for text in different)
    return [] if alone or any(len(text) > _MOST_LABEL for text in different) else different


def _labels(texts: Sequence[str]) -> Shape | None:
    labels = _few(texts)
    if not labels:
        return None
    return Shape(f"one of {_listed(labels)}", Constraint("regex", "|".join(map(_escaped, labels))))


def _listed(labels: Sequence[Any]) -> str:
    named = ", ".join(json.dumps(label, ensure_ascii=False) for label in labels[:_TOLD_LABELS])
    return named if len(labels) <= _TOLD_LABELS else f"{named} and {len(labels) - _TOLD_LABELS} more"


def _number(texts: Sequence[str]) -> Shape | None:
    if not all(map(_NUMBER.fullmatch, texts)):
        return None
    whole = not any("." in text for text in texts)
    told = "a whole number" if whole else "a number"
    return Shape(told, Constraint("regex", _WHOLE_PATTERN if whole else _NUMBER_PATTERN))


def _code(texts: Sequence[str]) -> Shape | None:
    """A pattern of the same runs of digits and letters, with the same signs between them: "AB-1234"."""
    runs = [_RUNS.findall(text) for text in texts]
    kinds = {tuple(map(_run_kind, each)) for each in runs}
    if len(kinds) != 1:
        return None
    [kind] = kinds
    words = " ".join(each for each in kind if each.startswith("["))
    if not 1 < len(kind) <= _MOST_RUNS or "[0-9]" not in words:
        return None
    pattern = "".join(f"{each}+" if each.startswith("[") and len(each) > 2 else _escaped(each) for each in kind)
    return Shape(f"a text such as {shown(texts[0])}", Constraint("regex", pattern))


def _run_kind(run: str) -> str:
    if run[0].isascii() and run[0].isdigit():
        return "[0-9]"
    if run[0].isascii() and run[0].isalpha():
        return "[A-Z]" if run[0].isupper() else "[a-z]"
    return run


def _escaped(text: str) -> str:
    """A text as a pattern that finds it, in the signs that Rust's and Python's expressions share."""
    return re.sub(r"([\\.+*?()|\[\]{}^$/-])", r"\\\1", text)
