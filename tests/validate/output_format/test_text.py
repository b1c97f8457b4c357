from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.validate.output_format.text import FAMILIES_MARKS, is_telling, leaked, loop_share, scripts, strange_share


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ('{"a": 1}<|im_end|>\n<|im_start|>user', "<|im_end|>"),
        ("Sure. [/INST] And", "[/INST]"),
        ('<tool_call>\n{"name": "f"}\n</tool_call>', "<tool_call>"),
        ("<think>Well</think>yes", "<think>"),
        ("assistant\nHello", "assistant"),
        ("The user\nsaid so.", None),
        ("Use <b>bold</b> and a <s>line</s>.", None),
        ("assistant", None),
    ],
)
def test_marks_of_templates_are_seen(text: str, mark: str | None) -> None:
    assert leaked(text, FAMILIES_MARKS) == mark


def test_a_mark_that_the_question_has_may_stand_in_the_answer() -> None:
    assert leaked("It is <|im_end|>.", FAMILIES_MARKS, allowed="What is <|im_end|>?") is None
    assert leaked("User\nAda", FAMILIES_MARKS, allowed="user\nBob") is None


@pytest.mark.parametrize(
    ("mark", "telling"), [("<s>", True), ("[PAD]", True), ("user", False), ("\n", False), ("#", False)]
)
def test_words_and_single_signs_tell_nothing(mark: str, telling: bool) -> None:
    assert is_telling(mark) == telling


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("It rains. It snows. The wind blows from the north today.", 0, 0),
        ("Well: " + "and so on " * 20, 0.95, 1),
        ("First something of its own, " + "then the same. " * 3, 0.6, 0.65),
        ("no" * 8, 0, 0),
        ("..........", 0, 0),
        ('{"a": [0, 0, 0, 0]}', 0, 0),
        ("", 0, 0),
    ],
)
def test_a_repetition_loop_is_a_part_of_the_answer(text: str, least: float, most: float) -> None:
    assert least <= loop_share(text) <= most


def _plainly(text: str) -> int:
    """The longest end that has a period of a third of it at most, found by trying all."""
    ends = [
        length
        for length in range(1, len(text) + 1)
        if any(
            3 * period <= length and text[-length:][period:] == text[-length:][:-period]
            for period in range(1, length // 3 + 1)
        )
    ]
    return max(ends, default=0)


@given(st.text("ab", max_size=12), st.text("ab", max_size=9), st.integers(0, 9))
def test_loops_are_those_that_trying_all_finds(before: str, circle: str, times: int) -> None:
    text = before + circle * times
    longest = _plainly(text)
    assert loop_share(text) == (longest / len(text) if longest >= 24 else 0)


def test_a_long_answer_is_looked_at_in_no_time() -> None:
    assert loop_share("ab" * 500_000) == 1


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Guten Morgen, Łódź", 0),
        ("Ｇｕｔｅｎ Ｍｏｒｇｅｎ, 1ª 𝐛𝐨𝐥𝐝", 0),
        ("你好 abc", 2 / 5),
        ("Привет", 1),
        ("123 !?", 0),
        ("", 0),
    ],
)
def test_letters_of_other_scripts_are_counted(text: str, share: float) -> None:
    assert strange_share(text, {"LATIN"}) == share


def test_japanese_is_written_in_kana_and_characters() -> None:
    assert scripts("コーヒーを飲む人々") == {"KANA": 4, "CJK": 2}
    assert scripts("ｺｰﾋｰ") == {"KANA": 2}
    assert strange_share("コーヒー", scripts("おちゃ")) == 0
