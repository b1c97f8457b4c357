from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.drafts import MOST, Drafts, PairIndex

TOKENS = st.lists(st.integers(0, 3), max_size=60)


def guess(pairs: PairIndex, count: int) -> list[int]:
    match = pairs.match()
    return pairs.after(match, count) if match else []


def runs(token_s: float) -> Callable[[int], float]:
    """A run takes 10 ms, and so much for each token after the first."""
    return lambda tokens: 0.01 + (tokens - 1) * token_s


@given(TOKENS, st.integers(1, 8))
def test_a_guess_continues_words_that_stood_there_before(tokens: list[int], most: int) -> None:
    places = [place for place in range(2, len(tokens)) if tokens[place - 2 : place] == tokens[-2:]]
    found = guess(PairIndex(tokens), most)
    assert len(found) == (most if places else 0)
    if found:
        assert found[0] in {tokens[place] for place in places}


@given(TOKENS, TOKENS)
def test_it_does_not_matter_when_the_text_came(first: list[int], second: list[int]) -> None:
    grown = PairIndex(first)
    for token in second:
        grown.push(token)
    assert grown.match() == PairIndex(first + second).match()


def test_the_longest_match_wins_and_of_those_the_last() -> None:
    assert guess(PairIndex([1, 2, 3, 9, 5, 2, 3, 8, 1, 2, 3]), 2) == [9, 5]
    assert guess(PairIndex([1, 2, 7, 0, 1, 2, 8, 0, 5, 1, 2]), 1) == [8]
    assert guess(PairIndex([1, 2, 3]), 3) == []
    assert guess(PairIndex([]), 3) == []


def test_a_cycle_goes_on_beyond_the_end_of_the_text() -> None:
    assert guess(PairIndex([1, 2, 3, 1, 2, 3, 1, 2, 3]), 7) == [1, 2, 3, 1, 2, 3, 1]


def test_a_longer_match_says_more() -> None:
    text = [7, 1, 2, 3, 4, 5, 9, 9, 9, 7, 1, 2, 3, 4, 5]
    assert PairIndex(text).match() == (6, 6)
    assert PairIndex(text[1:]).match() == (5, 5)
    cycle = PairIndex([1, 2, 3] * 20).match()
    assert cycle == (57, 16)


def test_guesses_grow_while_they_hold_and_stop_when_they_do_not() -> None:
    drafts = Drafts([1, 2, 3] * 20, runs(0.001))
    first = len(drafts.draft(100))
    for _ in range(10):
        count = len(drafts.draft(100))
        drafts.learn(count, count)
    assert first < len(drafts.draft(100)) == MOST
    assert len(drafts.draft(3)) == 3
    for _ in range(20):
        drafts.learn(MOST, 0)
    assert drafts.draft(100) == []


def test_what_did_not_hold_is_tried_again_but_seldom() -> None:
    drafts = Drafts([1, 2, 3] * 20, runs(0.002))
    guesses = 0
    for _ in range(400):
        if count := len(drafts.draft(100)):
            guesses += 1
            drafts.learn(count, 0)
    assert 3 < guesses < 30


def test_short_matches_do_not_spoil_long_ones() -> None:
    drafts = Drafts([1, 2, 8, *range(20, 40), 1, 2], runs(0.002))
    for _ in range(12):
        if count := len(drafts.draft(100)):
            drafts.learn(count, 0)
    assert drafts.draft(100) == []
    for token in range(20, 30):
        drafts.push(token)
    assert drafts.draft(100)[:3] == [30, 31, 32]


@given(st.floats(0.0, 0.02), st.lists(st.booleans(), max_size=30))
def test_a_guess_is_made_only_where_it_should_bring_more_a_second(token_s: float, outcomes: list[bool]) -> None:
    drafts = Drafts([1, 2, 3] * 20, runs(token_s))
    for held in outcomes:
        if count := len(drafts.draft(100)):
            drafts.learn(count, count if held else 0)
    count = len(drafts.draft(100))
    if token_s >= 0.01:
        assert count == 0  # even if every guess holds, a token costs as much as a step
    if token_s == 0:
        assert count > 0


def test_guesses_that_do_not_pay_are_not_made_unless_always() -> None:
    cycle = [1, 2, 3] * 20
    assert Drafts(cycle, runs(0.01)).draft(8) == []
    assert Drafts(cycle, runs(0.0001)).draft(8)
    assert Drafts(cycle, runs(0.01), always=True).draft(8)
    assert Drafts(cycle, lambda _: None).draft(8)


def test_steps_that_are_over_at_once_are_not_worth_a_guess() -> None:
    cycle = [1, 2, 3] * 20
    assert Drafts(cycle, lambda _: 0.0009).draft(8) == []
    assert Drafts(cycle, lambda _: 0.0011).draft(8)
