"""What an answer must be like: assertions by the field's names, and what each finds. Pure.

`not-` before a name asks for the opposite. What cannot be told of an answer, such as the tokens of one whose target
counts none, holds neither way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgeship.engine.answer import Answer
from edgeship.engine.api import ToolCall
from edgeship.engine.thinking import answer_of
from edgeship.measure import patterns, schemas
from edgeship.measure.json_values import at_path, contained, json_equal, parse_json, path_steps
from edgeship.system.fields import shown
from edgeship.system.text import meant

NOT = "not-"
DEFAULT_SIMILARITY = 0.75
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
        """The same of an answer that was just made."""
        usage = answer.usage
        return cls(answer.text, answer.tool_calls, answer.finish, usage.e2e_s, usage.completion_tokens)


@dataclass(frozen=True)
class Around:
    """What else an assertion looks at. tools: that could be called. embed: for `similar`."""

    tools: Sequence[Mapping[str, Any]] = ()
    embed: Embed | None = None


@dataclass(frozen=True)
class AssertionResult:
    """What one assertion found. score: from 0 to 1. weight: in the score of its case. reason: in words."""

    name: str
    passed: bool
    score: float
    weight: float
    reason: str


class Assertion(BaseModel):
    """One thing that an answer must be like.

    type: its name, perhaps after `not-`. value, threshold, path, unit: what it is held against, see `docs/evaluations`.
    weight: in the score of the case; 0 only reports. metric: what reports call it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(min_length=1)
    value: Any = None
    threshold: float | None = Field(default=None, allow_inf_nan=False)
    path: str | None = None
    unit: Unit | None = None
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    metric: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _can_be_checked(self) -> Assertion:
        kind = _KINDS.get(self.base)
        if kind is None:
            raise ValueError(_unknown(self.type))
        for name in ("value", "threshold", "path", "unit"):
            if name not in kind.fields and getattr(self, name) is not None:
                raise ValueError(f"{self.type} has no {name}")
        if "value" in kind.fields and kind.value_required and "value" not in self.model_fields_set:
            raise ValueError(f"{self.type} needs a value")
        kind.require(self)
        return self

    @property
    def base(self) -> str:
        """The name without `not-`."""
        return self.type.removeprefix(NOT)

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.metric or self.type

    @property
    def told(self) -> str:
        """The assertion in a few words, for people."""
        value = None if self.value is None and self.base != "json-path" else shown(self.value)
        limit = None if self.threshold is None else f"{self.threshold:g}"
        return " ".join(part for part in (self.type, self.path, value, limit, self.unit) if part)


def check(assertion: Assertion, reply: Reply, around: Around = Around()) -> AssertionResult:
    """What an assertion finds in an answer; thoughts before it are left aside. Raises what `around.embed` raises."""
    opposite = assertion.type.startswith(NOT)
    try:
        found = _KINDS[assertion.base].look(assertion, reply, answer_of(reply.text), around)
        score, passed = found.score, found.passed
        if opposite:
            score, passed = 1 - score, not passed
        reason = found.reason
    except _CannotBeTold as error:
        score, passed, reason = 0.0, False, str(error)
    return AssertionResult(assertion.name, passed, score, assertion.weight, reason)


def is_known(name: str) -> bool:
    """Whether there is an assertion of that name."""
    return name.removeprefix(NOT) in _KINDS


class _Found(NamedTuple):
    passed: bool
    score: float
    reason: str


class _CannotBeTold(Exception):
    """What an assertion asks for is not known of this answer."""


_Look = Callable[[Assertion, Reply, str, Around], _Found]


@dataclass(frozen=True)
class _Kind:
    """require: raises ValueError for a value that is none. fields: that it reads, beside those of all assertions."""

    look: _Look
    require: Callable[[Assertion], object]
    fields: frozenset[str] = frozenset(("value",))
    value_required: bool = True


def _found(passed: bool, reason: str) -> _Found:
    return _Found(passed, float(passed), reason)


def _unknown(name: str) -> str:
    close = meant(name, [*_KINDS, *(f"{NOT}{known}" for known in _KINDS)])
    return f"there is no assertion {shown(name)}" + (f"; did you mean {close}?" if close else "")


# --- texts ---------------------------------------------------------------------------------------------------------


