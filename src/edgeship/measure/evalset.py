"""Evaluation files: conversations with the answer each must get, one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edgeship.engine.thinking import answer_of
from edgeship.errors import EvalInvalid
from edgeship.package.example_files import Kind
from edgeship.package.examples import document, unified
from edgeship.system import json_file

LISTED_FAULTS = 5
_NO_FIELD = "this field is not read"
_FORMAT = (
    'Each line is one object: {"id": "a1", "messages": [{"role": "user", "content": "..."}], "expected": "..."}; '
    '"id", "slice" and "match" are optional. Fine-tuning files are read too: "messages" that end with the assistant, '
    'ShareGPT\'s "conversations", "prompt" and "completion", "instruction", "input" and "output", "question" and '
    '"answer".'
)
_PREFERENCE = (
    'These are preferences, and "chosen" is one answer of many: where a question has one right answer, give that as '
    f'"expected", beside "messages" or "prompt". {_FORMAT}'
)
_FILE = Kind(EvalInvalid, "evaluation", "--eval", "question and answer")


class EvalMessage(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class EvalCase(BaseModel):
    """A conversation and the answer it must get.

    expected: a text, or the JSON that the answer must parse to: an object, array, number, true or false. With match
    "exact" or "contains" also a list of texts, each of which is right.
    match: "exact" compares texts without the white space around them, "contains" looks for the expected text
    in the answer, "json" compares values. By default "exact" for a text, "json" for all else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    slice: str = Field(default="all", min_length=1)
    messages: tuple[EvalMessage, ...]
    expected: str | bool | int | float | dict[str, Any] | list[Any]
    match: Literal["exact", "json", "contains"] = "exact"

    @model_validator(mode="before")
    @classmethod
    def _match_follows_expected(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("expected"), dict | list | int | float):
            return {"match": "json"} | values
        return values

    @field_validator("messages")
    @classmethod
    def _waits_for_an_answer(cls, messages: tuple[EvalMessage, ...]) -> tuple[EvalMessage, ...]:
        if not messages or messages[-1].role != "user":
            raise ValueError("the conversation must end with a user turn")
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
        if self.match != "json" and not all(isinstance(text, str) and text.strip() for text in self._right_texts):
            raise ValueError(f'match "{self.match}" needs a text as expected, or a list of texts')
        if self.match == "json" and isinstance(self.expected, str):
            try:
                parse_json(self.expected)
            except ValueError as error:
                raise ValueError(f'match "json" needs JSON as expected: {error}') from error
        return self

    @property
    def conversation(self) -> list[dict[str, str]]:
        """The messages as an engine takes them."""
        return [{"role": message.role, "content": message.content} for message in self.messages]

    @property
    def question(self) -> str:
        """What the answer answers: the last turn."""
        return self.messages[-1].content

    @property
    def expected_text(self) -> str:
        """The expected answer as a model would write it, the first where several are right."""
        if self.match != "json":
            return str(self._right_texts[0])
        return self.expected if isinstance(self.expected, str) else json.dumps(self.expected, ensure_ascii=False)

    @property
    def _right_texts(self) -> Sequence[Any]:
        return self.expected if isinstance(self.expected, list) and self.expected else [self.expected]


def passes(case: EvalCase, answer: str) -> bool:
    """True where the answer is what the case expects; thoughts before either are left aside."""
    answer = answer_of(answer)
    if case.match == "json":
        expected = parse_json(answer_of(case.expected)) if isinstance(case.expected, str) else case.expected
        try:
            return json_equal(expected, parse_json(answer))
        except ValueError:
            return False
    right = [answer_of(str(text)).strip() for text in case._right_texts]
    return any(text in answer for text in right) if case.match == "contains" else answer.strip() in right


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


def read_evalset(path: Path) -> tuple[EvalCase, ...]:
    """The cases of a file of JSON Lines, or of one JSON array, in its order; empty lines are skipped.

    Examples may have other shapes, see `package.examples.unified`; one without an id is called by its place.
    Raises EvalInvalid that names lines and fields, the first LISTED_FAULTS of them.
    """
    cases: list[EvalCase] = []
    faults: list[str] = []
    hint = _FORMAT
    first_places: dict[str, str] = {}
    for place, line in _lines(path):
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
        _refuse(path, "the file holds no cases")
    return tuple(cases)


def _case(line: str, place: str) -> EvalCase:
    values = json_file.parse(line)
    if not isinstance(values, dict):
        return EvalCase.model_validate_json(line)
    example = unified(values)
    named = example.get("id")
    if named is None or (isinstance(named, int | float) and not isinstance(named, bool)):
        example["id"] = place if named is None else f"{named:g}" if isinstance(named, float) else str(named)
    return EvalCase.model_validate(example)


def take_evenly(cases: Sequence[EvalCase], limit: int | None) -> tuple[EvalCase, ...]:
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
    if not isinstance(error, ValidationError):
        return f"Invalid JSON: {str(error).removeprefix('line 1, ')}"  # all of it is one line
    return ", ".join(
        _explain_one(_NO_FIELD if fault["type"] == "extra_forbidden" else str(fault["msg"]), fault["loc"])
        for fault in error.errors(include_input=False)
    )


def _explain_one(message: str, location: tuple[int | str, ...]) -> str:
    message = message.removeprefix("Value error, ")
    return f"{'.'.join(map(str, location))}: {message}" if location else message


def _refuse(path: Path, what: str, hint: str = _FORMAT) -> NoReturn:
    raise EvalInvalid(what, where=str(path), hint=hint)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
