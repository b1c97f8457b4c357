"""The calls of one function as a grammar, in a notation that is no JSON; see `Notation`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edgeship.engine import text_patterns
from edgeship.engine.alternatives import Alternatives, Schema, property_of
from edgeship.engine.functions import Function
from edgeship.engine.json_schema import self_contained
from edgeship.package.call_syntax import meant
from edgeship.package.notations import WORDS, Notation

# How a value without quotes begins that is no text; what begins so is no text then.
_BEGINNINGS = {"number": r"\-0-9", "integer": r"\-0-9", "array": r"\[", "object": r"\{"}
_BLANKS = r" \t\r\n"
_BLANK = f"[{_BLANKS}]"
_ANY_KEY = "/[A-Za-z_][A-Za-z0-9_]*/"
# A text of Python in single quotes, with the escapes that JSON has.
_SINGLE_QUOTED = (
    r"""/'([^'\\\x00-\x1f]|\\(['"\\\/bfnrt]|u([0-9a-cA-CeEfF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})))*'/"""
)
_NEEDS_NO_ESCAPE = re.compile(r"[^'\\\x00-\x1f]*")
_MOST_IN_JSON = 1 << 20
_NOBODYS = ""  # no property is called so


class Rules:
    """The rules of a grammar, each once: functions have the same types of arguments."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self.lines: list[str] = []
        self.in_json = 0
        """Characters of schemas that the rules hold."""

    def rule(self, text: str) -> str:
        """A rule that says this; nothing where it says nothing."""
        return self._named(text, "r") if text.strip() else ""

    def terminal(self, text: str) -> str:
        """A terminal that says this: an expression for a text."""
        return self._named(text, "T")

    def reserved(self) -> str:
        """A name for a rule that is yet to be written."""
        return self._named(str(len(self._names)), "v", written=False)

    def _named(self, text: str, prefix: str, *, written: bool = True) -> str:
        key = f"{prefix}: {text}"
        if key not in self._names:
            self._names[key] = f"{prefix}{len(self._names)}"
            if written:
                self.lines.append(f"{self._names[key]}: {text}")
        return self._names[key]


class ArgumentGrammar:
    """Writes a grammar for one function.

    rules: of all functions. mark_ids: the marks that are tokens of their own.
    options: of the library, for what it is given as JSON.
    """

    def __init__(
        self,
        notation: Notation,
        function: Function,
        rules: Rules,
        mark_ids: Mapping[str, int],
        options: Mapping[str, Any],
    ) -> None:
        self._notation, self._function, self._rules, self._mark_ids = notation, function, rules, mark_ids
        self._options = {**options, "lenient": function.lenient}
        self._alternatives = Alternatives(function.schema)
        self._known: dict[str, str | None] = {}  # rules for values, by the JSON of their schemas
        self._again: set[str] = set()

    @property
    def left_out(self) -> list[str]:
        """Keywords of the schema that the rules do not keep."""
        return sorted(self._alternatives.left_out)

    def call(self) -> str:
        """A call. Raises ValueError for a schema for which no arguments can be written."""
        notation = self._notation
        objects = self._alternatives.of(self._function.schema)
        named = {name for each in objects for name in _names(each)}
        written = self._either(
            self._members(each, self._argument, lambda more: self._other_argument(more, named)) for each in objects
        )
        if written is None:
            raise ValueError("no call in the model's format fits it")
        begin = f"{self._literal(notation.before_name)} {quoted(self._function.name)} {self._literal(notation.opens)}"
        return f"{begin} ({written}) {self._literal(notation.closes)}"

    # --- objects -----------------------------------------------------------------------------------------------------

    def _members(
        self, schema: Schema, member: Callable[[str, Any], str | None], other: Callable[[Any], str | None]
    ) -> str | None:
        """The properties of an object, in their order, with what stands between; None where none fit."""
        self._alternatives.left_out |= {"minProperties", "maxProperties"} & schema.keys()
        required = set(schema.get("required", ()))
        between = self._literal(self._notation.between)
        # Whatever else fits is left unsaid where that could be one of a pattern.
        rest = None if "patternProperties" in schema else other(schema.get("additionalProperties", True))
        tail, head = ("", "") if rest is None else (f"({between} {rest})*", f"({rest} ({between} {rest})*)?")
        names = {name: property_of(schema, name) for name in _names(schema)}
        for name, each in reversed(self._notation.ordered(names)):
            written = member(name, each)
            if written is None and name in required:
                return None
            if written is not None:
                after = self._rules.rule(tail)
                if name in required:
                    head, tail = f"{written} {after}", f"{between} {written} {after}"
                else:
                    head, tail = f"({written} {after} | {self._rules.rule(head)})", f"({between} {written})? {after}"
        return self._rules.rule(head)

    def _argument(self, name: str, schema: Any) -> str | None:
        if not self._notation.takes(name):
            return None
        value = self._any(schema) if self._notation.quotes else self._as_it_stands(schema, name)
        return value and f"{self._literal(self._notation.key(name))} {value}"

    def _other_argument(self, schema: Any, named: Iterable[str]) -> str | None:
        notation = self._notation
        value = self._any(schema) if notation.quotes else self._as_it_stands(schema, _NOBODYS)
        key = f"{self._literal(notation.before_key)} {self._key(named)} {self._literal(notation.after_key)}"
        return value and f"{key} {value}"

    def _member(self, name: str, schema: Any) -> str | None:
        value = self._any(schema)
        return value and f"{self._literal(self._notation.member(name))} {value}"

    def _other_member(self, schema: Any, named: Iterable[str]) -> str | None:
        quote = "" if self._notation.bare_keys else quoted('"')
        value = self._any(schema)
        return value and f"{quote} {self._key(named)} {quote} {quoted(self._notation.colon)} {value}"

    def _key(self, named: Iterable[str]) -> str:
        """Any name but these."""
        others = " | ".join(map(quoted, named))
        return self._rules.terminal(f"{_ANY_KEY} & ~({others})" if others else _ANY_KEY)

    # --- values ------------------------------------------------------------------------------------------------------

    def _any(self, schema: Any) -> str | None:
        """A value that says itself where it ends."""
        key = json.dumps(schema)
        if key in self._known:
            self._again.add(key)
            return self._known[key]
        name = self._known[key] = self._rules.reserved()
        written = self._either(map(self._one, self._alternatives.of(schema)))
        if key in self._again:  # it has itself in it; what only leads back to itself, the library refuses
            self._rules.lines.append(f"{name}: {written or name}")
            self._known[key] = name if written else None
        else:
            self._known[key] = written and self._rules.rule(written)
        return self._known[key]

    def _one(self, schema: Schema) -> str | None:
        kind = schema["type"]
        if "const" in schema:
            return self._constant(schema["const"])
        if kind in ("boolean", "null"):
            return self._words(kind)
        if kind == "array":
            return self._list(schema)
        if kind == "object":
            names = _names(schema)
            members = self._members(schema, self._member, lambda more: self._other_member(more, names))
            return None if members is None else f'"{{" {members} "}}"'
        if kind == "string" and not self._notation.escapes:
            quote = self._notation.quotes[0]
            content = text_patterns.content(schema, self._alternatives.left_out)
            return f"{self._literal(quote)} {self._up_to(content, quote)}"
        free = kind == "string" and len(schema) == 1
        return self._json(schema) + (f" | {self._rules.terminal(_SINGLE_QUOTED)}" if free else "")

    def _constant(self, value: Any) -> str | None:
        notation = self._notation
        if value is None or isinstance(value, bool):
            return self._words("null" if value is None else "boolean", value)
        if not notation.escapes and any(quote in text for quote in notation.quotes for text in _texts(value)):
            return None
        written = [notation.value(value)]
        if notation.escapes and isinstance(value, str) and _NEEDS_NO_ESCAPE.fullmatch(value):
            written.append(f"'{value}'")
        return " | ".join(map(self._literal, written))

    def _words(self, kind: str, *values: object) -> str:
        wanted = values or ((None,) if kind == "null" else (True, False))
        return " | ".join(quoted(word) for word, value in WORDS.items() if value in wanted)

    def _list(self, schema: Schema) -> str | None:
        items = schema.get("items", True)
        first = items if isinstance(items, list) else schema.get("prefixItems", [])
        others = schema.get("additionalItems", True) if isinstance(items, list) else items
        written = [*map(self._any, first), self._any(others)]
        # A list ends before the first item for which there is no value.
        ends = [schema["maxItems"]] if "maxItems" in schema else []
        ends += [written.index(None)] if None in written else []
        least, most = schema.get("minItems", 0), min(ends, default=None)
        if most is not None and most < least:
            return None
        between, count = quoted(self._notation.between), len(first)
        rest = written[count]
        tail = ""
        if rest is not None and (most is None or most > count):
            left = "" if most is None else most - max(count, 1)
            more = f"({between} {rest}){{{max(least - max(count, 1), 0)},{left}}}"
            tail = more if count else f"{rest} {more}" if least else f"({rest} {more})?"
        for place in reversed(range(count if most is None else min(count, most))):
            item = f"{between if place else ''} {written[place]} {tail}"
            tail = item if place < least else f"({item})?"
        return f'"[" {tail} "]"'

    def _as_it_stands(self, schema: Any, name: str) -> str | None:
        """A value without quotes, up to its end. What would be taken for something else is no text."""
        kinds = self._alternatives.kinds(name)
        end = self._notation.after_value
        texts, others = list[str](), list[str]()
        for each in self._alternatives.of(schema):
            if each["type"] not in ("string", "boolean", "null"):
                others.append(self._json(each))
            elif each["type"] != "string":
                texts.append(self._words(each["type"], *([each["const"]] if "const" in each else [])))
            elif "const" not in each:
                content = text_patterns.content(each, self._alternatives.left_out)
                texts.append(" & ".join([text_patterns.ANY, *content, *_no_other(kinds)]))
            elif end.strip() not in each["const"] and meant(each["const"], kinds) == quoted(each["const"]):
                texts.append(quoted(each["const"]))
        written = [f"{each} {self._literal(end)}" for each in others]
        if texts:
            written.append(self._up_to([f"({' | '.join(texts)})"], end))
        return f"({' | '.join(written)})" if written else None

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _json(self, schema: Schema) -> str:
        told = self_contained(schema, self._function.schema)
        written = json.dumps({**told, "x-guidance": self._options})
        self._rules.in_json += len(written)
        if self._rules.in_json > _MOST_IN_JSON:
            raise ValueError("what its arguments refer to is too much to be told for each of them")
        return f"%json {written}"

    def _up_to(self, content: list[str], end: str) -> str:
        """A text that holds to all of these terminals, and what it ends with, which does not stand in it."""
        kept = " & ".join([text_patterns.without(end.rstrip()), *content])
        first, *others = tokens_apart(end, self._mark_ids)
        if first in self._mark_ids:
            return f"{self._rules.terminal(kept)} {self._literal(end)}"
        return f"{self._rules.terminal(f'({kept}) {quoted(first)}')} {self._literal(''.join(others))}"

    def _literal(self, text: str) -> str:
        """What is always written so, in which marks may be tokens."""
        return spelled(text, self._mark_ids)

    def _either(self, written: Iterable[str | None]) -> str | None:
        return " | ".join(each or '""' for each in written if each is not None) or None


def spelled(text: str, mark_ids: Mapping[str, int]) -> str:
    """A text that is always written so, of which some may be tokens of their own."""
    return " ".join(
        f"<[{mark_ids[part]}]>" if part in mark_ids else quoted(part) for part in tokens_apart(text, mark_ids)
    )


def tokens_apart(text: str, mark_ids: Mapping[str, int]) -> list[str]:
    """The parts of a text: marks that are tokens, and what stands between them."""
    either = "|".join(map(re.escape, mark_ids))
    return [part for part in re.split(f"({either})", text) if part] if either else [text] if text else []


def _names(schema: Schema) -> list[str]:
    """The properties of an object that its schema names."""
    return [*dict.fromkeys([*schema.get("properties", ()), *schema.get("required", ())])]


def _texts(value: Any) -> list[str]:
    """All texts in a value."""
    if isinstance(value, Mapping):
        return [*value, *_texts([*value.values()])]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def _no_other(kinds: Iterable[str]) -> list[str]:
    """Terminals that a text matches which cannot be taken for a value of another of these types."""
    starts = "".join(sorted({_BEGINNINGS[kind] for kind in kinds if kind in _BEGINNINGS}))
    words = "|".join(word for word, value in WORDS.items() if ("null" if value is None else "boolean") in kinds)
    found = [f"/({_BLANK}*([^{starts}{_BLANKS}](?s:.)*)?)/"] if starts else []
    return found + ([f"~/{_BLANK}*({words}){_BLANK}*/"] if words else [])


def quoted(text: str) -> str:
    """A text as grammars, and JSON, have it."""
    return json.dumps(text, ensure_ascii=False)
