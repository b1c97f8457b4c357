"""What the requests of all APIs have in common: fields that are known by name, and no others."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from edgeship.errors import RequestInvalid
from edgeship.system.fields import in_words, shown
from edgeship.system.text import meant

Item = TypeVar("Item")
_NOTHING: tuple[Any, ...] = ("", [], {})
_NULL = {"type": "null"}
_UNKNOWN, _NOT_SO = "field_unknown", "field_not_so"
_WRONG_KIND = "union_tag_invalid"
_AS_JSON = {"True": "true", "False": "false"}
_MOST_STOPS = 64
_MOST_STOP_CHARACTERS = 1000


def _boolean(given: Any) -> Any:
    """To Python 0 is False, and a literal would let it in."""
    if isinstance(given, int) and not isinstance(given, bool):
        raise PydanticCustomError("bool_type", "it must be true or false")
    return given


Yes = Annotated[Literal[True], BeforeValidator(_boolean)]
No = Annotated[Literal[False], BeforeValidator(_boolean)]
"""What can only be had so. Any other value is refused."""


Several = Annotated[list[Item], Field(fail_fast=True)]
"""A list that is read up to its first fault, since that alone is told: a body has room for a million of them."""


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


StopText = Annotated[str, Field(min_length=1, max_length=_MOST_STOP_CHARACTERS)]
Stops = Annotated[
    Several[StopText],
    Field(max_length=_MOST_STOPS),
    BeforeValidator(_as_list, json_schema_input_type=StopText | list[StopText]),
]
"""Texts that end an answer: one, or several."""


def form_of(given: Any) -> str:
    """Where a field is a text or something with parts: which of them it is, so that faults are told of that one."""
    return "parts" if isinstance(given, dict | list) else "text"


class Fields(BaseModel):
    """A request, or an object in one. A field that is null counts as not given; one that is not known is refused.

    unread: what clients send with nothing in it, such as an empty list, which counts as not given then.
    only: what is not supported, with the one value that asks for nothing, which counts as not given, too.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    unread: ClassVar[tuple[str, ...]] = ()
    only: ClassVar[dict[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_and_given(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        known = _names(cls)
        if values.keys() <= known and None not in values.values():  # nearly always, and there may be many thousands
            return values
        given = {name: value for name, value in values.items() if value is not None}
        for name in cls.unread:
            if name in given and given[name] in _NOTHING:
                del given[name]
        for name in [name for name in cls.only if name in given]:
            if not _is_same(given[name], cls.only[name]):
                raise PydanticCustomError(
                    _NOT_SO, "{field} is not supported", {"field": name, "given": given[name], "only": cls.only[name]}
                )
            del given[name]
        if not given.keys() <= known:
            stranger = next(name for name in given if name not in known)
            raise PydanticCustomError(
                _UNKNOWN, "{field} is not known", {"field": stranger, "meant": meant(stranger, known)}
            )
        return given

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """The same for the OpenAPI document: what may be left out may be null."""
        told = handler(schema)
        described = handler.resolve_ref_schema(told)
        for name, field in described.get("properties", {}).items():
            if name not in described.get("required", ()) and _NULL not in field.get("anyOf", ()):
                described["properties"][name] = {"anyOf": [field, _NULL]}
        for name, value in cls.only.items():
            described.setdefault("properties", {})[name] = {"anyOf": [{"const": value}, _NULL]}
        return told


@functools.cache
def _names(kind: type[Fields]) -> frozenset[str]:
    """What its fields are called in a request."""
    aliases = {name: field.validation_alias for name, field in kind.model_fields.items()}
    choices = (alias.choices if isinstance(alias, AliasChoices) else [alias or name] for name, alias in aliases.items())
    return frozenset(str(name) for names in choices for name in names)


def _is_same(given: Any, value: Any) -> bool:
    """Whether both are the same in JSON, where true is not 1."""
    return bool(given == value) and isinstance(given, bool) == isinstance(value, bool)


def refusal(faults: Sequence[Any], body: Any = None) -> RequestInvalid:
    """What a client is told of the faults that pydantic found in its request: the first of them, with its field."""
    fault = faults[0]
    if fault["type"] == _UNKNOWN:
        return _unknown([*fault["loc"], fault["ctx"]["field"]], body, fault["ctx"]["meant"])
    if fault["type"] == _WRONG_KIND:
        return _of_no_kind([*fault["loc"], fault["ctx"]["discriminator"].strip("'")], body, fault["ctx"])
    if fault["type"] == _NOT_SO:
        told = fault["ctx"]
        return _only([*fault["loc"], told["field"]], body, told["given"], json.dumps(told["only"]))
    param = _field(fault["loc"], body, missing=fault["type"] == "missing")
    if fault["type"] == "literal_error":
        expected = fault["ctx"]["expected"]
        return _only(fault["loc"], body, fault["input"], _AS_JSON.get(expected, expected))
    if param is None and fault["type"] == "missing":
        return RequestInvalid("the request has no body", hint="Send a JSON object.")
    return RequestInvalid(f"{param or 'the request'}: {in_words(fault)}", param=param)


def _only(place: Sequence[str | int], body: Any, given: Any, possible: str) -> RequestInvalid:
    """A value that is another one than it can be."""
    param, text = _field(place, body, missing=False), shown(given)
    return RequestInvalid(f"{param} is {_AS_JSON.get(text, text)}, and can only be {possible} here", param=param)


def _of_no_kind(place: Sequence[str | int], body: Any, told: Mapping[str, Any]) -> RequestInvalid:
    """An object that says by one of its fields which of several it is, and is none of them."""
    param = _field(place, body, missing=False)
    possible = told["expected_tags"]
    hint = "Models here read texts." if "'text'" in possible else None  # an image, a sound or a file was sent
    return RequestInvalid(f"{param} is {shown(told['tag'])}, and can only be {possible} here", param=param, hint=hint)


def _unknown(place: Sequence[str | int], body: Any, close: str | None) -> RequestInvalid:
    param = _field(place, body, missing=False)
    hint = f"Did you mean {close}?" if close else "Leave it out."
    return RequestInvalid(f"{param} is not supported here", param=param, hint=hint)


def _field(place: Sequence[str | int], body: Any, *, missing: bool) -> str | None:
    """A field by its path in the body, or by its name in the query.

    Where a field may be one of several things, pydantic names these in between.
    """
    if place[0] == "query":
        return str(place[1])
    path = ""
    for part, following in itertools.zip_longest(place[1:], place[2:]):
        if isinstance(body, list) and isinstance(part, int) and part < len(body):
            path, body = f"{path}[{part}]", body[part]
        elif isinstance(body, dict) and part in body and not _is_kind(part, body, following):
            path, body = f"{path}.{part}", body[part]
        elif isinstance(body, dict) and missing and following is None:
            path = f"{path}.{part}"
    return path.removeprefix(".") or None


def _is_kind(part: str | int, body: Mapping[Any, Any], following: str | int | None) -> bool:
    """Whether a part of a path says what kind of object this is, and names no field of it.

    What is of the type "text" or "function" has a field of that name, too; then what follows says which is meant.
    """
    if following is None or part not in (body.get("type"), body.get("role")):
        return False
    inner = body[part]
    return not isinstance(inner, dict | list) or (following in body and following not in inner)
