from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.lookup import FIRST, MOST, Drafts, Lookup

TOKENS = st.lists(st.integers(0, 3), max_size=60)


def known(_: int) -> float | None:
    return None


@given(TOKENS, st.integers(1, 8))
def test_a_guess_continues_words_that_stood_there_before(tokens: list[int], most: int) -> None:
    guess = Lookup(tokens).draft(most)
    assert len(guess) in (0, most)
    if guess:
        assert any(
            tokens[place : place + 2] == tokens[-2:] and tokens[place + 2] == guess[0]
            for place in range(len(tokens) - 2)
        )


@given(TOKENS, TOKENS)
def test_it_does_not_matter_when_the_text_came(first: list[int], second: list[int]) -> None:
    grown = Lookup(first)
    for token in second:
        grown.push(token)
    assert grown.draft(4) == Lookup(first + second).draft(4)


def test_the_longest_match_wins_and_of_those_the_last() -> None:
    assert Lookup([1, 2, 3, 9, 5, 2, 3, 8, 1, 2, 3]).draft(2) == [9, 5]
    assert Lookup([1, 2, 7, 0, 1, 2, 8, 0, 5, 1, 2]).draft(1) == [8]
    assert Lookup([1, 2, 3]).draft(3) == []
    assert Lookup([]).draft(3) == []


def test_a_cycle_goes_on_beyond_the_end_of_the_text() -> None:
    assert Lookup([1, 2, 3, 1, 2, 3, 1, 2, 3]).draft(7) == [1, 2, 3, 1, 2, 3, 1]


def test_guesses_grow_while_they_hold_and_pause_when_they_do_not() -> None:
    drafts = Drafts([1, 2, 3] * 20, known)
    assert len(drafts.draft(100)) == FIRST
    for _ in range(5):
        drafts.learn(len(drafts.draft(100)), len(drafts.draft(100)))
    assert len(drafts.draft(100)) == MOST
    assert len(drafts.draft(3)) == 3
    for _ in range(3):
        drafts.learn(MOST, 0)
    assert drafts.draft(100) == []
    for token in [1, 2, 3] * 6:
        drafts.push(token)
    assert drafts.draft(100)


def test_guesses_that_do_not_pay_are_not_made_unless_always() -> None:
    def costly(tokens: int) -> float | None:
        return 0.01 * tokens

    def cheap(tokens: int) -> float | None:
        return 0.01 + 0.0001 * tokens

    cycle = [1, 2, 3] * 20
    assert Drafts(cycle, costly).draft(8) == []
    assert Drafts(cycle, cheap).draft(8)
    assert Drafts(cycle, costly, always=True).draft(8)
