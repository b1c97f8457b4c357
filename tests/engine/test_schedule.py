from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.schedule import (
    CHUNK_TOKENS,
    FIRST_CHUNK_TOKENS,
    LEAST_CHUNK_TOKENS,
    READ_STEPS,
    StepTimes,
    Turns,
    allot,
)


@dataclass
class Prompt:
    arrival: int
    unread: int


PROMPTS = st.lists(st.integers(1, 500), min_size=1, max_size=8).map(
    lambda sizes: [Prompt(order, size) for order, size in enumerate(sizes)]
)


@given(PROMPTS, st.integers(LEAST_CHUNK_TOKENS, CHUNK_TOKENS), st.integers(0, 9))
def test_shares_keep_to_the_budget_and_to_what_is_there(prompts: list[Prompt], tokens: int, turn: int) -> None:
    found = allot(prompts, tokens, turn)
    assert found
    assert sum(count for _, count in found) <= tokens
    assert len({index for index, _ in found}) == len(found)
    for index, count in found:
        assert 0 < count <= prompts[index].unread


@given(PROMPTS, st.integers(LEAST_CHUNK_TOKENS, CHUNK_TOKENS))
def test_every_prompt_is_read_in_the_end(prompts: list[Prompt], tokens: int) -> None:
    turn = 0
    while left := [prompt for prompt in prompts if prompt.unread]:
        for index, count in allot(left, tokens, turn):
            left[index].unread -= count
        turn += 1
        assert turn < 10_000


def test_the_shortest_goes_first_and_the_oldest_at_every_fourth_turn() -> None:
    prompts = [Prompt(0, 2000), Prompt(1, 300), Prompt(2, 400)]
    first = [allot(prompts, 64, turn)[0][0] for turn in range(1, 9)]
    assert first == [1, 1, 1, 0, 1, 1, 1, 0]


def test_what_is_left_of_a_chunk_goes_to_the_next_prompt_unless_it_is_a_trifle() -> None:
    assert allot([Prompt(0, 10), Prompt(1, 50)], 30, 1) == [(0, 10), (1, 20)]
    assert allot([Prompt(0, 10), Prompt(1, 50)], 12, 1) == [(0, 10)]
    assert allot([Prompt(0, 10), Prompt(1, 1)], 12, 1) == [(1, 1), (0, 10)]


def known() -> StepTimes:
    """Three answers take a step of 20 ms; a prompt's first token takes as long, and each one more 2 ms."""
    times = StepTimes()
    times.note_batch(3, 0.020)
    times.note_read(9, 0.036)
    return times


def test_reading_takes_the_first_token_and_the_rest() -> None:
    times = known()
    assert (times.step_s(3), times.step_s(2)) == (0.020, None)
    assert times.read_s(41) == pytest.approx(0.100)
    assert (times.tokens_in(0.1001), times.tokens_in(0.0), times.tokens_in(60.0)) == (
        40,
        LEAST_CHUNK_TOKENS,
        CHUNK_TOKENS,
    )
    assert StepTimes().read_s(41) is None


def test_where_no_answer_runs_as_much_is_read_as_goes_at_once() -> None:
    assert Turns(known()).tokens(0, [Prompt(0, 9999)], 0.0) == CHUNK_TOKENS
    slow = StepTimes()
    slow.note_read(101, 1.0)
    assert Turns(slow).tokens(0, [Prompt(0, 9999)], 0.0) == 100
    assert Turns(StepTimes()).tokens(0, [Prompt(0, 9999)], 0.0) == FIRST_CHUNK_TOKENS
    assert Turns(StepTimes(), whole_chunks=True).tokens(0, [Prompt(0, 9999)], 0.0) == CHUNK_TOKENS
    quick = StepTimes()
    quick.note_read(101, 0.001)
    assert Turns(quick).tokens(0, [Prompt(0, 9999)], 0.0) == CHUNK_TOKENS


def test_before_anything_is_known_little_is_read() -> None:
    assert 0 < Turns(StepTimes()).tokens(3, [Prompt(0, 9999)], 0.0) <= 16
    assert Turns(StepTimes()).gap(3, 1) == (0.0, 0.0)


def test_a_chunk_has_its_turn_once_tokens_last_for_it() -> None:
    turns, prompts = Turns(known()), [Prompt(0, 2000)]
    gap_s, most_s = turns.gap(3, 1)
    assert gap_s == pytest.approx((1 + READ_STEPS) * 0.020)
    # 40 tokens take 98 ms, and the answers' own step 20 before their next tokens are there.
    needed_s = 0.020 + 1.25 * 0.098 - gap_s
    assert turns.tokens(3, prompts, needed_s - 0.001) == 0
    assert turns.tokens(3, prompts, needed_s + 0.001) == 40
    # And as much may be held back.
    assert most_s > needed_s
    assert turns.tokens(3, [Prompt(0, 8)], 0.020 + 1.25 * 0.034 - gap_s + 0.001) == 8


def test_nobody_waits_for_ever_where_no_tokens_can_be_made_ahead() -> None:
    turns, prompts = Turns(known()), [Prompt(0, 2000)]
    turns_taken = [turns.tokens(3, prompts, 0.0) for _ in range(60)]
    assert set(turns_taken) == {0, 40}
    assert turns_taken.count(40) >= 2


def test_several_prompts_may_take_more_time() -> None:
    turns = Turns(known())
    one, three = turns.gap(3, 1), turns.gap(3, 3)
    assert three[0] == pytest.approx(one[0] + 2 * READ_STEPS * 0.020)
    assert turns.gap(3, 0) == (0.0, 0.0)


@given(st.integers(1, 8), PROMPTS, st.floats(0.0005, 0.5), st.floats(0.02, 2.0))
def test_answers_keep_their_pace_and_prompts_get_read(
    rows: int, prompts: list[Prompt], step_s: float, token_steps: float
) -> None:
    """On a machine whose steps take what is foreseen no pause is longer than the gap, and all is read in the end."""
    times = StepTimes()
    token_s = token_steps * step_s
    times.note_batch(rows, step_s)
    times.note_read(101, step_s + 100 * token_s)
    turns, now, due, turn = Turns(times), 0.0, 0.0, 0
    pauses: list[tuple[float, float]] = []
    while left := [prompt for prompt in prompts if prompt.unread]:
        gap_s, most_s = turns.gap(rows, len(left))
        now += step_s
        before, due = due, min(max(now, due + gap_s), now + most_s)
        pauses.append((due - before, gap_s))
        if tokens := turns.tokens(rows, left, due - now):
            for index, count in allot(left, tokens, turn):
                left[index].unread -= count
                now += step_s + (count - 1) * token_s
            turn += 1
        assert len(pauses) < 10_000
    # The first token has none before it. Several chunks in one turn have several beginnings, which are not foreseen.
    for pause_s, gap_s in pauses[1:]:
        assert pause_s <= gap_s + len(prompts) * (step_s + LEAST_CHUNK_TOKENS * token_s) + 1e-9


def test_what_a_check_takes_is_measured_or_what_reading_takes() -> None:
    times = StepTimes()
    assert times.check_s(4) is None
    times.note_batch(1, 0.010)
    assert (times.check_s(1), times.check_s(4)) == (0.010, None)
    times.note_read(9, 0.026)
    assert times.check_s(5) == pytest.approx(0.018)
    times.note_check(5, 0.020)
    assert times.check_s(5) == pytest.approx(0.020)
    times.note_check(5, 0.030)
    assert times.check_s(5) == pytest.approx(0.023)
