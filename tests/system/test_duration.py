"""Durations as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.system.duration import seconds_in


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("-1", -1.0),
        ("300", 300.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        ("-1m", -60.0),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds_in(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "5 minutes", "m", "5m5", "1d", "9" * 200, "1s " * 40])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        seconds_in(text)


@given(st.text("0123456789.hmsun\u00b5+- "))
def test_any_text_is_a_duration_or_is_refused(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(seconds_in(text), float)
