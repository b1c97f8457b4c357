"""The assertions by the field's names: what each is held against, and what it finds in an answer. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from edgeship.engine.answer import Answer
from edgeship.engine.api import ToolCall
from edgeship.engine.thinking import answer_of
from edgeship.measure.cases import patterns, schemas
from edgeship.measure.cases.json_values import at_path, contained, json_equal, parse_json, path_steps
from edgeship.system.fields import shown

DEFAULT_SIMILARITY = 0.75
_DEFAULT_EDITS, _MOST_EDITS = 5, 500
_FINISHES = ("stop", "length", "tool_calls")
Unit = Literal["characters", "words", "tokens"]
Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]
"""Texts as vectors, by an embedding model."""


@dataclass(frozen=True)
class Reply:
    """What a target answered, as far as it is known."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish: str | None = None
    e2e_s: float | None = None
    tokens: int | None = None

    @classmethod
    def of(cls, answer: Answer) -> Reply:
        """The same of an answer that was just made; what a model thinks before it is none of its tokens."""
        usage = answer.usage
        tokens = usage.completion_tokens - usage.reasoning_tokens
        # Not every target counts: an answer with a text has tokens.
        known = tokens if tokens > 0 or not answer.text else None
        return cls(answer.text, answer.tool_calls, answer.finish, usage.e2e_s, known)


@dataclass(frozen=True)
class Around:
    """What else an assertion looks at. tools: that could be called. embed: for `similar`."""

    tools: Sequence[Mapping[str, Any]] = ()
    embed: Embed | None = None


class Stated(Protocol):
    """What an assertion is held against, see `assertions.Assertion`."""

    @property
    def base(self) -> str: ...
    @property
    def value(self) -> Any: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def path(self) -> str | None: ...
    @property
    def unit(self) -> Unit | None: ...


class Found(NamedTuple):
    passed: bool
    score: float
    reason: str


class CannotBeTold(Exception):
    """What an assertion asks for is not known of this answer."""


Look = Callable[[Stated, Reply, str, Around], Found]


@dataclass(frozen=True)
class Kind:
    """require: raises ValueError for a value that is none. fields: that it reads, beside those of all assertions."""

    look: Look
    require: Callable[[Stated], object]
    fields: frozenset[str] = frozenset(("value",))
    value_required: bool = True


def _found(passed: bool, reason: str) -> Found:
    return Found(passed, float(passed), reason)


# --- texts ---------------------------------------------------------------------------------------------------------


