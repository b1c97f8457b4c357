from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgeship.errors import CheckpointInvalid
from edgeship.system.fields import Fields, shown


def fields(**values: Any) -> Fields:
    return Fields(values, lambda what: CheckpointInvalid(f"config.json {what}"))


def test_fields_are_read_with_their_types() -> None:
    found = fields(a=3, b=2.5, c="text", d=["x", "y"], e=False, f={"g": 1}, h=[{"i": 2}, {}])
    assert (found.count("a"), found.number("a"), found.number("b"), found.text("c")) == (3, 3.0, 2.5, "text")
    assert (found.texts("d"), found.flag("e"), found.part("f").count("g")) == (["x", "y"], False, 1)
    assert [part.count("i") for part in found.parts("h")] == [2, None]


def test_what_is_not_there_and_null_read_alike() -> None:
    for found in (fields(), fields(a=None)):
        assert (found.count("a"), found.number("a"), found.text("a"), found.flag("a")) == (None, None, None, None)
        assert (found.texts("a"), found.ids("a"), dict(found.part("a").values), found.parts("a")) == ([], (), {}, [])


def test_token_ids_are_one_or_several_and_below_zero_none() -> None:
    assert [fields(a=value).ids("a") for value in (3, [3, 0], [None, -1, 3], -1, [])] == [(3,), (3, 0), (3,), (), ()]


@pytest.mark.parametrize(
    ("read", "value", "wanted"),
    [
        (lambda found: found.count("a"), "3", "a whole number"),
        (lambda found: found.count("a"), True, "a whole number"),
        (lambda found: found.count("a"), 3.0, "a whole number"),
        (lambda found: found.count("a"), 0, "a whole number of at least 1"),
        (lambda found: found.count("a"), 10**400, "a whole number of at most 2147483647"),
        (lambda found: found.number("a"), "1.5", "a number"),
        (lambda found: found.number("a"), float("nan"), "a number"),
        (lambda found: found.number("a"), float("inf"), "a number"),
        (lambda found: found.number("a"), 10**400, "a number"),
        (lambda found: found.number("a", above=0), 0, "a number above 0"),
        (lambda found: found.number("a", above=0, most=1), 1.5, "a number above 0 and of at most 1"),
        (lambda found: found.number("a", least=0), -0.5, "a number of at least 0"),
        (lambda found: found.required_number("a"), [], "a number"),
        (lambda found: found.required_numbers("a", 2), [1], "a list of 2 numbers"),
        (lambda found: found.required_numbers("a", 2), [1, float("nan")], "a list of 2 numbers"),
        (lambda found: found.required_numbers("a", 2, above=0), [1, 0], "a list of 2 numbers above 0"),
        (lambda found: found.required_numbers("a", 2), [1, True], "a list of 2 numbers"),
        (lambda found: found.flag("a"), 1, "true or false"),
        (lambda found: found.text("a"), 1, "a text"),
        (lambda found: found.text("a", ["b", "c"]), "d", "one of b, c"),
        (lambda found: found.texts("a"), ["b", 1], "a list of texts"),
        (lambda found: found.texts("a"), "b", "a list"),
        (lambda found: found.ids("a"), [2, "</s>"], "a token id, or a list of them"),
        (lambda found: found.ids("a"), 2**31, "a token id, or a list of them"),
        (lambda found: found.part("a"), [], "an object"),
    ],
)
def test_what_is_wrong_is_told_with_field_value_and_what_is_allowed(
    read: Callable[[Fields], object], value: object, wanted: str
) -> None:
    with pytest.raises(CheckpointInvalid) as caught:
        read(fields(a=value))
    assert caught.value.what == f"config.json has a {shown(value)}, which is not {wanted}"


def test_fields_inside_others_are_told_with_their_path() -> None:
    with pytest.raises(CheckpointInvalid, match=r"has outer\.inner\.a 'x', which"):
        fields(outer={"inner": {"a": "x"}}).part("outer").part("inner").count("a")
    with pytest.raises(CheckpointInvalid, match=r"has outer\[1\]\.a 'x', which"):
        fields(outer=[{}, {"a": "x"}]).parts("outer")[1].count("a")
    with pytest.raises(CheckpointInvalid, match=r"has outer\[1\] 7, which is not an object"):
        fields(outer=[{}, 7]).parts("outer")
    with pytest.raises(CheckpointInvalid, match=r"has no outer\.a, which must be a whole number of at least 1"):
        fields(outer={}).part("outer").required_count("a")


@pytest.mark.parametrize(
    "value", ["x" * 10**6, list(range(10**6)), {"a": [[[[[1]]]]]}, 10**400, "\x1b[31m\u202e\n\ud800"]
)
def test_any_value_is_shown_short_and_on_one_line(value: object) -> None:
    text = shown(value)
    assert len(text) <= 60
    assert text.isprintable()
