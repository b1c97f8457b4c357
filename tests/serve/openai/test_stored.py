"""Responses that are kept for a while."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.errors import NotFound
from edgeship.serve.openai.stored import StoredResponses


class Clock:
    """Says what it is told to say."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def stored(*, most: int = 3, most_bytes: int = 1_000_000, clock: Clock | None = None) -> StoredResponses:
    return StoredResponses(most=most, most_bytes=most_bytes, most_age_s=60, clock=clock or Clock())


def response(name: str, text: str = "") -> dict[str, Any]:
    return {"id": name, "output": [{"type": "message", "content": text}]}


def kept(found: StoredResponses, *names: str) -> list[str]:
    there = []
    for name in names:
        try:
            found.find(name)
        except NotFound:
            continue
        there.append(name)
    return there


def test_what_is_kept_is_found_as_it_was() -> None:
    found = stored()
    found.keep(response("a", "héllo"), [{"type": "message", "content": "🙂"}])
    assert found.find("a").read_output() == [{"type": "message", "content": "héllo"}]
    assert found.find("a").read_items() == [{"type": "message", "content": "🙂"}]


def test_the_oldest_go_where_there_are_too_many() -> None:
    found = stored(most=2)
    for name in "abc":
        found.keep(response(name), [])
    assert kept(found, *"abc") == ["b", "c"]


def test_the_oldest_go_where_they_take_too_much() -> None:
    found = stored(most_bytes=1000)
    for name in "abc":
        found.keep(response(name, "x" * 300), [])
    assert kept(found, *"abc") == ["b", "c"]
    found.keep(response("large"), [{"content": "x" * 1000}])
    assert kept(found, *"abc", "large") == []


def test_room_that_was_freed_is_there_again() -> None:
    found = stored(most_bytes=1000)
    found.keep(response("a", "x" * 700), [])
    found.forget("a")
    found.keep(response("b", "x" * 300), [])
    found.keep(response("c", "x" * 300), [])
    assert kept(found, *"abc") == ["b", "c"]


def test_what_is_old_is_gone() -> None:
    clock = Clock()
    found = stored(clock=clock)
    found.keep(response("a"), [])
    clock.now_s = 60
    found.keep(response("b"), [])
    assert kept(found, "a", "b") == ["a", "b"]
    clock.now_s = 61
    assert kept(found, "a", "b") == ["b"]


def test_nobody_finds_what_is_not_theirs() -> None:
    found = stored()
    found.keep(response("a"), [], owner="one")
    with pytest.raises(NotFound, match="there is no response 'a'"):
        found.find("a", owner="other")
    with pytest.raises(NotFound):
        found.forget("a", owner="other")
    assert found.find("a", owner="one")
