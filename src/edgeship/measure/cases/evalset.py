"""Evaluation files: conversations with the answer each must get, one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from edgeship.engine.api import Constraint, Conversation
from edgeship.engine.thinking import answer_of
from edgeship.errors import EvalInvalid, PromptInvalid
from edgeship.measure.cases import promptfoo, schemas
from edgeship.measure.cases.assertions import (
    MOST_WEIGHT,
    Around,
    Assertion,
    AssertionResult,
    Embed,
    Reply,
    check,
    wanted_calls,
)
from edgeship.measure.cases.json_values import parse_json
from edgeship.package.example_files import Kind
from edgeship.package.examples import READ, document, unified
from edgeship.progress import Progress, silent
from edgeship.system import json_file
from edgeship.system.fields import in_words
from edgeship.system.text import meant

Some = TypeVar("Some")

LISTED_FAULTS = 5
_ROUNDING = 1e-9
_LATER = "later"
# What a line of another shape may say of its case; anything else under these names is no business of ours.
_MARKS: dict[str, Callable[[Any], bool]] = {
    "tags": lambda value: isinstance(value, list) and all(isinstance(tag, str) and tag for tag in value),
    "weight": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST_WEIGHT,
    "seed": lambda value: type(value) is int and 0 <= value < 1 << 64,
    "parallel_tool_calls": lambda value: isinstance(value, bool),
}
_NO_FIELD = "this field is not read"
_FORMAT = (
    'Each line is one object: {"id": "a1", "messages": [{"role": "user", "content": "..."}], "expected": "..."}; '
    '"id", "slice" and "match" are optional, and "assert" may stand for "expected". Fine-tuning files are read too: '
    '"messages" that end with the assistant, '
    'ShareGPT\'s "conversations", "prompt" and "completion", "instruction", "input" and "output", "question" and '
    '"answer".'
)
_PREFERENCE = (
    'These are preferences, and "chosen" is one answer of many: where a question has one right answer, give that as '
    f'"expected", beside "messages" or "prompt". {_FORMAT}'
)
_FILE = Kind(EvalInvalid, "evaluation", "--eval", "question and answer")


class _Unfit(ValueError):
    """A line that is JSON and no case."""


class EvalMessage(BaseModel):
    """One turn of a conversation. tool_calls: of the assistant, as OpenAI has them; tool_call_id: which of them a tool
    answers. name: who speaks, for templates that show it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _may_be_null(cls, content: Any) -> Any:
        return "" if content is None else content

    @model_validator(mode="after")
    def _is_a_turn(self) -> EvalMessage:
        if not (self.content or self.tool_calls):
            raise _at("content", "must not be empty")
        if self.tool_calls and self.role != "assistant":
            raise _at("tool_calls", "only the assistant calls tools")
        return self

    @property
    def plain(self) -> dict[str, Any]:
        """The message as an engine takes it."""
        return {"role": self.role, "content": self.content} | self.model_dump(
            exclude={"role", "content"}, exclude_defaults=True, mode="json"
        )