def _as_text(value: Any) -> str:
    """A text as it is, and a number or a truth as JSON writes it: promptfoo's files have such. Raises ValueError."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ValueError(f"its value is {shown(value)}, and must be a text")


def _require_text(assertion: Assertion) -> None:
    if not _as_text(assertion.value).strip():
        raise ValueError("its value is an empty text, which is in every answer")


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"its value is {shown(value)}, and must be a list of texts")
    return [_as_text(each) for each in value]


def _require_texts(assertion: Assertion) -> None:
    if not all(text.strip() for text in _texts(assertion.value)):
        raise ValueError("its value has an empty text, which is in every answer")


def _equals(assertion: Assertion, _: Reply, text: str, __: Around) -> _Found:
    return _is_one_of([assertion.value], text)


def _one_of(assertion: Assertion, _: Reply, text: str, __: Around) -> _Found:
    return _is_one_of(assertion.value, text)


def _is_one_of(values: Sequence[Any], text: str) -> _Found:
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


def _containing(*, folded: bool, every: bool) -> _Look:
    def look(assertion: Assertion, _: Reply, text: str, __: Around) -> _Found:
        texts = _texts(assertion.value) if isinstance(assertion.value, list | tuple) else [_as_text(assertion.value)]
        where = text.casefold() if folded else text
        there = [each for each in texts if (each.casefold() if folded else each) in where]
        lacking = [each for each in texts if each not in there]
        passed = not lacking if every else bool(there)
        if passed:
            return _found(True, f"it contains {', '.join(map(shown, there))}")
        return _found(False, f"it does not contain {', '.join(map(shown, lacking))}")

    return look


def _starts_with(assertion: Assertion, _: Reply, text: str, __: Around) -> _Found:
    begin, said = _as_text(assertion.value), text.strip()
    return _found(said.startswith(begin), f"it starts with {shown(said[: len(begin)])}")


def _require_pattern(assertion: Assertion) -> None:
    try:
        patterns.require_pattern(_as_text(assertion.value))
    except ValueError as error:
        raise ValueError(f"its pattern cannot be searched for: {error}") from error


def _regex(assertion: Assertion, _: Reply, text: str, __: Around) -> _Found:
    found = patterns.is_found(_as_text(assertion.value), text)
    return _found(found, f"{shown(assertion.value)} is {'' if found else 'not '}found")


# --- JSON ----------------------------------------------------------------------------------------------------------


def _require_schema(assertion: Assertion) -> None:
    if assertion.value is None and assertion.base != "json-schema":
        return
    try:
        schemas.require_schema(assertion.value)
    except ValueError as error:
        raise ValueError(f"its value is no JSON schema: {error}") from error


def _is_json(assertion: Assertion, _: Reply, text: str, __: Around) -> _Found:
    try:
        value = parse_json(text)
    except ValueError as error:
        return _found(False, f"it is no JSON: {error}")
    fault = None if assertion.value is None else schemas.fault(assertion.value, value)
    return _found(fault is None, fault or ("it is JSON" if assertion.value is None else "the schema allows it"))


def _contains_json(assertion: Assertion, _: Reply, text: str, __: Around) -> _Found:
    fault: str | None = "there is no JSON object or array in it"
    for value in contained(text):
        fault = None if assertion.value is None else schemas.fault(assertion.value, value)
        if fault is None:
            return _found(True, f"it contains {shown(value)}")
    return _found(False, str(fault))


def _equals_json(assertion: Assertion, _: Reply, text: str, __: Around) -> _Found:
    try:
        value = parse_json(text)
    except ValueError as error:
        return _found(False, f"it is no JSON: {error}")
    same = json_equal(assertion.value, value)
    return _found(same, f"it is {shown(value)}" + ("" if same else f", and not {shown(assertion.value)}"))


def _require_path(assertion: Assertion) -> None:
    if assertion.path is None:
        raise ValueError('json-path needs a path, such as "$.items[0].name"')
    path_steps(assertion.path)


def _json_path(assertion: Assertion, _: Reply, text: str, __: Around) -> _Found:
    path = assertion.path or "$"
    try:
        value = at_path(parse_json(text), path_steps(path))
    except ValueError as error:
        return _found(False, f"it is no JSON: {error}")
    except LookupError as error:
        return _found(False, str(error.args[0]))
    same = json_equal(assertion.value, value)
    return _found(same, f"{path} is {shown(value)}" + ("" if same else f", and not {shown(assertion.value)}"))


# --- size, time and end --------------------------------------------------------------------------------------------


def _require_count(assertion: Assertion) -> None:
    value = assertion.value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"its value is {shown(value)}, and must be a whole number of {assertion.unit or 'characters'}")


def _length(reply: Reply, text: str, unit: Unit | None) -> int:
    if unit == "tokens":
        if reply.tokens is None:
            raise _CannotBeTold("its tokens are not counted by this target")
        return reply.tokens
    return len(text.split()) if unit == "words" else len(text.strip())


def _max_length(assertion: Assertion, reply: Reply, text: str, _: Around) -> _Found:
    length = _length(reply, text, assertion.unit)
    return _found(length <= assertion.value, f"it has {length} {assertion.unit or 'characters'}")


def _min_length(assertion: Assertion, reply: Reply, text: str, _: Around) -> _Found:
    length = _length(reply, text, assertion.unit)
    return _found(length >= assertion.value, f"it has {length} {assertion.unit or 'characters'}")


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


def _word_count(assertion: Assertion, _: Reply, text: str, __: Around) -> _Found:
    least, most = _word_range(assertion.value)
    words = len(text.split())
    return _found(least <= words <= most, f"it has {words} words")


def _require_milliseconds(assertion: Assertion) -> None:
    if assertion.threshold is None or assertion.threshold <= 0:
        raise ValueError("latency needs a threshold in milliseconds")


def _latency(assertion: Assertion, reply: Reply, _: str, __: Around) -> _Found:
    if reply.e2e_s is None:
        raise _CannotBeTold("how long it took is not known")
    took_ms = reply.e2e_s * 1000
    return _found(took_ms <= (assertion.threshold or 0), f"it took {took_ms:.0f} ms")


def _require_finish(assertion: Assertion) -> None:
    if assertion.value not in _FINISHES:
        raise ValueError(f"its value is {shown(assertion.value)}, and must be one of {', '.join(_FINISHES)}")


def _finish_reason(assertion: Assertion, reply: Reply, _: str, __: Around) -> _Found:
    if reply.finish is None:
        raise _CannotBeTold("why it ended is not known")
    return _found(reply.finish == assertion.value, f"it ended with {reply.finish!r}")


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


def _tool_calls(assertion: Assertion, reply: Reply, _: str, __: Around) -> _Found:
    """The same calls in any order, since those of one answer are made side by side."""
    left = wanted_calls(assertion.value)
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


def _is_valid_call(_: Assertion, reply: Reply, __: str, around: Around) -> _Found:
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


def _require_similar(assertion: Assertion) -> None:
    _require_texts(assertion) if isinstance(assertion.value, list) else _require_text(assertion)
    if assertion.threshold is not None and not 0 <= assertion.threshold <= 1:
        raise ValueError("its threshold must be from 0 to 1")


def _similar(assertion: Assertion, _: Reply, text: str, around: Around) -> _Found:
    if around.embed is None:
        raise _CannotBeTold("there is no embedding model to compare it by")
    texts = _texts(assertion.value) if isinstance(assertion.value, list) else [_as_text(assertion.value)]
    said, *others = around.embed([text.strip(), *texts])
    nearest = max(_cosine(said, other) for other in others)
    threshold = DEFAULT_SIMILARITY if assertion.threshold is None else assertion.threshold
    return _Found(nearest >= threshold, min(1.0, max(0.0, nearest)), f"its similarity is {nearest:.2f}")


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    length = math.hypot(*one) * math.hypot(*other)
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / length if length else 0.0


def _any_value(_: Assertion) -> None:
    pass


_NOTHING, _THRESHOLD = frozenset[str](), frozenset(("threshold",))
_SIZED = frozenset(("value", "unit"))
_VALID_CALL = _Kind(_is_valid_call, _any_value, _NOTHING)
_KINDS: dict[str, _Kind] = {
    "equals": _Kind(_equals, _any_value),
    "equals-json": _Kind(_equals_json, _any_value),
    "one-of": _Kind(_one_of, lambda each: _require_list(each)),
    "contains": _Kind(_containing(folded=False, every=True), _require_text),
    "contains-all": _Kind(_containing(folded=False, every=True), _require_texts),
    "contains-any": _Kind(_containing(folded=False, every=False), _require_texts),
    "icontains": _Kind(_containing(folded=True, every=True), _require_text),
    "icontains-all": _Kind(_containing(folded=True, every=True), _require_texts),
    "icontains-any": _Kind(_containing(folded=True, every=False), _require_texts),
    "starts-with": _Kind(_starts_with, _require_text),
    "regex": _Kind(_regex, _require_pattern),
    "is-json": _Kind(_is_json, _require_schema, value_required=False),
    "contains-json": _Kind(_contains_json, _require_schema, value_required=False),
    "json-schema": _Kind(_is_json, _require_schema),
    "json-path": _Kind(_json_path, _require_path, frozenset(("value", "path"))),
    "max-length": _Kind(_max_length, _require_count, _SIZED),
    "min-length": _Kind(_min_length, _require_count, _SIZED),
    "word-count": _Kind(_word_count, lambda each: _word_range(each.value)),
    "latency": _Kind(_latency, _require_milliseconds, _THRESHOLD),
    "finish-reason": _Kind(_finish_reason, _require_finish),
    "tool-calls": _Kind(_tool_calls, lambda each: wanted_calls(each.value)),
    "is-valid-function-call": _VALID_CALL,
    "is-valid-openai-function-call": _VALID_CALL,
    "is-valid-openai-tools-call": _VALID_CALL,
    "similar": _Kind(_similar, _require_similar, frozenset(("value", "threshold"))),
}
NAMES = tuple(_KINDS)
"""Of all assertions, without `not-`."""
NEEDS_TOOLS = frozenset(["tool-calls", *(name for name, kind in _KINDS.items() if kind is _VALID_CALL)])


def _require_list(assertion: Assertion) -> None:
    if not isinstance(assertion.value, list) or not assertion.value:
        raise ValueError(f"its value is {shown(assertion.value)}, and must be a list of right answers")
