"""Calls of functions, read character by character in the format in which a model writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgeship.package.notations import WORDS, Notation
from edgeship.package.tool_formats import ToolFormat

Reading = Generator[None, str, str]
"""Is sent one character after another, and gives what it has read of them. ValueError: that was no call."""
ANY_KIND = ("string", "number", "integer", "boolean", "null", "array", "object")
"""All types of JSON Schema."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_JSON_ESCAPES = frozenset('"\\/bfnrt')
_HEX_DIGITS = {"x": 2, "u": 4}
_BRACKETS = {"[": "array", "{": "object"}
_BLANKS = " \t\r\n"
_MOST_DEPTH = 64
Tell = Callable[[str], object]


class Calls(Protocol):
    """Who is told of calls as they are read. Raises ValueError for what cannot be one."""

    def naming(self, beginning: str) -> None:
        """The name of a function, as far as it has come."""

    def name(self, name: str) -> None:
        """The name of the call's function, before its arguments or after them."""

    def arguments(self, piece: str) -> None:
        """A piece of the JSON of the call's arguments."""

    def kinds(self, argument: str, /) -> Collection[str]:
        """The types of JSON Schema that the call's argument may have."""

    def end(self) -> None:
        """The call is complete."""


def reading(form: ToolFormat, calls: Calls) -> Reading:
    """Reads the calls behind one mark, up to their end."""
    return _Syntax(form, calls).all()


def read(form: ToolFormat, text: str) -> tuple[str, Any] | None:
    """Name and arguments of the one call in a text; None where there is none in this format."""
    return next((call for start in _starts(form, text) if (call := _call_at(form, text, start))), None)


def _starts(form: ToolFormat, text: str) -> Iterator[int]:
    if form.mark:
        yield from (found.end() for found in re.finditer(re.escape(form.mark), text))
    if form.bare:
        yield from (found.start() for found in re.finditer(r"\[" if form.listed else r"\{", text))


def _call_at(form: ToolFormat, text: str, start: int) -> tuple[str, Any] | None:
    found = _Found()
    syntax = reading(form, found)
    next(syntax)
    try:
        for char in text[start:]:
            syntax.send(char)
    except StopIteration:
        return (found.function, json.loads("".join(found.pieces))) if found.count == 1 else None
    except ValueError:
        pass
    return None


@dataclass
class _Found:
    """Calls of functions that nobody knows."""

    function: str = ""
    pieces: list[str] = field(default_factory=list)
    count: int = 0

    def naming(self, beginning: str) -> None:
        _require("\n" not in beginning)

    def name(self, name: str) -> None:
        self.function = name

    def arguments(self, piece: str) -> None:
        self.pieces.append(piece)

    def kinds(self, _: str) -> Collection[str]:
        return ANY_KIND

    def end(self) -> None:
        parse("".join(self.pieces))
        self.count += 1


