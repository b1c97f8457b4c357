from __future__ import annotations

import json
from typing import Any

import pytest

from edgeship.engine.api import Constraint
from edgeship.errors import ConstraintInvalid
from edgeship.measure.cases import property_order
from edgeship.measure.cases.evalset import EvalCase


def case(expected: Any) -> EvalCase:
    asked = [{"role": "user", "content": "q"}]
    return EvalCase.model_validate({"id": "one", "messages": asked, "expected": expected})


def schema(*names: str) -> Constraint:
    return Constraint("json_schema", json.dumps({"properties": {name: {} for name in names}}))


@pytest.mark.parametrize(
    "expected", [{"a": 1, "b": 2}, '{"a": 1, "b": 2}', {"b": 2}, {"a": 1, "z": 0, "b": 2}, "text", "[1]", [1]]
)
def test_the_same_order(expected: Any) -> None:
    assert property_order.difference(schema("a", "b", "c"), [case(expected)]) is None


@pytest.mark.parametrize("expected", [{"b": 2, "a": 1}, '{"b": 2, "z": 0, "a": 1}'])
def test_another_order(expected: Any) -> None:
    told = property_order.difference(schema("a", "b", "c"), [case({"a": 1}), case(expected)])
    assert told is not None
    assert told.startswith("case 'one' has its answer in the order b, a, and the schema in the order a, b")


def test_a_schema_that_cannot_be_kept_is_refused_before_anything_is_built() -> None:
    with pytest.raises(ConstraintInvalid, match="not at #"):
        property_order.difference(Constraint("json_schema", '{"not": {}}'), [])


def test_other_constraints_have_no_order() -> None:
    assert property_order.difference(Constraint("regex", "a"), [case({"a": 1})]) is None