def _as_text(value: Any) -> str:
    """A text as it is, and a number or a truth as JSON writes it: promptfoo's files have such. Raises ValueError."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ValueError(f"its value is {shown(value)}, and must be a text")


def _require_text(stated: Stated) -> None:
    if not _as_text(stated.value).strip():
        raise ValueError("its value is an empty text, which is in every answer")


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"its value is {shown(value)}, and must be a list of texts")
    return [_as_text(each) for each in value]


def _require_texts(stated: Stated) -> None:
    if not all(text.strip() for text in _texts(stated.value)):
        raise ValueError("its value has an empty text, which is in every answer")


def _equals(stated: Stated, _: Reply, text: str, __: Around) -> Found:
    return _is_one_of([stated.value], text)


def _one_of(stated: Stated, _: Reply, text: str, __: Around) -> Found:
    return _is_one_of(stated.value, text)


def _is_one_of(values: Sequence[Any], text: str) -> Found:
    """Texts are compared without the white space around them, all else as JSON."""
    said = text.strip()
    same = [value for value in values if isinstance(value, str) and answer_of(value).strip() == said]
    others = [value for value in values if not isinstance(value, str)]
    if not same and others:
        try:
            same = [value for value in others if json_equal(value, parse_json(text))]
        except ValueError as error:
            return _found(False, f"it is {shown(said)}, which is no JSON: {error}")
    wanted = shown(values[0]) if len(values) == 1 else f"one of {shown(list(values))}"
    return _found(bool(same), f"it is {shown(same[0])}" if same else f"it is {shown(said)}, and not {wanted}")


def _containing(*, folded: bool, every: bool) -> Look:
    def look(stated: Stated, _: Reply, text: str, __: Around) -> Found:
        texts = _texts(stated.value) if isinstance(stated.value, list | tuple) else [_as_text(stated.value)]
        where = text.casefold() if folded else text
        there = [each for each in texts if (each.casefold() if folded else each) in where]
        lacking = [each for each in texts if each not in there]
        passed = not lacking if every else bool(there)
        if passed:
            return _found(True, f"it contains {', '.join(map(shown, there))}")
        return _found(False, f"it does not contain {', '.join(map(shown, lacking))}")

    return look


def _starts_with(stated: Stated, _: Reply, text: str, __: Around) -> Found:
    begin, said = _as_text(stated.value), text.strip()
    return _found(said.startswith(begin), f"it starts with {shown(said[: len(begin)])}")


def _require_pattern(stated: Stated) -> None:
    try:
        patterns.require_pattern(_as_text(stated.value))
    except ValueError as error:
        raise ValueError(f"its pattern cannot be searched for: {error}") from error


def _regex(stated: Stated, _: Reply, text: str, __: Around) -> Found:
    found = patterns.is_found(_as_text(stated.value), text)
    return _found(found, f"{shown(stated.value)} is {'' if found else 'not '}found")


def _require_distance(stated: Stated) -> None:
    _as_text(stated.value)
    if stated.threshold is not None and not 0 <= stated.threshold <= _MOST_EDITS:
        raise ValueError(f"its threshold must be from 0 to {_MOST_EDITS} characters")


def _levenshtein(stated: Stated, _: Reply, text: str, __: Around) -> Found:
    most = int(_DEFAULT_EDITS if stated.threshold is None else stated.threshold)
    edits = _edits(text.strip(), _as_text(stated.value).strip(), most)
    return _found(edits <= most, f"it differs by {edits if edits <= most else f'more than {most}'} characters")


def _edits(one: str, other: str, most: int) -> int:
    """Characters to put in, take out or exchange to make one text the other; `most` + 1 where it is more than that."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    far = most + 1
    row = {at: at for at in range(min(len(other), most) + 1)}
    for at, char in enumerate(one, 1):
        # Only places that `most` edits can reach are looked at.
        below: dict[int, int] = {}
        for place in range(max(0, at - most), min(len(other), at + most) + 1):
            kept = row.get(place - 1, far) + (place > 0 and char != other[place - 1]) if place else far
            below[place] = min(kept, row.get(place, far) + 1, below.get(place - 1, far) + 1)
        row = below
    return min(row.get(len(other), far), far)


# --- JSON ----------------------------------------------------------------------------------------------------------


def _require_schema(stated: Stated) -> None:
    if stated.value is None and stated.base != "json-schema":
        return
    try:
        schemas.require_schema(stated.value)
    except ValueError as error:
        raise ValueError(f"its value is no JSON schema: {error}") from error


def _is_json(stated: Stated, _: Reply, text: str, __: Around) -> Found:
    try:
        value = parse_json(text)
    except ValueError as error:
        return _found(False, f"it is no JSON: {error}")
    fault = None if stated.value is None else schemas.fault(stated.value, value)
    return _found(fault is None, fault or ("it is JSON" if stated.value is None else "the schema allows it"))


def _contains_json(stated: Stated, _: Reply, text: str, __: Around) -> Found:
    fault: str | None = "there is no JSON object or array in it"
    for value in contained(text):
        fault = None if stated.value is None else schemas.fault(stated.value, value)
        if fault is None:
            return _found(True, f"it contains {shown(value)}")
    return _found(False, str(fault))


def _equals_json(stated: Stated, _: Reply, text: str, __: Around) -> Found:
    try:
        value = parse_json(text)
    except ValueError as error:
        return _found(False, f"it is no JSON: {error}")
    same = json_equal(stated.value, value)
    return _found(same, f"it is {shown(value)}" + ("" if same else f", and not {shown(stated.value)}"))


def _require_path(stated: Stated) -> None:
    if stated.path is None:
        raise ValueError('json-path needs a path, such as "$.items[0].name"')
    path_steps(stated.path)


def _json_path(stated: Stated, _: Reply, text: str, __: Around) -> Found:
    path = stated.path or "$"
    try:
        value = at_path(parse_json(text), path_steps(path))
    except ValueError as error:
        return _found(False, f"it is no JSON: {error}")
    except LookupError as error:
        return _found(False, str(error.args[0]))
    same = json_equal(stated.value, value)
    return _found(same, f"{path} is {shown(value)}" + ("" if same else f", and not {shown(stated.value)}"))


# --- size, time and end --------------------------------------------------------------------------------------------


def _require_count(stated: Stated) -> None:
    value = stated.value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"its value is {shown(value)}, and must be a whole number of {stated.unit or 'characters'}")