class _Syntax:
    """Reads the calls of one answer. _back: what was read too far."""

    def __init__(self, form: ToolFormat, calls: Calls) -> None:
        self._form, self._calls = form, calls
        self._back = ""

    def all(self) -> Reading:
        form = self._form
        if form.listed:
            yield from self._mark("[")
            yield from self._begun()
            while (yield from self._mark(",", "]")) == ",":
                yield from self._begun()
        else:
            yield from self._begun()
        if form.together:
            while not (yield from self._ends(_before_name(form), form.end)):
                yield from self._one()
        elif form.end:
            yield from self._mark(form.end)
        return ""

    def _begun(self) -> Reading:
        """A call from its beginning on."""
        if before := _before_name(self._form):
            yield from self._mark(before)
        yield from self._one()
        return ""

    def _one(self) -> Reading:
        if self._form.notation:
            yield from self._call(self._form.notation)
        elif self._form.name_end:
            yield from self._name(self._form.name_end)
            yield from self._object()
        else:
            yield from self._call_object()
        self._calls.end()
        return ""

    # --- calls in a notation of their own ----------------------------------------------------------------------------

    def _call(self, notation: Notation) -> Reading:
        yield from self._name(notation.opens)
        self._calls.arguments("{")
        comma = ""

        def argument() -> Reading:
            nonlocal comma
            name = yield from self._key(notation, notation.after_key)
            self._calls.arguments(f"{comma}{_json(name)}: ")
            comma = ", "
            if notation.quotes:
                yield from self._value(notation, self._calls.arguments)
            else:
                yield from self._as_it_stands(notation, self._calls.kinds(name))
            return ""

        yield from self._items(argument, notation.before_key, notation.between.strip(), notation.closes)
        self._calls.arguments("}")
        return ""

    def _name(self, end: str) -> Reading:
        said = ""

        def add(char: str) -> None:
            nonlocal said
            said += char
            self._calls.naming(said.lstrip())

        yield from self._until(end, add)
        self._calls.name(said.strip())
        return ""

    def _items(self, item: Callable[[], Reading], before: str, between: str, closes: str) -> Reading:
        """Any number of items up to what closes them."""
        more = not (yield from self._ends(before, closes))
        while more:
            yield from item()
            if between:
                more = (yield from self._mark(between, closes)) == between
            else:
                more = not (yield from self._ends(before, closes))
        return ""

    def _key(self, notation: Notation, end: str) -> Reading:
        if not notation.before_key and (yield from self._peek()) in {quote[0] for quote in notation.quotes}:
            said = list[str]()
            yield from self._quoted(notation, said.append)
            yield from self._mark(end)
            return str(parse("".join(said)))
        said = []
        yield from self._until(end, said.append)
        return "".join(said).strip()

    def _as_it_stands(self, notation: Notation, kinds: Collection[str]) -> Reading:
        """A value without quotes: what it is, its schema says."""
        end = notation.after_value.rstrip()
        if set(kinds) == {"string"}:
            self._calls.arguments('"')
            yield from self._until(end, lambda char: self._calls.arguments(_json(char)[1:-1]))
            self._calls.arguments('"')
        elif (yield from self._opens(kinds)):
            yield from self._nested((yield from self._visible()), self._calls.arguments)
            yield from self._mark(end)
        else:
            said = list[str]()
            yield from self._until(end, said.append)
            self._calls.arguments(meant("".join(said), kinds))
        return ""

    def _opens(self, kinds: Collection[str]) -> Generator[None, str, bool]:
        """Whether a list or an object comes next, where there may be one."""
        said = yield from self._char()
        while said[-1] in _BLANKS:
            said += yield from self._char()
        self._back = said + self._back
        return _BRACKETS.get(said[-1]) in kinds

    def _value(self, notation: Notation, tell: Tell, depth: int = 0) -> Reading:
        """A value that says itself where it ends."""
        _require(depth < _MOST_DEPTH)
        char = yield from self._peek()
        if char in {quote[0] for quote in notation.quotes}:
            yield from self._quoted(notation, tell)
        elif char in "[{":
            yield from self._several(notation, tell, depth + 1)
        else:
            said = ""
            while (char := (yield from self._char())).strip() and char not in ",]})":
                said += char
            self._back = char + self._back
            _require(said in WORDS or _NUMBER.fullmatch(said))
            tell(_json(WORDS[said]) if said in WORDS else said)
        return ""

    def _several(self, notation: Notation, tell: Tell, depth: int) -> Reading:
        """A list or an object."""
        opens = yield from self._visible()
        closes = "]" if opens == "[" else "}"
        tell(opens)
        comma = ""

        def item() -> Reading:
            nonlocal comma
            tell(comma)
            comma = ", "
            if opens == "{":
                tell(_json((yield from self._key(notation, notation.colon.strip()))) + ": ")
            yield from self._value(notation, tell, depth)
            return ""

        yield from self._items(item, "", notation.between.strip(), closes)
        tell(closes)
        return ""

    def _quoted(self, notation: Notation, tell: Tell) -> Reading:
        """A text in quotes, told as one of JSON."""
        quote = yield from self._mark(*notation.quotes)
        tell('"')
        if notation.escapes:
            while (char := (yield from self._char())) != quote:
                tell((yield from self._escape()) if char == "\\" else _json(char)[1:-1])
        else:
            yield from self._until(quote, lambda char: tell(_json(char)[1:-1]))
        tell('"')
        return ""

    def _escape(self) -> Reading:
        """What stands behind a backslash in Python, as it is in JSON."""
        char = yield from self._char()
        if char in _JSON_ESCAPES:
            return "\\" + char
        if char in _HEX_DIGITS:
            digits = ""
            while len(digits) < _HEX_DIGITS[char]:
                digits += yield from self._char()
            return f"\\u{digits:0>4}"  # whether these are digits is seen where all is read as JSON
        if char in "'\n":
            return char.strip()
        return "\\\\" + _json(char)[1:-1]

    # --- calls in JSON -----------------------------------------------------------------------------------------------

    def _call_object(self) -> Reading:
        yield from self._mark("{")
        seen = set[str]()
        while True:
            yield from self._mark('"')
            key = yield from self._text()
            yield from self._mark(":")
            if key in (self._form.name_key, self._form.arguments_key):
                _require(key not in seen)
                seen.add(key)
            if key == self._form.name_key:
                yield from self._mark('"')
                self._calls.name((yield from self._text()))
            elif key == self._form.arguments_key:
                yield from self._object()
            else:
                yield from self._any_json()
            if (yield from self._mark(",", "}")) == "}":
                _require(len(seen) == 2)
                return ""

    def _object(self) -> Reading:
        """The arguments, as they are written."""
        said = list[str]()

        def tell(char: str) -> None:
            said.append(char)
            self._calls.arguments(char)

        yield from self._nested((yield from self._mark("{")), tell)
        parse("".join(said))
        return ""

    def _any_json(self) -> Reading:
        """A value that nobody asks for."""
        char = yield from self._visible()
        if char == '"':
            yield from self._text()
        elif char in "{[":
            yield from self._nested(char, lambda _: None)
        else:
            while (char := (yield from self._char())).strip() and char not in ",]}":
                pass
            self._back = char + self._back
        return ""

    def _text(self) -> Reading:
        """A text of JSON whose first quote was read."""
        raw = '"'
        escaped = False
        while len(raw) == 1 or escaped or raw[-1] != '"':
            escaped = not escaped and raw[-1] == "\\"
            raw += yield from self._char()
        return str(parse(raw))

    def _nested(self, opening: str, tell: Tell) -> Reading:
        """An object or a list whose first bracket was read, character by character."""
        tell(opening)
        depth, quoted, escaped = 1, False, False
        while depth:
            char = yield from self._char()
            tell(char)
            if char == '"' and not escaped:
                quoted = not quoted
            elif not quoted:
                depth += (char in "{[") - (char in "}]")
            escaped = quoted and char == "\\" and not escaped
        return ""

    # --- characters --------------------------------------------------------------------------------------------------

    def _char(self) -> Reading:
        if self._back:
            char, self._back = self._back[0], self._back[1:]
            return char
        return (yield)

    def _visible(self) -> Reading:
        char = ""
        while not char.strip():
            char = yield from self._char()
        return char

    def _peek(self) -> Reading:
        """The next one that is visible, which stays to be read."""
        char = yield from self._visible()
        self._back = char + self._back
        return char

    def _mark(self, *marks: str) -> Reading:
        """Which of these comes next, behind any white space."""
        by_text = {mark.strip(): mark for mark in marks}
        said = yield from self._visible()
        while said not in by_text:
            _require(any(text.startswith(said) for text in by_text))
            said += yield from self._char()
        return by_text[said]

    def _ends(self, before: str, closes: str) -> Generator[None, str, bool]:
        """Whether what closes a row comes next, which is read then; else the beginning of one more is read."""
        if before:
            return (yield from self._mark(before, closes)) == closes
        closed = (yield from self._peek()) == closes.strip()[0]
        if closed:
            yield from self._mark(closes)
        return closed

    def _until(self, end: str, tell: Tell) -> Reading:
        """Tells all characters before this end, each as soon as it is none of it."""
        held = ""
        while held != end:
            held += yield from self._char()
            while not end.startswith(held):
                tell(held[0])
                held = held[1:]
        return ""


def _before_name(form: ToolFormat) -> str:
    return form.notation.before_name if form.notation else ""


def meant(text: str, kinds: Collection[str]) -> str:
    """The JSON of a value that stands without quotes: of another type than a text, where these types have one."""
    word = text.strip(_BLANKS)
    try:
        value = WORDS[word] if word in WORDS else parse(word)
    except ValueError:
        value = text
    if not isinstance(value, str) and not _kinds_of(value).isdisjoint(kinds):
        return _json(value) if word in WORDS else word
    _require("string" in kinds)
    return _json(text)


def _kinds_of(value: Any) -> set[str]:
    """The types of JSON Schema that a value has, if it is no text."""
    if value is None or isinstance(value, bool):
        return {"null" if value is None else "boolean"}
    if isinstance(value, int | float):
        return {"number", "integer"} if isinstance(value, int) or value.is_integer() else {"number"}
    return {"array" if isinstance(value, list) else "object"}


def parse(text: str) -> Any:
    """What JSON says. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("this is nested too deep") from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is none of JSON's numbers")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _require(holds: object) -> None:
    if not holds:
        raise ValueError("this is no call")
