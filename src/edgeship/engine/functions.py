"""Functions that may be called, and what their arguments are held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeship.engine.alternatives import Alternatives
from edgeship.engine.api import Constraint
from edgeship.engine.grammar import kept_schema
from edgeship.errors import ConstraintInvalid

# With these beside it, `properties` does not name all that an object may have.
_MORE_PROPERTIES = ("additionalProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref")
TOO_DEEP = "they are nested too deeply"


@dataclass(frozen=True)
class Function:
    """schema: of its arguments. lenient: what of that cannot be enforced is left out."""

    name: str
    schema: Mapping[str, Any]
    lenient: bool

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Function:
        """A function as OpenAI describes one: its arguments are an object of the parameters that it names.

        Raises ConstraintInvalid for parameters that no arguments can be held to.
        """
        lenient = not described.get("strict")
        parameters = described.get("parameters") or {"properties": {}}
        try:
            schema = kept_schema(Constraint("json_schema", json.dumps(parameters), lenient))
        except ConstraintInvalid as error:
            raise cannot_be_called(described["name"], error.what) from error
        except RecursionError as error:
            raise cannot_be_called(described["name"], TOO_DEEP) from error
        if "properties" in schema and not any(name in schema for name in _MORE_PROPERTIES):
            schema = schema | {"additionalProperties": False}
        return cls(described["name"], schema | {"type": "object"}, lenient)

    def kinds(self, argument: str) -> frozenset[str]:
        """The types that an argument may have, by JSON Schema."""
        return Alternatives(self.schema).kinds(argument)


def cannot_be_called(name: str, why: str) -> ConstraintInvalid:
    """The error that says which function's parameters no arguments can be held to."""
    return ConstraintInvalid(
        f"the function {name!r} cannot be called, by its parameters: {why}",
        hint="Mend the schema of its parameters, or leave the function out.",
    )