class EvalCase(BaseModel):
    """A conversation, and what its answer must be like.

    expected: a text, or the JSON that the answer must parse to: an object, array, number, true or false. With match
    "exact" or "contains" also a list of texts, each of which is right.
    match: "exact" compares texts without the white space around them, "contains" looks for the expected text
    in the answer, "json" compares values. By default "exact" for a text, "json" for all else.
    asserted: what else must hold; `assert` in a file. threshold: the score that is enough; without one all must hold.
    weight: of the case among others. seed: what its sampling begins with. tools: that may be called.
    answer_schema: a JSON schema that the answer is held to while it is made; `schema` in a file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    slice: str = Field(default="all", min_length=1)
    tags: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    weight: float = Field(default=1.0, gt=0, le=MOST_WEIGHT)
    seed: int | None = Field(default=None, ge=0, lt=1 << 64)
    messages: tuple[EvalMessage, ...]
    tools: tuple[dict[str, Any], ...] = ()
    parallel_tool_calls: bool = True
    answer_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    expected: str | bool | int | float | dict[str, Any] | list[Any] | None = None
    match: Literal["exact", "json", "contains"] = "exact"
    asserted: tuple[Assertion, ...] = Field(default=(), alias="assert")
    threshold: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _match_follows_expected(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("expected"), dict | list | int | float):
            return {"match": "json"} | values
        return values

    @field_validator("messages")
    @classmethod
    def _waits_for_an_answer(cls, messages: tuple[EvalMessage, ...]) -> tuple[EvalMessage, ...]:
        if not messages or messages[-1].role not in ("user", "tool"):
            raise ValueError("the conversation must end with a user turn, or with what a tool answers")
        return messages

    @field_validator("expected", mode="before")
    @classmethod
    def _is_text_or_json(cls, expected: Any) -> Any:
        if not isinstance(expected, str | dict | list | int | float):
            raise ValueError("must be a text, or JSON other than null")
        if isinstance(expected, str) and not expected.strip():
            raise ValueError("must not be empty")
        if isinstance(expected, float) and not math.isfinite(expected):
            raise ValueError("must be a finite number")
        return expected

    @model_validator(mode="after")
    def _match_fits_expected(self) -> EvalCase:
        if self.expected is None:
            return self
        if self.match != "json" and not all(isinstance(text, str) and text.strip() for text in self._right_texts):
            raise ValueError(f'match "{self.match}" needs a text as expected, or a list of texts')
        if self.match == "contains" and not all(answer_of(str(text)).strip() for text in self._right_texts):
            raise _at("expected", "must not be empty but for thoughts, since any answer contains that")
        if self.match == "json" and isinstance(self.expected, str):
            try:
                parse_json(answer_of(self.expected))
            except ValueError as error:
                raise ValueError(f'match "json" needs JSON as expected: {error}') from error
        return self

    @model_validator(mode="after")
    def _can_be_asked_and_judged(self) -> EvalCase:
        if not self.assertions:
            raise _at("expected", "it is missing, and so is assert")
        if not any(each.weight for each in self.assertions):
            raise _at("assert", "every weight is 0, so that nothing decides")
        if not self.tools and any(each.needs_tools for each in self.asserted):
            raise _at("tools", "it is missing, and an assertion looks into it")
        try:
            self.asked  # noqa: B018 - says what is no conversation
        except PromptInvalid as error:
            raise ValueError(error.what) from error
        if self.answer_schema is not None:
            try:
                schemas.require_schema(self.answer_schema)
            except ValueError as error:
                raise _at("schema", f"is no JSON schema: {error}") from error
        return self

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not given is not written, so that it can be read again."""
        return {name: value for name, value in dump(self).items() if value is not None}

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """The messages as an engine takes them."""
        return [message.plain for message in self.messages]

    @property
    def asked(self) -> Conversation:
        """The conversation with its tools."""
        return Conversation(self.conversation, tools=self.tools, parallel_tool_calls=self.parallel_tool_calls)

    @property
    def constraint(self) -> Constraint | None:
        """What the answer is held to while it is made."""
        if self.answer_schema is None:
            return None
        return Constraint("json_schema", json.dumps(self.answer_schema, ensure_ascii=False), lenient=True)

    @property
    def sameness(self) -> str:
        """A text that two cases share where they ask the same and expect the same, whatever they are called."""
        return self.model_dump_json(exclude={"id", "slice", "tags", "weight", "seed"}, by_alias=True)

    @property
    def question(self) -> str:
        """What the answer answers: the last turn."""
        return self.messages[-1].content

    @property
    def assertions(self) -> tuple[Assertion, ...]:
        """All that must hold: what is expected, and what is asserted besides."""
        if self.expected is None:
            return self.asserted
        value: Any = self.expected
        if self.match == "json":
            value = parse_json(answer_of(value)) if isinstance(value, str) else value
            return (Assertion(type="equals-json", value=value), *self.asserted)
        several = isinstance(value, list)
        name = {("exact", False): "equals", ("exact", True): "one-of", ("contains", False): "contains"}
        texts = [answer_of(str(text)).strip() for text in self._right_texts]
        kind = name.get((self.match, several), "contains-any")
        return (Assertion(type=kind, value=texts if several else texts[0]), *self.asserted)

    @property
    def right_answer(self) -> str | None:
        """A right answer as a model would write it, the first where several are; None where only assertions tell."""
        if self.expected is None:
            return None
        if self.match != "json":
            return str(self._right_texts[0])
        return self.expected if isinstance(self.expected, str) else json.dumps(self.expected, ensure_ascii=False)

    @property
    def expected_text(self) -> str:
        """What is expected, for people: a right answer, or the assertions in a few words."""
        return self.right_answer or "; ".join(each.told for each in self.asserted)

    @property
    def is_open(self) -> bool:
        """Whether more may stand in a right answer than what is expected."""
        return self.expected is None or self.match == "contains"

    @property
    def _right_texts(self) -> Sequence[Any]:
        return self.expected if isinstance(self.expected, list) and self.expected else [self.expected]


