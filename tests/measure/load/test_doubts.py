"""Targets that cannot be believed: what is said of them, and which figures are refused."""

from __future__ import annotations

import pytest

from edgeship.measure.load.doubts import Expected, Trust, judge
from edgeship.measure.load.records import Arrival, Record
from tests.measure.load.samples import arrivals, record

TENTH = [0.1 * number for number in range(1, 41)]
SYNTHETIC = Expected(synthetic=True, overhead_tokens=4)


def trust(*records: Record, expected: Expected = SYNTHETIC) -> Trust:
    return judge(records, expected)


def codes(*records: Record, expected: Expected = SYNTHETIC) -> list[str]:
    return [doubt.code for doubt in trust(*records, expected=expected).doubts]


def test_an_honest_target_is_believed() -> None:
    found = trust(record(TENTH, asked=40), record(TENTH, asked=40, output_tokens=41))
    assert (found.doubts, found.refused, found.shown_only) == ((), {}, True)


def test_merged_chunks_tell_neither_itl_nor_tpot() -> None:
    found = trust(record(TENTH[3::4], output_tokens=40))
    assert found.refused == {"itl_s": "merged-chunks", "tpot_s": "merged-chunks"}
    assert "40 tokens came in 10 pieces, 4.0 tokens each" in str(found.doubts[0])


def test_merged_chunks_that_tell_their_tokens_tell_tpot() -> None:
    pieces = tuple(Arrival(at_s, ("text",), 4) for at_s in TENTH[3::4])
    assert trust(record(TENTH, arrivals=pieces)).refused == {"itl_s": "merged-chunks"}


def test_empty_chunks_beside_the_tokens_are_left_out() -> None:
    pieces = arrivals(TENTH) + arrivals(TENTH, None)
    found = trust(record(TENTH, arrivals=pieces))
    assert ([doubt.code for doubt in found.doubts], found.refused, found.shown_only) == (["empty-chunks"], {}, True)


def test_empty_chunks_that_stand_for_tokens_count() -> None:
    pieces = arrivals(TENTH[:20]) + arrivals(TENTH[20:], None)
    found = trust(record(TENTH, arrivals=pieces))
    assert ([doubt.code for doubt in found.doubts], found.refused, found.shown_only) == (["empty-chunks"], {}, False)


def test_without_usage_and_tokenizer_nothing_is_told_by_the_token() -> None:
    found = trust(record(TENTH, output_tokens=None))
    assert set(found.refused) == {"itl_s", "tpot_s", "output_tokens_per_s"}
    assert not trust(record(TENTH, output_tokens=None, counted_output_tokens=40)).refused


@pytest.mark.parametrize(
    ("told", "counted"),
    [(80, 40), (30, 40), (30, None), (44, 40), (400, 40)],
)
def test_usage_that_lies_is_found(told: int, counted: int | None) -> None:
    found = trust(record(TENTH, output_tokens=told, counted_output_tokens=counted))
    assert {"itl_s", "tpot_s", "output_tokens_per_s"} <= set(found.refused)
    assert found.refused["output_tokens_per_s"] == "usage-differs"


def test_tokens_past_the_end_leave_no_text_and_are_no_lie() -> None:
    pieces = (*arrivals(TENTH, tokens=1), Arrival(4.1, (), 24))
    found = trust(record(TENTH, arrivals=pieces, output_tokens=64, counted_output_tokens=40))
    assert not {"tpot_s", "output_tokens_per_s"} & set(found.refused)
    assert "silent-tokens" in [doubt.code for doubt in found.doubts]
    lies = record(TENTH, arrivals=arrivals(TENTH, tokens=2), output_tokens=80, counted_output_tokens=40)
    assert trust(lies).refused["output_tokens_per_s"] == "usage-differs"


def test_usage_beyond_what_was_allowed_is_found() -> None:
    assert "usage-differs" in codes(record(TENTH, asked=30))


def test_a_text_may_be_broken_into_a_few_tokens_more_or_less() -> None:
    assert not codes(record(TENTH, output_tokens=40, counted_output_tokens=35))


def test_an_answer_that_was_long_enough_has_the_tokens_that_were_asked_for() -> None:
    assert trust(record(TENTH[::4], asked=40)).refused["tpot_s"] == "usage-differs"


def test_short_answers_are_told_with_their_reason() -> None:
    [doubt] = trust(record(TENTH, asked=64, finish="stop"), record(TENTH, asked=40)).doubts
    assert doubt.code == "answers-short"
    assert (
        "1 of 2 answers ended before they had 64 tokens, at 40 on average: the target was asked to go on" in doubt.what
    )
    [doubt] = trust(
        record(TENTH, asked=64, finish="stop"), expected=Expected(synthetic=True, ends_early="it cannot be asked")
    ).doubts
    assert "it cannot be asked" in doubt.what


def test_a_prefix_cache_is_found_on_prompts_that_nobody_asked_before() -> None:
    found = trust(record(TENTH, prompt_tokens=100, cached_tokens=96))
    assert set(found.refused) == {"ttft_s", "first_text_s", "e2e_s", "input_tokens_per_s"}
    assert "96% of the tokens" in str(found.doubts[0])


def test_a_template_may_be_known_and_is_told() -> None:
    found = trust(record(TENTH, prompt_tokens=10, cached_tokens=4))
    assert ([str(doubt) for doubt in found.doubts], found.refused) == (
        ["template-cached: 40% of the prompts' tokens are the chat template's, and were known from before."],
        {},
    )


def test_prompts_of_an_unknown_length_are_told() -> None:
    assert codes(record(TENTH), expected=Expected(synthetic=True, exact=False)) == ["prompt-unknown"]


def test_a_prefix_cache_on_the_users_prompts_is_told_and_refuses_nothing() -> None:
    found = trust(record(TENTH, prompt_tokens=100, cached_tokens=96), expected=Expected())
    assert ([doubt.code for doubt in found.doubts if doubt.code != "prompt-differs"], found.refused) == (
        ["prefix-cache"],
        {},
    )


def test_thoughts_are_told() -> None:
    pieces = arrivals(TENTH[:20], "thinking") + arrivals(TENTH[20:])
    assert codes(record(TENTH, arrivals=pieces)) == ["thinking"]


def test_thoughts_that_are_counted_and_not_sent_refuse_what_tokens_take() -> None:
    found = trust(record(TENTH, output_tokens=80, reasoning_tokens=40))
    assert "hidden-thinking" in [doubt.code for doubt in found.doubts]
    assert {"tpot_s", "itl_s"} <= set(found.refused)


def test_prompts_of_another_length_are_told() -> None:
    assert codes(record(TENTH, prompt_tokens=15)) == ["prompt-differs"]


def test_tokens_that_come_several_at_a_time_are_told() -> None:
    in_threes = [place + 0.001 * number for place in TENTH[::4] for number in range(3)]
    [doubt] = trust(record(in_threes)).doubts
    assert (doubt.code, doubt.figures) == ("bursts", ())
    assert "69% of the pieces" in doubt.what


def test_answers_that_show_nothing_are_no_fast_ones() -> None:
    found = trust(record(TENTH, arrivals=arrivals(TENTH, None)))
    assert set(found.refused) == {"itl_s", "tpot_s", "output_tokens_per_s", "e2e_s"}
