"""What is wrong with what came of a request: by how it ended, by its status, and by its form."""

from __future__ import annotations

import pytest

from edgeship.validate.edges.judging import wrong_with
from edgeship.validate.edges.row import ANSWERED, ANY_END, EITHER, REFUSED, Expect, Heard, Known, Seen, refused

CLOSED = Expect(refused=True, closed=True)
ANSWER = Heard(200, text="Hello", said="Hello")


@pytest.mark.parametrize(
    ("expect", "heard", "wrong"),
    [
        (ANSWERED, ANSWER, None),
        (REFUSED, ANSWER, "it was answered"),
        (EITHER, Heard(500, said="oops"), "it failed with 500: oops"),
        (EITHER, Heard(422), None),
        (ANSWERED, Heard(422, refused_as="no"), "it was refused with 422: no"),
        (refused(400), Heard(400), None),
        (refused(400), Heard(404), "it was refused with 404"),
        (REFUSED, Heard(400, fault="the error has not the form of its API"), "not the form"),
        (ANSWERED, Heard(200, fault="its stream ends without [DONE]"), "without [DONE]"),
        (ANSWERED, Heard(200, end="cut"), "broke off"),
        (ANSWERED, Heard(200, end="left", fault="not read"), None),
        (REFUSED, Heard(302), "refused with 302"),
        (EITHER, Heard(None, end="closed"), "closed without an answer"),
        (CLOSED, Heard(None, end="closed"), None),
        (ANSWERED, Heard(None, end="left"), None),
        (ANY_END, Heard(None, 60.0, end="late"), "no end within 60 s"),
        (ANY_END, Heard(None, end="unreachable"), "no connection"),
        (ANY_END, Heard(501), None),
        (Expect(answered=True, also=(429,)), Heard(429), None),
    ],
)
def test_what_is_wrong(expect: Expect, heard: Heard, wrong: str | None) -> None:
    found = wrong_with(expect, heard)
    assert (found is None) if wrong is None else (found is not None and wrong in found)


def test_only_whole_answers_are_looked_at() -> None:
    def look(_: Seen) -> str:
        return "it smells"

    seen = Seen(ANSWER, {}, ANSWER, Known("", ()))
    assert wrong_with(EITHER, ANSWER, (look,), seen) == "it smells"
    assert wrong_with(EITHER, Heard(400), (look,), seen) is None
    assert wrong_with(EITHER, Heard(200, end="left"), (look,), seen) is None