_FIELDS = {
    place: [str(field.alias or name) for name, field in kind.model_fields.items()]
    for place, kind in (("", EvalCase), ("messages", EvalMessage), ("assert", Assertion))
}
"""Which fields there are, by where they stand."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case. score: the mean of its assertions' by their weights."""

    passed: bool
    score: float
    results: tuple[AssertionResult, ...]

    @property
    def reason(self) -> str:
        """Why it fails; empty where it passes."""
        failed = [each for each in self.results if not each.passed and each.weight]
        return "" if self.passed else "; ".join(f"{each.name}: {each.reason}" for each in failed)


def judge(case: EvalCase, reply: Reply, *, embed: Embed | None = None) -> Outcome:
    """Whether an answer is what the case asks for; thoughts before it are left aside.

    It passes where every assertion holds, or where the score reaches the case's threshold. Assertions of weight 0 only
    report. embed: what `similar` compares by. Raises what that raises.
    """
    around = Around(case.tools, embed)
    results = tuple(check(assertion, reply, around) for assertion in case.assertions)
    total = math.fsum(each.weight for each in results)
    score = math.fsum(each.score * each.weight for each in results) / total
    if case.threshold is None:
        passed = all(each.passed for each in results if each.weight)
    else:
        passed = score >= case.threshold - _ROUNDING
    return Outcome(passed, score, results)


def passes(case: EvalCase, answer: str) -> bool:
    """As `judge`, of a text alone."""
    return judge(case, Reply(answer)).passed


def read_evalset(path: Path, progress: Progress = silent) -> tuple[EvalCase, ...]:
    """The cases of a file of JSON Lines, of one JSON array, or of promptfoo's YAML, in its order.

    Examples may have other shapes, see `package.examples.unified`; one without an id is called by its place.
    progress: is told what of the file is left aside.
    Raises EvalInvalid that names lines and fields, the first LISTED_FAULTS of them.
    """
    faults: list[str] = []
    if path.suffix.lower() in promptfoo.SUFFIXES:
        reading = promptfoo.read(path)
        lines, hint = iter(reading.lines), promptfoo.HINT
        faults += reading.faults
        for note in reading.notes:
            progress(f"note: {note}", None)
    else:
        lines, hint = _lines(path), _FORMAT
    cases: list[EvalCase] = []
    first_places: dict[str, str] = {}
    for place, line in lines:
        try:
            case = _case(line, place)
        except ValueError as error:  # pydantic's is one too
            faults.append(f"{place}: {_explain(error)}")
            hint = _PREFERENCE if '"chosen"' in line and '"rejected"' in line else hint
            continue
        first = first_places.setdefault(case.id, place)
        if first != place:
            faults.append(f"{place}: id {case.id!r} is already on {first}")
        cases.append(case)
    if faults:
        more = f"; and {len(faults) - LISTED_FAULTS} more" if len(faults) > LISTED_FAULTS else ""
        _refuse(path, "; ".join(faults[:LISTED_FAULTS]) + more, hint)
    if not cases:
        _refuse(path, "the file holds no cases", hint)
    return tuple(cases)


