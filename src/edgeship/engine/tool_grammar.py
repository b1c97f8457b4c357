"""Calls of functions as a grammar: in the model's format, with arguments that fit the function's schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeship.engine.api import Constraint, ToolUse
from edgeship.engine.argument_grammar import ArgumentGrammar, Rules, quoted, spelled
from edgeship.engine.functions import TOO_DEEP, Function, cannot_be_called
from edgeship.engine.grammar import INDENTED, Either, Grammars, Matcher, Written, layouts
from edgeship.engine.json_schema import listed
from edgeship.engine.tools import CallMarks
from edgeship.errors import ConstraintInvalid
from edgeship.package.notations import Notation

# In the layout of JSON that takes any white space, some may stand between any two parts of a call.
_ANY_GAP = f'%llguidance {{"ignore_once": true}}\n%ignore /{INDENTED}/\n'


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
        raise cannot_be_called(use.names[0], error.what) from error


def _grammar(use: ToolUse, marks: CallMarks, *, opened: bool) -> Written:
    """The grammar of an answer of calls. opened: the first mark is there already."""
    form = marks.format
    functions = [Function.of(function) for function in use.functions]
    several = form.several and use.parallel
    # What is no JSON has one layout only.
    used = layouts()[:1] if form.notation else layouts()
    texts = [_Lark(marks, layout).text(functions, several=several, opened=opened or form.bare) for layout in used]
    if form.notation is None:
        return Written("functions", tuple(texts))
    ends = (*form.notation.quotes, form.notation.after_value)
    found = tuple(marks.ids[end] for end in ends if end in marks.ids)
    return Written("functions", tuple(texts), is_json=form.notation.escapes, ends=found)


class _Lark:
    """Writes the grammar in one layout of JSON."""

    def __init__(self, marks: CallMarks, layout: Mapping[str, Any]) -> None:
        self._form, self._mark_ids, self._layout = marks.format, marks.ids, layout
        self._rules = Rules()
        self._any_gap = "whitespace_pattern" in layout
        self._gap = "" if self._any_gap else marks.format.gap
        self._item, self._key = layout.get("item_separator", ","), layout.get("key_separator", ":")

    def text(self, functions: Sequence[Function], *, several: bool, opened: bool) -> str:
        rules = [f"start: {self._start(several=several, opened=opened)}"]
        rules += [f"call: {' | '.join(f'call_{number}' for number in range(len(functions)))}"]
        for number, function in enumerate(functions):
            rules += self._call(function, number)
        rules += self._rules.lines
        return (_ANY_GAP if self._any_gap else "") + "\n".join(rules) + "\n"

    def _start(self, *, several: bool, opened: bool) -> str:
        mark, end = self._mark(self._form.mark), self._mark(self._form.end)
        # What is passed over between parts is not passed over before the first one.
        first = (f"/{INDENTED}/?" if self._any_gap else "") if opened else mark
        if self._form.listed:
            more = f"({quoted(self._item)} call)*" if several else ""
            return f'{first} "[" call {more} "]" {end}'
        gap = self._mark(self._gap)
        if self._form.together:
            return f"{first} {gap} call {f'({gap} call)*' if several else ''} {gap} {end}"
        one = f"{gap} call {gap if end else ''} {end}"
        # White space after the last call would otherwise be held to go on with another one.
        return f"{first} {one}" + (f" ({gap} {mark} {one})* /[ \\n]{{1,2}}/?" if several else "")

    def _call(self, function: Function, number: int) -> list[str]:
        """The rules of one function, the first of which is its call."""
        if self._form.notation:
            return self._in_notation(self._form.notation, function, number)
        options = {**self._layout, "lenient": function.lenient}
        schema = json.dumps({**function.schema, "x-guidance": options})
        call = self._in_json(function.name, f"arguments_{number}")
        return [f"call_{number}: {call}", f"arguments_{number}: %json {schema}"]

    def _in_notation(self, notation: Notation, function: Function, number: int) -> list[str]:
        grammar = ArgumentGrammar(notation, function, self._rules, self._mark_ids, self._layout)
        try:
            call = grammar.call()
        except ValueError as error:
            raise cannot_be_called(function.name, str(error)) from error
        except RecursionError as error:
            raise cannot_be_called(function.name, TOO_DEEP) from error
        if grammar.left_out and not function.lenient:
            raise cannot_be_called(
                function.name, f"{listed(grammar.left_out)} cannot be enforced in the model's format"
            )
        return [f"call_{number}: {call}"]

    def _in_json(self, name: str, arguments: str) -> str:
        if self._form.name_end:
            return f"{quoted(name)} {self._mark(self._form.name_end)} {arguments}"
        keys = [quoted(self._form.name_key), quoted(self._form.arguments_key)]
        # One by one, as the library itself writes JSON: it tells them apart from those of a constraint beside it.
        parts = ["{", keys[0], self._key, quoted(name), self._item, keys[1], self._key]
        return f'{" ".join(map(quoted, parts))} {arguments} "}}"'

    def _mark(self, text: str) -> str:
        return spelled(text, self._mark_ids)
