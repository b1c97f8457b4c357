"""The catalogue as data: what every row has, and that all of it can be asked."""

from __future__ import annotations

import json
import unicodedata

import pytest

from edgeship.validate.edges import apis, asking
from edgeship.validate.edges.catalogue import ROWS, row_of
from edgeship.validate.edges.looking import rows_for
from edgeship.validate.edges.row import CHATS, KINDS, SURFACES, Asked, Crowd, Expect, Known, Left, Row, Sent
from edgeship.validate.edges.target import QUICK_SURFACES
from edgeship.validate.edges.texts import COMMON_CONTROLS, one_of_each_script
from edgeship.validate.over_http import Request, place_of

KNOWN = Known("An answer that is long enough to be stopped within.", COMMON_CONTROLS)
PLACE = place_of("http://localhost:1/v1", "a-key")
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(ROWS) >= 80
    assert len({row.id for row in ROWS}) == len(ROWS)
    assert len({row.told for row in ROWS}) == len(ROWS)
    assert all(row_of(row.id) is row for row in ROWS)
    assert row_of("nothing") is None


def test_there_are_some_of_each_kind_and_a_quick_check_asks_some_of_each() -> None:
    assert {row.kind for row in ROWS} == set(KINDS)
    assert {row.kind for row in rows_for(quick=True)} == set(KINDS)
    assert len(rows_for(quick=True)) < len(rows_for(quick=False)) / 3
    assert rows_for(quick=False) == ROWS


def test_every_surface_is_asked_something() -> None:
    assert {surface for row in ROWS for surface in row.surfaces} == set(SURFACES)
    assert set(QUICK_SURFACES) == set(CHATS)


def permits(one: Expect, other: Expect) -> bool:
    """Whether all that one lets come of a request is what the other lets come of it."""
    return (
        one.answered <= other.answered
        and one.refused <= other.refused
        and one.closed <= other.closed
        and (not other.statuses or set(one.statuses) <= set(other.statuses))
        and set(one.also) <= set(other.also)
    )


@every_row
def test_a_row_says_what_must_come_of_it_and_a_promise_is_never_less_than_that(row: Row) -> None:
    assert row.must.answered or row.must.refused or row.must.closed
    assert str(row.must)
    assert row.surfaces
    for surface in row.surfaces:
        assert permits(row.expected(surface, ours=True), row.must) or row.kind == "wire"
        assert row.expected(surface, ours=False) is row.must


@every_row
def test_a_row_can_be_asked_where_it_says(row: Row) -> None:
    asks = row.asks
    if isinstance(asks, Asked):
        body = asks.of(KNOWN)
        assert body is not None
        for surface in set(row.surfaces) - {"inside"}:
            api = apis.API[surface]
            content = Request(api.path, apis.body_for(surface, "model", body)).in_bytes(PLACE)
            assert isinstance(json.loads(content.partition(b"\r\n\r\n")[2]), dict)
            assert apis.request_of(row, surface, KNOWN)
    elif isinstance(asks, Sent):
        assert "inside" not in row.surfaces
        path = PLACE.path(apis.API[row.surfaces[0]].path)
        assert asking.in_bytes(PLACE, asks, path, asks.body or b"{}") or asks.then == "hold"
    elif isinstance(asks, Left):
        assert row.surfaces == ("inside",)
    else:
        assert isinstance(asks, Crowd)
    assert not row.looks or isinstance(asks, Asked), "a look needs a body to go by"


def test_every_script_is_every_script() -> None:
    letters = one_of_each_script(range(0x20, 0xD800)) + one_of_each_script(range(0x10000, 0x20000))
    assert len(letters) > 150
    scripts = {unicodedata.name(letter, "").split(" ")[0] for letter in letters}
    assert scripts >= {"LATIN", "GREEK", "CYRILLIC", "HEBREW", "ARABIC", "DEVANAGARI", "THAI", "KHMER", "HIRAGANA"}


def test_what_depends_on_the_answer_is_left_out_where_there_is_too_little_of_it() -> None:
    row = row_of("setting-stop-within")
    assert row
    assert isinstance(row.asks, Asked)
    assert row.asks.of(Known("short", ())) is None
    body = row.asks.of(KNOWN)
    assert body
    assert body["stop"][0] in KNOWN.plain