def _length(reply: Reply, text: str, unit: Unit | None) -> int:
    if unit == "tokens":
        if reply.tokens is None:
            raise CannotBeTold("its tokens are not counted by this target")
        return reply.tokens
    return len(text.split()) if unit == "words" else len(text.strip())


def _max_length(stated: Stated, reply: Reply, text: str, _: Around) -> Found:
    length = _length(reply, text, stated.unit)
    return _found(length <= stated.value, f"it has {length} {stated.unit or 'characters'}")


def _min_length(stated: Stated, reply: Reply, text: str, _: Around) -> Found:
    length = _length(reply, text, stated.unit)
    return _found(length >= stated.value, f"it has {length} {stated.unit or 'characters'}")


def _word_range(value: Any) -> tuple[float, float]:
    """The fewest and most words: promptfoo has a number, or an object of min and max. Raises ValueError."""
    bounds = value if isinstance(value, dict) else {"min": value, "max": value}
    numbers = [each for each in bounds.values() if isinstance(each, int) and not isinstance(each, bool) and each >= 0]
    if not bounds or not bounds.keys() <= {"min", "max"} or len(numbers) != len(bounds):
        raise ValueError(f'its value is {shown(value)}, and must be a number, or {{"min": NUMBER, "max": NUMBER}}')
    least, most = bounds.get("min", 0), bounds.get("max", math.inf)
    if least > most:
        raise ValueError("its min is larger than its max")
    return least, most


def _word_count(stated: Stated, _: Reply, text: str, __: Around) -> Found:
    least, most = _word_range(stated.value)
    words = len(text.split())
    return _found(least <= words <= most, f"it has {words} words")


def _require_milliseconds(stated: Stated) -> None:
    if stated.threshold is None or stated.threshold <= 0:
        raise ValueError("latency needs a threshold in milliseconds")


def _latency(stated: Stated, reply: Reply, _: str, __: Around) -> Found:
    if reply.e2e_s is None:
        raise CannotBeTold("how long it took is not known")
    took_ms = reply.e2e_s * 1000
    return _found(took_ms <= (stated.threshold or 0), f"it took {took_ms:.0f} ms")


def _require_finish(stated: Stated) -> None:
    if stated.value not in _FINISHES:
        raise ValueError(f"its value is {shown(stated.value)}, and must be one of {', '.join(_FINISHES)}")


def _finish_reason(stated: Stated, reply: Reply, _: str, __: Around) -> Found:
    if reply.finish is None:
        raise CannotBeTold("why it ended is not known")
    return _found(reply.finish == stated.value, f"it ended with {reply.finish!r}")


# --- calls ---------------------------------------------------------------------------------------------------------


