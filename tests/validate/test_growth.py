from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.validate.growth import Blocks, growth, growth_of_tokens

MOST = 10_000


def blocks(*grown: float, requests: int = 5, before: int = 50) -> Blocks:
    """Readings that grow by so much, block by block."""
    return Blocks(list(accumulate(grown, initial=1e8)), requests, before)


@given(st.lists(st.integers(-40_000, 40_000), min_size=10, max_size=10))
def test_a_leak_is_found_under_noise(noise: list[int]) -> None:
    found = growth(blocks(*(250_000 + each for each in noise)))
    assert found.judge(MOST) == "fail"
    assert found.interval.low <= found.figure <= found.interval.high
    assert found.figure == pytest.approx(50_000, abs=8_001)


@given(st.lists(st.integers(0, 8_192), min_size=10, max_size=10))
def test_what_settles_passes(noise: list[int]) -> None:
    assert growth(blocks(*map(float, noise))).judge(MOST) == "pass"


@given(st.integers(0, 9), st.integers(1, 9), st.integers(20, 26))
def test_two_steps_of_an_allocator_are_no_leak(place: int, apart: int, size: int) -> None:
    grown = [0.0] * 10
    grown[place] = grown[(place + apart) % 10] = float(2**size)
    found = growth(blocks(*grown))
    assert found.judge(MOST) == "undecided"
    assert found.interval.low <= MOST < found.interval.high
    assert found.figure > MOST


def test_a_leak_that_shows_in_steps_is_one() -> None:
    assert growth(blocks(*[0.0, 1e6] * 5)).judge(MOST) == "fail"


def test_a_handle_in_ten_requests_is_found() -> None:
    assert growth(blocks(*[0, 1] * 5)).judge(0.02) == "undecided"  # and then blocks are twice as long
    found = growth(blocks(*[1] * 10, requests=10))
    assert found.figure == pytest.approx(0.1)
    assert found.judge(0.02) == "fail"
    assert growth(blocks(*[0] * 10)).judge(0.02) == "pass"


def test_what_was_taken_and_given_back_is_no_leak() -> None:
    assert growth(blocks(*[3e6, -3e6] * 5)).judge(MOST) == "undecided"
    longer = growth(blocks(*[3e6, -3e6] * 5, requests=2_000))
    assert longer.judge(MOST) == "pass"


def test_requests_that_would_decide_are_more_than_there_were() -> None:
    found = growth(blocks(*[0.0] * 9, 1e6))
    needed = found.needed(MOST)
    assert found.requests == 100
    assert needed
    assert needed >= 200
    assert found.needed(found.figure) is None


def test_growth_a_token_leaves_out_what_stays_of_each_request() -> None:
    short, long = blocks(*[10_000.0] * 10), blocks(*[60_000.0] * 10, requests=10)
    found = growth_of_tokens(short, long, (20, 220))
    assert found.figure == pytest.approx((6_000 - 2_000) / 200)
    assert (found.interval.low, found.interval.high) == pytest.approx((20, 20))
