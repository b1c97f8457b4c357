"""Whether a schema wants its properties in another order than the answers of an evaluation have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeship.engine import json_schema
from edgeship.engine.api import Constraint
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.cases.json_values import parse_json


def difference(constraint: Constraint, cases: Sequence[EvalCase]) -> str | None:
    """What is to be said of the first case whose answer differs. Raises ConstraintInvalid."""
    if constraint.kind != "json_schema":
        return None
    properties = json_schema.kept(constraint).get("properties")
    names = list(properties) if isinstance(properties, dict) else []
    for case in cases:
        said = [name for name in _names(case) if name in names]
        wanted = [name for name in names if name in said]
        if said != wanted:
            return (
                f"case {case.id!r} has its answer in the order {', '.join(said)}, and the schema in the order "
                f"{', '.join(wanted)}; answers follow the schema, and models do best in the order of their training"
            )
    return None


def _names(case: EvalCase) -> list[str]:
    expected: Any = case.expected
    if isinstance(expected, str):
        try:
            expected = parse_json(expected)
        except ValueError:
            return []
    return list(expected) if isinstance(expected, dict) else []
