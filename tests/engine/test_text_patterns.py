"""Texts as terminals: whatever a terminal matches is what the schema says."""

from __future__ import annotations

import re

import pytest

from edgeship.engine.text_patterns import content, without
from edgeship.package.tool_formats import FORMATS

MARKS = sorted(
    {
        mark
        for form in FORMATS
        if form.notation
        for mark in (*form.notation.quotes, form.notation.after_value)
        if len(mark.strip()) > 1
    }
)


def expression(terminal: str) -> str:
    assert terminal.startswith("/")
    assert terminal.endswith("/")
    return terminal[1:-1]


@pytest.mark.parametrize("mark", MARKS)
def test_all_but_a_mark(mark: str) -> None:
    mark = mark.rstrip()
    pattern = re.compile(expression(without(mark)))
    halves = [mark[:length] for length in range(1, len(mark))]
    for text in ("", "a\n<b>", *halves, *(half + half for half in halves), *(f"{half}x" for half in halves)):
        assert pattern.fullmatch(text), text
    for text in (mark, f"a{mark}b", *(half + mark for half in halves)):
        assert not pattern.fullmatch(text), text


def test_a_mark_begins_as_nothing_else_in_it_does() -> None:
    assert MARKS
    assert all(mark.rstrip().count(mark[0]) == 1 for mark in MARKS)


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("^[a-c]{2}$", ["ab"], ["abc", "xaby"]),
        ("b+", ["b", "a\nbb c"], ["", "a"]),
        ("^a", ["a", "ab\n"], ["ba"]),
        ("a$", ["a", "\nba"], ["ab"]),
        (r"^\$[0-9]/$", ["$1/"], ["1/", "$1/ "]),
        ("^(a|b)$", ["a"], ["ab"]),
        ("a|b", ["xb"], ["c"]),
        ("[$^]", ["x^y"], ["x"]),
        (r"\^a\$", ["x^a$"], ["a"]),
    ],
)
def test_patterns(pattern: str, matches: list[str], others: list[str]) -> None:
    left_out = set[str]()
    (terminal,) = content({"pattern": pattern}, left_out)
    assert not left_out
    whole = re.compile(expression(terminal))
    assert [text for text in [*matches, *others] if whole.fullmatch(text)] == matches


@pytest.mark.parametrize("pattern", ["^a|b$", "a^b", r"\bword\b", "(^a)"])
def test_patterns_with_anchors_within_are_left_out(pattern: str) -> None:
    left_out = set[str]()
    assert content({"pattern": pattern}, left_out) == []
    assert left_out == {"pattern"}


@pytest.mark.parametrize(
    ("name", "matches", "others"),
    [
        ("date", ["2024-02-29", "2023-12-31", "2000-02-29"], ["2023-02-29", "2023-13-01", "2023-04-31", "1900-02-29"]),
        ("time", ["23:59:59Z", "01:02:03.5+02:00"], ["24:00:00Z", "01:02:03"]),
        ("date-time", ["2024-02-29T23:59:59Z"], ["2024-02-29", "2024-02-30T00:00:00Z"]),
        ("duration", ["P1Y2M3DT4H5M6S", "PT5S", "P3W"], ["P", "PT", "1D"]),
        ("email", ["a.b+c@example.com"], ["a@b", "@example.com", "a b@example.com"]),
        ("hostname", ["a-1.example"], ["-a", "a..b"]),
        ("ipv4", ["255.0.10.1"], ["256.0.0.1", "1.2.3", "01.2.3.4"]),
        ("ipv6", ["::1", "1:2:3:4:5:6:7:8", "fe80:0::1"], ["1:2", ":::"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
        ("uri", ["https://a.example/b?c=d%20e#f", "mailto:a@b"], ["a b", "//x", "http://a/%2"]),
    ],
)
def test_formats(name: str, matches: list[str], others: list[str]) -> None:
    (terminal,) = content({"format": name}, set())
    whole = re.compile(expression(terminal))
    assert [text for text in [*matches, *others] if whole.fullmatch(text)] == matches


def test_a_set_that_is_not_closed_goes_on_to_the_end() -> None:
    """The library says what is wrong with it. Many of them would otherwise be looked for to the end, each anew."""
    (terminal,) = content({"pattern": "[a^b$" + "[" * 19_000}, set())
    assert "a^b$[[[" in terminal


def test_lengths() -> None:
    assert content({"minLength": 2}, set()) == ["/(?s:.){2,}/"]
    assert content({"maxLength": 2}, set()) == ["/(?s:.){0,2}/"]
