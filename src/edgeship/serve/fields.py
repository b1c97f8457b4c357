"""What the requests of all APIs have in common: fields that are known by name, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from edgeship.errors import RequestInvalid

_NULL = {"type": "null"}


def _boolean(given: Any) -> Any:
    """To Python 0 is False, and a literal would let it in."""
    if isinstance(given, int) and not isinstance(given, bool):
        raise PydanticCustomError("bool_type", "it must be true or false")
    return given


Yes = Annotated[Literal[True], BeforeValidator(_boolean)]
No = Annotated[Literal[False], BeforeValidator(_boolean)]
"""What can only be had so. Any other value is refused."""


class Fields(BaseModel):
    """A request, or an object in one. A field that is null counts as not given; one that is not known is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if value is not None}
        return values

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        """The same for the OpenAPI document: what may be left out may be null."""
        told = handler(schema)
        described = handler.resolve_ref_schema(told)
        for name, field in described.get("properties", {}).items():
            if name not in described.get("required", ()) and _NULL not in field.get("anyOf", ()):
                described["properties"][name] = {"anyOf": [field, _NULL]}
        return told


def refusal(faults: Sequence[Any], body: Any = None) -> RequestInvalid:
    """What a client is told of the faults that pydantic found in its request: the first of them, with its field."""
    fault = faults[0]
    param = _field(fault["loc"], body, missing=fault["type"] == "missing")
    if param is None and fault["type"] == "missing":
        return RequestInvalid("the request has no body", hint="Send a JSON object.")
    if fault["type"] == "extra_forbidden":
        return RequestInvalid(f"{param} is not supported here", param=param, hint="Leave it out.")
    said = str(fault["msg"])
    return RequestInvalid(f"{param or 'the request'}: {said[:1].lower()}{said[1:]}", param=param)


def _field(place: Sequence[str | int], body: Any, *, missing: bool) -> str | None:
    """A field by its path in the body, or by its name in the query.

    Where a field may be one of several things, pydantic names these in between.
    """
    if place[0] == "query":
        return str(place[1])
    path = ""
    for part in place[1:]:
        if isinstance(body, dict) and (part in body or (missing and part == place[-1])):
            path, body = f"{path}.{part}", body.get(part)
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            path, body = f"{path}[{part}]", body[part]
    return path.removeprefix(".") or None