def _case(line: str, place: str) -> EvalCase:
    values = json_file.parse(line)
    if not isinstance(values, dict):
        return EvalCase.model_validate_json(line)
    example = unified(values)
    if "assert" in values:  # then the line was written for an evaluation, and every field of it is meant
        example |= {name: value for name, value in values.items() if name not in READ | example.keys()}
    else:
        example |= {name: values[name] for name, fits in _MARKS.items() if name in values and fits(values[name])}
    named = example.get("id")
    if named is None or (isinstance(named, int | float) and not isinstance(named, bool)):
        # What tables are written by makes a whole number 7.0 where a row has none.
        whole = isinstance(named, float) and named.is_integer()
        example["id"] = place if named is None else f"{named:.0f}" if whole else str(named)
    if "expected" not in values:
        _require_learnt(values.get("messages"))
        example = _expecting_calls(example, values)
    return EvalCase.model_validate(example)


def _require_learnt(turns: Any) -> None:
    """Raises ValueError for a conversation whose last answer was left out of training: it is none to expect."""
    last = turns[-1] if isinstance(turns, list) and turns and isinstance(turns[-1], dict) else {}
    if last.get("role") == "assistant" and last.get("weight") == 0:
        raise _Unfit(f"messages.{len(turns) - 1}.weight: is 0, so that this answer is none to learn or to expect")


def _expecting_calls(example: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation that ends in calls of the assistant, as OpenAI's fine-tuning files have them: those are right.

    Raises ValueError for calls that are none.
    """
    turns = example.get("messages")
    last = turns[-1] if isinstance(turns, list) and turns else None
    if "expected" in example or not (isinstance(turns, list) and isinstance(last, dict) and last.get("tool_calls")):
        return example
    try:
        calls = [{"name": name, "arguments": arguments} for name, arguments in wanted_calls(last["tool_calls"])]
    except ValueError as error:
        raise _Unfit(f"messages.{len(turns) - 1}.tool_calls: {error}") from error
    asserted = [{"type": "tool-calls", "value": calls}]
    more = values.get("assert", [])
    return example | {"messages": turns[:-1], "assert": [*more, *asserted] if isinstance(more, list) else more}


def take_evenly(cases: Sequence[Some], limit: int | None) -> tuple[Some, ...]:
    """At most `limit` cases, always the same; taken evenly, so a file sorted by slice keeps its slices."""
    if limit is None or limit >= len(cases):
        return tuple(cases)
    return tuple(cases[index * len(cases) // limit] for index in range(limit))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each example as JSON, with where it stands."""
    text = _FILE.read(path)
    items = document(text)
    if items is not None:
        return ((f"item {number}", json.dumps(item)) for number, item in enumerate(items, 1))
    # Not splitlines(): JSON strings may hold U+2028 and its like as they are.
    return ((f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _explain(error: ValueError) -> str:
    if isinstance(error, _Unfit):
        return str(error)
    if not isinstance(error, ValidationError):
        return f"Invalid JSON: {str(error).removeprefix('line 1, ')}"  # all of it is one line
    return ", ".join(map(_explain_one, error.errors(include_input=False)))


def _explain_one(fault: Mapping[str, Any]) -> str:
    message, location = in_words(fault), fault["loc"]
    if fault["type"] == "extra_forbidden":
        known = _FIELDS.get(str(location[0]) if len(location) > 1 else "", ())
        close = meant(str(location[-1]), known)
        message = _NO_FIELD + (f"; did you mean {close}?" if close else "")
    elif fault["type"] == _LATER:
        message, location = fault["ctx"]["message"], (*location, fault["ctx"]["field"])
    return f"{'.'.join(map(str, location))}: {message}" if location else message


def _refuse(path: Path, what: str, hint: str = _FORMAT) -> NoReturn:
    raise EvalInvalid(what, where=str(path), hint=hint)


def _at(field: str, message: str) -> PydanticCustomError:
    """A fault of a field that is found once all fields are read."""
    return PydanticCustomError(_LATER, "{field}: {message}", {"field": field, "message": message})
