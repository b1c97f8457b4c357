"""Calls of functions in an answer, told apart from its text as it streams, in the format that the model writes."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeship.engine.answer import TextStream, held_length
from edgeship.engine.api import CallPiece, ToolCall
from edgeship.engine.functions import Function
from edgeship.package import call_syntax
from edgeship.package.tool_formats import ToolFormat

_ID_CHARACTERS, _SHORT_ID_CHARACTERS = 24, 9
Functions = Mapping[str, Mapping[str, Any]]
"""As OpenAI describes them, by their names."""


@dataclass(frozen=True)
class Read:
    """What a piece of an answer adds: to its text, to calls in the making, and the calls that it completes."""

    text: str = ""
    calling: tuple[CallPiece, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class CallMarks:
    """How a model writes calls. ids: the marks that are tokens of their own and leave no text."""

    format: ToolFormat
    ids: Mapping[str, int] = field(default_factory=dict)


class MarkedText:
    """Text of tokens in which the marks of calls are seen."""

    def __init__(self, text: TextStream, marks: CallMarks) -> None:
        self._text, self._marks = text, {token: mark for mark, token in marks.ids.items()}

    def push(self, token: int) -> str:
        """See TextStream."""
        mark = self._marks.get(token)
        return self._text.push(token) if mark is None else self._text.flush() + mark

    def flush(self) -> str:
        """See TextStream."""
        return self._text.flush()


class CallReader:
    """Reads one answer. What only looks like a call stays text; white space around calls belongs to them.

    functions: those that may be called, as OpenAI describes them.
    hold: is asked where the first call begins whether the answer is held to calls from there on, and is told what the
    answer has said since the mark; where not, that was no call. None: it is held already.
    made: calls that are complete.
    """

    def __init__(
        self, form: ToolFormat, functions: Sequence[Mapping[str, Any]], hold: Callable[[str], bool] | None = None
    ) -> None:
        self._form, self.hold = form, hold
        self._functions = {function["name"]: function for function in functions}
        self._rest = ""  # what is not read yet
        self._calls: _Calls | None = None
        self._said = False  # some text, other than white space
        self._begun = self.made = 0

    def push(self, text: str, *, last: bool = False) -> Read:
        """What is known now. last: nothing follows."""
        self._rest += text
        shown, told = list[str](), list[CallPiece | ToolCall]()
        more = True
        while more:
            if self._calls is None:
                self._take_text(shown, last=last)
            more = self._calls is not None and self._take_calls(self._calls, shown, told, last=last)
        calls = tuple(step for step in told if isinstance(step, ToolCall))
        self.made += len(calls)
        return Read("".join(shown), _merged(step for step in told if isinstance(step, CallPiece)), calls)

    def _take_text(self, shown: list[str], *, last: bool) -> None:
        """Shows the text before what may be a call, which is begun then, or all that cannot be one."""
        found = self._mark()
        if found:
            text, after = self._rest[: found[0]].rstrip(), self._rest[found[1] :]
            self._calls = _Calls(self._form, self._functions, self._begun, self._rest[len(text) : found[1]])
        elif last:
            text, after = self._rest if self._rest.strip() or not self._begun else "", ""
        else:
            held = held_length(self._rest, (self._form.mark,))
            text = self._rest[: len(self._rest) - held].rstrip()
            after = self._rest[len(text) :]
        self._show(text, shown)
        self._rest = after

    def _mark(self) -> tuple[int, int] | None:
        """Where a mark stands, and where it ends. Without one, calls can only be what an answer begins with."""
        start = len(self._rest) - len(self._rest.lstrip())
        opens = self._rest[start : start + 1] == ("[" if self._form.listed else "{")
        if self._form.bare and opens and not self._said and not self._begun:
            return start, start
        mark = self._form.mark
        found = self._rest.find(mark) if mark else -1
        return (found, found + len(mark)) if found >= 0 else None

    def _take_calls(self, calls: _Calls, shown: list[str], told: list[CallPiece | ToolCall], *, last: bool) -> bool:
        """Reads calls on; whether there is more to be read now."""
        self._rest = calls.push(self._rest)
        if self.hold and calls.certain and not calls.failed:
            calls.failed = not self.hold(calls.since_mark)
            self.hold = self.hold if calls.failed else None
        if (calls.failed and self.hold) or ((calls.failed or last) and not calls.begun and not calls.done):
            self._calls = None
            self._put_back(calls.raw + self._rest, shown)
            return True
        told += calls.take()
        self._begun = calls.index
        if calls.done or calls.failed or last:
            self._calls = None
        return self._calls is None

    def _put_back(self, text: str, shown: list[str]) -> None:
        """What looked like calls is text; there may be some behind its first character."""
        first = len(text) - len(text.lstrip()) + 1
        self._show(text[:first], shown)
        self._rest = text[first:]

    def _show(self, text: str, shown: list[str]) -> None:
        shown.append(text)
        self._said = self._said or bool(text.strip())


class _Calls:
    """The calls behind one mark, or what looks like them.

    prefix: the mark, with white space before it. index: of the next call. raw: what was read until it was begun.
    begun: name and arguments of one are there. certain: it is a call, if the rest fits.
    """

    def __init__(self, form: ToolFormat, functions: Functions, index: int, prefix: str) -> None:
        self._functions, self._prefix, self._short_ids = functions, prefix, form.short_ids
        # A schema is read for the first argument that asks, and not for each.
        self._function = functools.cache(lambda name: Function.of(functions[name]))
        self.raw, self.index = prefix, index
        self.begun = self.done = self.failed = False
        self._told: list[CallPiece | ToolCall] = []
        self._call = _Call()
        self._reading = call_syntax.reading(form, self)
        next(self._reading)

    @property
    def since_mark(self) -> str:
        """What was read after the mark."""
        return self.raw[len(self._prefix) :]

    @property
    def certain(self) -> bool:
        return self.begun or bool(self._prefix.strip())

    def push(self, text: str) -> str:
        """Reads on; gives back what is none of the calls'."""
        known = self.begun
        end = self._read(text)
        self.raw += "" if known else text[:end]
        return text[end:]

    def _read(self, text: str) -> int:
        """How many of the characters belong to the calls."""
        for number, char in enumerate(text):
            try:
                self._reading.send(char)
            except StopIteration:
                self.done = True
                return number + 1
            except ValueError:  # json's are, too
                self.failed = True
                return number
        return len(text)

    def take(self) -> list[CallPiece | ToolCall]:
        """What has become known since the last time."""
        told, self._told = self._told, []
        return told

    # --- what is told of each call, see call_syntax.Calls -----------------------------------------------------------

    def naming(self, beginning: str) -> None:
        if not any(name.startswith(beginning.rstrip()) for name in self._functions):
            raise ValueError("no function is called so")

    def name(self, name: str) -> None:
        if name not in self._functions:
            raise ValueError("no function is called so")
        self._call.name = name
        self._begin()

    def arguments(self, piece: str) -> None:
        self._call.arguments.append(piece)
        if self._call.id:
            self._told.append(CallPiece(self._call.index, None, None, piece))
        else:
            self._begin()

    def kinds(self, argument: str) -> Collection[str]:
        return self._function(self._call.name).kinds(argument) or call_syntax.ANY_KIND

    def end(self) -> None:
        call, self._call = self._call, _Call()
        arguments = "".join(call.arguments)
        call_syntax.parse(arguments)
        self._told.append(ToolCall(call.id, call.name, arguments))

    def _begin(self) -> None:
        """Tells of a call once name and arguments are there, in whichever order."""
        call = self._call
        if call.name and call.arguments:
            characters = _SHORT_ID_CHARACTERS if self._short_ids else _ID_CHARACTERS
            call.id = ("" if self._short_ids else "call_") + uuid.uuid4().hex[:characters]
            call.index = self.index
            self.index += 1
            self.begun = True
            self._told.append(CallPiece(call.index, call.id, call.name, "".join(call.arguments)))


@dataclass
class _Call:
    """What is known of one call. arguments: their JSON, in pieces."""

    id: str = ""
    name: str = ""
    index: int = 0
    arguments: list[str] = field(default_factory=list)


def _merged(pieces: Iterable[CallPiece]) -> tuple[CallPiece, ...]:
    """The pieces of each call as one."""
    found: dict[int, CallPiece] = {}
    for piece in pieces:
        before = found.get(piece.index)
        found[piece.index] = replace(before, arguments=before.arguments + piece.arguments) if before else piece
    return tuple(found.values())