def wanted_calls(value: Any) -> list[tuple[str, Any]]:
    """Names and arguments of calls: {"name": ..., "arguments": {...}}, or as OpenAI has them. Raises ValueError."""
    calls = []
    for number, each in enumerate(value if isinstance(value, list | tuple) else [value], 1):
        inner = each.get("function", each) if isinstance(each, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            raise ValueError(f'call {number} is not {{"name": ..., "arguments": {{...}}}}')
        arguments = inner.get("arguments", {})
        arguments = parse_json(arguments) if isinstance(arguments, str) else arguments
        if not isinstance(arguments, Mapping):
            raise ValueError(f"call {number} has arguments that are no object")
        calls.append((inner["name"], arguments))
    return calls


def _tool_calls(stated: Stated, reply: Reply, _: str, __: Around) -> Found:
    """The same calls in any order, since those of one answer are made side by side."""
    left = wanted_calls(stated.value)
    made = [f"{call.name}({call.arguments})" for call in reply.tool_calls]
    reason = f"it calls {', '.join(map(shown, made))}" if made else "it calls nothing"
    for call in reply.tool_calls:
        match = next((each for each in left if each[0] == call.name and _same_arguments(each[1], call)), None)
        if match is None:
            return _found(False, reason)
        left.remove(match)
    return _found(not left, reason if not left else f"{reason}, and not {shown(left[0][0])} with {shown(left[0][1])}")


def _same_arguments(wanted: Any, call: ToolCall) -> bool:
    try:
        return json_equal(wanted, parse_json(call.arguments or "{}"))
    except ValueError:
        return False


def _is_valid_call(_: Stated, reply: Reply, __: str, around: Around) -> Found:
    functions = {tool["function"]["name"]: tool["function"] for tool in around.tools}
    if not reply.tool_calls:
        return _found(False, "it calls nothing")
    for call in reply.tool_calls:
        if call.name not in functions:
            return _found(False, f"it calls {shown(call.name)}, and no tool has that name")
        try:
            arguments = parse_json(call.arguments or "{}")
        except ValueError as error:
            return _found(False, f"the arguments of {shown(call.name)} are no JSON: {error}")
        if not isinstance(arguments, dict):
            return _found(False, f"the arguments of {shown(call.name)} are no object")
        fault = schemas.fault(functions[call.name].get("parameters") or {}, arguments)
        if fault is not None:
            return _found(False, f"the arguments of {shown(call.name)}: {fault}")
    return _found(True, f"it calls {', '.join(shown(call.name) for call in reply.tool_calls)}")


# --- meaning -------------------------------------------------------------------------------------------------------


def _require_similar(stated: Stated) -> None:
    _require_texts(stated) if isinstance(stated.value, list) else _require_text(stated)
    if stated.threshold is not None and not 0 <= stated.threshold <= 1:
        raise ValueError("its threshold must be from 0 to 1")


def _similar(stated: Stated, _: Reply, text: str, around: Around) -> Found:
    if around.embed is None:
        raise CannotBeTold("there is no embedding model to compare it by")
    texts = _texts(stated.value) if isinstance(stated.value, list) else [_as_text(stated.value)]
    said, *others = around.embed([text.strip(), *texts])
    nearest = max(_cosine(said, other) for other in others)
    threshold = DEFAULT_SIMILARITY if stated.threshold is None else stated.threshold
    return Found(nearest >= threshold, min(1.0, max(0.0, nearest)), f"its similarity is {nearest:.2f}")


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    length = math.hypot(*one) * math.hypot(*other)
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / length if length else 0.0


def _any_value(_: Stated) -> None:
    pass


_NOTHING, _THRESHOLD = frozenset[str](), frozenset(("threshold",))
_SIZED, _NEARNESS = frozenset(("value", "unit")), frozenset(("value", "threshold"))
_VALID_CALL = Kind(_is_valid_call, _any_value, _NOTHING)
KINDS: dict[str, Kind] = {
    "equals": Kind(_equals, _any_value),
    "equals-json": Kind(_equals_json, _any_value),
    "one-of": Kind(_one_of, lambda each: _require_list(each)),
    "contains": Kind(_containing(folded=False, every=True), _require_text),
    "contains-all": Kind(_containing(folded=False, every=True), _require_texts),
    "contains-any": Kind(_containing(folded=False, every=False), _require_texts),
    "icontains": Kind(_containing(folded=True, every=True), _require_text),
    "icontains-all": Kind(_containing(folded=True, every=True), _require_texts),
    "icontains-any": Kind(_containing(folded=True, every=False), _require_texts),
    "starts-with": Kind(_starts_with, _require_text),
    "regex": Kind(_regex, _require_pattern),
    "is-json": Kind(_is_json, _require_schema, value_required=False),
    "contains-json": Kind(_contains_json, _require_schema, value_required=False),
    "json-schema": Kind(_is_json, _require_schema),
    "json-path": Kind(_json_path, _require_path, frozenset(("value", "path"))),
    "max-length": Kind(_max_length, _require_count, _SIZED),
    "min-length": Kind(_min_length, _require_count, _SIZED),
    "word-count": Kind(_word_count, lambda each: _word_range(each.value)),
    "latency": Kind(_latency, _require_milliseconds, _THRESHOLD),
    "finish-reason": Kind(_finish_reason, _require_finish),
    "tool-calls": Kind(_tool_calls, lambda each: wanted_calls(each.value)),
    "is-valid-function-call": _VALID_CALL,
    "is-valid-openai-function-call": _VALID_CALL,
    "is-valid-openai-tools-call": _VALID_CALL,
    "levenshtein": Kind(_levenshtein, _require_distance, _NEARNESS),
    "similar": Kind(_similar, _require_similar, _NEARNESS),
}
NEEDS_TOOLS = frozenset(["tool-calls", *(name for name, kind in KINDS.items() if kind is _VALID_CALL)])


def _require_list(stated: Stated) -> None:
    if not isinstance(stated.value, list) or not stated.value:
        raise ValueError(f"its value is {shown(stated.value)}, and must be a list of right answers")
