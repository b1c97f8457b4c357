"""Calls of functions as a grammar: in the model's format, with arguments that fit the function's schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeship.engine.api import Constraint, ToolUse
from edgeship.engine.grammar import INDENTED, Either, Grammars, Matcher, Written, kept_schema, layouts
from edgeship.engine.tools import CallMarks
from edgeship.errors import ConstraintInvalid, EdgeshipError

# With these beside it, `properties` does not name all that an object may have.
_MORE_PROPERTIES = ("additionalProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref")
# In the layout of JSON that takes any white space, some may stand between any two parts of a call.
_ANY_GAP = f'%llguidance {{"ignore_once": true}}\n%ignore /{INDENTED}/\n'


@dataclass(frozen=True)
class _Function:
    name: str
    schema: Mapping[str, Any]
    lenient: bool


@dataclass(frozen=True)
class Held:
    """What an answer is held to: from its first token on, or from its first call on."""

    at_once: Matcher | None = None
    from_call: Matcher | None = None


def hold(grammars: Grammars, constraint: Constraint | None, use: ToolUse | None, marks: CallMarks | None) -> Held:
    """How an answer is held to a constraint, to calls, or to either. Calls that are required leave no other answer.

    Raises ConstraintInvalid, which names the function whose arguments cannot be held to its schema.
    """
    if use is None or marks is None:
        return Held(grammars.matcher(constraint) if constraint else None)
    opened = not (use.required or constraint)
    wanted = _grammar(use, marks, opened=opened)
    try:
        found = grammars.matcher(Either(constraint, wanted) if constraint and not use.required else wanted)
    except ConstraintInvalid:
        for function in use.functions:  # the library does not say which one it is
            _check(grammars, replace(use, functions=(function,)), marks)
        raise
    return Held(from_call=found) if opened else Held(found)


def _check(grammars: Grammars, use: ToolUse, marks: CallMarks) -> None:
    try:
        grammars.matcher(_grammar(use, marks, opened=True))
    except ConstraintInvalid as error:
        raise _cannot_be_called(use.names[0], error) from error


def _grammar(use: ToolUse, marks: CallMarks, *, opened: bool) -> Written:
    """The grammar of an answer of calls. opened: the first mark is there already."""
    form = marks.format
    functions = [_read(function) for function in use.functions]
    several = form.several and use.parallel
    texts = [_Lark(marks, layout).text(functions, several=several, opened=opened or form.bare) for layout in layouts()]
    return Written("functions", tuple(texts))


def _read(function: Mapping[str, Any]) -> _Function:
    """A function with what its arguments are held to: an object of the parameters that it names."""
    lenient = not function.get("strict")
    parameters = function.get("parameters") or {"properties": {}}
    try:
        schema = kept_schema(Constraint("json_schema", json.dumps(parameters), lenient))
    except ConstraintInvalid as error:
        raise _cannot_be_called(function["name"], error) from error
    if "properties" in schema and not any(name in schema for name in _MORE_PROPERTIES):
        schema = schema | {"additionalProperties": False}
    return _Function(function["name"], schema | {"type": "object"}, lenient)


def _cannot_be_called(name: str, error: EdgeshipError) -> ConstraintInvalid:
    """The error that says which function's parameters no arguments can be held to."""
    return ConstraintInvalid(
        f"the function {name!r} cannot be called, by its parameters: {error.what}",
        hint="Mend the schema of its parameters, or leave the function out.",
    )


class _Lark:
    """Writes the grammar in one layout of JSON."""

    def __init__(self, marks: CallMarks, layout: Mapping[str, Any]) -> None:
        self._form, self._mark_ids, self._layout = marks.format, marks.ids, layout
        self._any_gap = "whitespace_pattern" in layout
        self._gap = "" if self._any_gap else marks.format.gap
        self._item, self._key = layout.get("item_separator", ","), layout.get("key_separator", ":")

    def text(self, functions: Sequence[_Function], *, several: bool, opened: bool) -> str:
        rules = [f"start: {self._start(several=several, opened=opened)}"]
        rules += [f"call: {' | '.join(f'call_{number}' for number in range(len(functions)))}"]
        for number, function in enumerate(functions):
            options = {**self._layout, "lenient": function.lenient}
            schema = json.dumps({**function.schema, "x-guidance": options})
            rules += [f"call_{number}: {self._call(function.name, f'arguments_{number}')}"]
            rules += [f"arguments_{number}: %json {schema}"]
        return (_ANY_GAP if self._any_gap else "") + "\n".join(rules) + "\n"

    def _start(self, *, several: bool, opened: bool) -> str:
        mark = self._mark(self._form.mark) if self._form.mark else ""
        end = self._mark(self._form.end) if self._form.end else ""
        # What is passed over between parts is not passed over before the first one.
        first = (f"/{INDENTED}/?" if self._any_gap else "") if opened else mark
        if self._form.listed:
            more = f"({_quoted(self._item)} call)*" if several else ""
            return f'{first} "[" call {more} "]" {end}'
        gap = _quoted(self._gap) if self._gap else ""
        one = f"{gap} call {gap if end else ''} {end}"
        # White space after the last call would otherwise be held to go on with another one.
        return f"{first} {one}" + (f" ({gap} {mark} {one})* /[ \\n]{{1,2}}/?" if several else "")

    def _call(self, name: str, arguments: str) -> str:
        if self._form.name_end:
            return f"{_quoted(name)} {self._mark(self._form.name_end)} {arguments}"
        keys = [_quoted(self._form.name_key), _quoted(self._form.arguments_key)]
        # One by one, as the library itself writes JSON: it tells them apart from those of a constraint beside it.
        parts = ["{", keys[0], self._key, _quoted(name), self._item, keys[1], self._key]
        return f'{" ".join(map(_quoted, parts))} {arguments} "}}"'

    def _mark(self, mark: str) -> str:
        found = self._mark_ids.get(mark)
        return _quoted(mark) if found is None else f"<[{found}]>"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
