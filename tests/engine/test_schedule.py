from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.schedule import CHUNK_TOKENS, LEAST_CHUNK_TOKENS, Pace, shares


@dataclass
class Prompt:
    order: int
    unread: int


PROMPTS = st.lists(st.integers(1, 500), min_size=1, max_size=8).map(
    lambda sizes: [Prompt(order, size) for order, size in enumerate(sizes)]
)


@given(PROMPTS, st.integers(LEAST_CHUNK_TOKENS, CHUNK_TOKENS), st.integers(0, 9))
def test_shares_keep_to_the_budget_and_to_what_is_there(prompts: list[Prompt], tokens: int, turn: int) -> None:
    found = shares(prompts, tokens, turn)
    assert found
    assert sum(count for _, count in found) <= tokens
    assert len({index for index, _ in found}) == len(found)
    for index, count in found:
        assert 0 < count <= prompts[index].unread


@given(PROMPTS, st.integers(LEAST_CHUNK_TOKENS, CHUNK_TOKENS))
def test_every_prompt_is_read_in_the_end(prompts: list[Prompt], tokens: int) -> None:
    turn = 0
    while left := [prompt for prompt in prompts if prompt.unread]:
        for index, count in shares(left, tokens, turn):
            left[index].unread -= count
        turn += 1
        assert turn < 10_000


def test_the_shortest_goes_first_and_the_oldest_at_every_fourth_turn() -> None:
    prompts = [Prompt(0, 2000), Prompt(1, 300), Prompt(2, 400)]
    first = [shares(prompts, 64, turn)[0][0] for turn in range(1, 9)]
    assert first == [1, 1, 1, 0, 1, 1, 1, 0]


def test_what_is_left_of_a_chunk_goes_to_the_next_prompt_unless_it_is_a_trifle() -> None:
    assert shares([Prompt(0, 10), Prompt(1, 50)], 30, 1) == [(0, 10), (1, 20)]
    assert shares([Prompt(0, 10), Prompt(1, 50)], 12, 1) == [(0, 10)]
    assert shares([Prompt(0, 10), Prompt(1, 1)], 12, 1) == [(1, 1), (0, 10)]


def test_nobody_waits_for_a_whole_chunk() -> None:
    pace = Pace()
    assert pace.chunk_tokens(0) == CHUNK_TOKENS
    assert pace.chunk_tokens(3) == 8
    pace.note_batch(3, 0.020)
    pace.note_read(9, 0.036)
    # 1.3 steps of 20 ms: the first token takes 20 and three more 2 each.
    assert pace.chunk_tokens(3) == 4
    assert pace.chunk_tokens(3, prompts=2) == 16  # 32 more ms
    pace.note_batch(1, 0.001)
    assert pace.chunk_tokens(1) == LEAST_CHUNK_TOKENS
    pace.note_batch(2, 10.0)
    assert pace.chunk_tokens(2) == CHUNK_TOKENS


def test_what_a_check_takes_is_measured_or_what_reading_takes() -> None:
    pace = Pace()
    assert pace.check_s(4) is None
    pace.note_batch(1, 0.010)
    assert (pace.check_s(1), pace.check_s(4)) == (0.010, None)
    pace.note_read(9, 0.026)
    assert pace.check_s(5) == pytest.approx(0.018)
    pace.note_check(5, 0.020)
    assert pace.check_s(5) == pytest.approx(0.020)
    pace.note_check(5, 0.030)
    assert pace.check_s(5) == pytest.approx(0.023)
