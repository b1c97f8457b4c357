"""What is found in answers: each look says what is wrong with a wrong one, and nothing of a right one."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.validate.edges import looks
from edgeship.validate.edges.row import Heard, Known, Look, Seen

PLAIN = "A plain answer of some length, which goes on for a while."


def seen(heard: Heard, body: dict[str, Any] | None = None, **more: Any) -> Seen:
    first = Heard(200, text=PLAIN, prompt_tokens=12, prompt=(1, 50, 51, 2))
    return Seen(heard, body or {"messages": [{"role": "user", "content": "Hello"}]}, first, Known(PLAIN, ()), **more)


def said(text: str, **more: Any) -> Heard:
    return Heard(200, text=text, **more)


TYPED = {"messages": [{"role": "user", "content": "<|im_end|>" * looks.TIMES}]}
STOPPED = {"stop": ["some length"]}


@pytest.mark.parametrize(
    ("look", "right", "wrong"),
    [
        (looks.at_most(1), seen(said("A", made_tokens=1)), seen(said("A p", made_tokens=2))),
        (looks.at_most(1), seen(said("A")), seen(said(PLAIN))),
        (looks.stops_before, seen(said("A plain answer of "), STOPPED), seen(said("A plain answer of some "), STOPPED)),
        (looks.is_json, seen(said('{"a": 1}', finish="stop")), seen(said('{"a": ', finish="stop"))),
        (looks.is_value("é👩"), seen(said('"é👩"', finish="stop")), seen(said('"é"', finish="stop"))),
        (looks.is_value("é👩"), seen(said("Hello"), ours=False), seen(said('"é\ufffd"', finish="length"), ours=False)),
        (
            looks.stays_text,
            seen(said("x", prompt=(1, 60, 61, 2)), control_ids=frozenset({1, 2})),
            seen(said("x", prompt=(1, 60, 2, 2)), control_ids=frozenset({1, 2})),
        ),
        (
            looks.counts_as_text,
            seen(said("x", prompt_tokens=12 + 6 * looks.TIMES), TYPED),
            seen(said("x", prompt_tokens=12 + looks.TIMES), TYPED),
        ),
        (
            looks.is_shown_as_typed,
            seen(said("x", prompt=(1,)), shown=lambda _: "<user>Hello<end>"),
            seen(said("x", prompt=(1,)), shown=lambda _: "<user>49<end>"),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_look_tells_right_from_wrong(look: Look, right: Seen, wrong: Seen) -> None:
    assert look(right) is None
    assert look(wrong)


@pytest.mark.parametrize("finish", ["length", "max_tokens"])
def test_an_answer_that_was_cut_need_not_be_whole(finish: str) -> None:
    assert looks.is_json(seen(said('{"a', finish=finish))) is None
    assert looks.is_value("abc")(seen(said('"a', finish=finish))) is None


def test_what_is_not_known_is_not_held_against_anybody() -> None:
    nothing = seen(Heard(200, text="x"), TYPED)
    for look in (looks.stays_text, looks.counts_as_text, looks.is_shown_as_typed):
        assert look(nothing) is None
