"""What is asked: exact lengths, prompts that differ from their first token on, files with faults."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship.errors import PromptsInvalid, UsageError
from edgeship.measure.load.texts import WORDS, Count, learn, text_prompts
from edgeship.measure.load.workload import read_prompts, synthetic, token_prompts


def lines(path: Path, *values: object) -> Path:
    file = path / "prompts.jsonl"
    file.write_text(
        "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in values), encoding="utf-8"
    )
    return file


def test_token_prompts_have_their_length_and_differ_from_their_first_token_on() -> None:
    scripts = list(islice(synthetic(token_prompts(1000, 20, 8, 0), 0), 300))
    prompts = [script.first.tokens for script in scripts]
    assert {len(prompt) for prompt in prompts} == {20}
    assert len({prompt[0] for prompt in prompts}) == 300
    assert all(250 <= token < 750 for prompt in prompts for token in prompt)
    again = [script.first for script in islice(synthetic(token_prompts(1000, 20, 8, 0), 0), 3)]
    assert again == [script.first for script in scripts[:3]]
    assert scripts[0].first.ignore_eos
    assert scripts[0].first.new_tokens == 8


def counting(*, overhead: int, two: str = "", first: int = 0) -> Count:
    """Words of one token, but those that begin with these letters have two; the first word of a text `first` more."""

    def count(text: str) -> int:
        return overhead + first + sum(2 if word[0] in two else 1 for word in text.split())

    return count


@settings(max_examples=30)
@given(st.integers(20, 80), st.integers(0, 12), st.sampled_from(["", "t", "tpm"]), st.integers(0, 1), st.booleans())
def test_text_prompts_have_their_length(tokens: int, overhead: int, two: str, first: int, cheap: bool) -> None:
    count = counting(overhead=overhead, two=two, first=first)
    make = text_prompts(learn(count, cheap=cheap), tokens, 8)
    for number in range(3):
        question = make(random.Random(number), number)
        assert count(str(question.messages[0]["content"])) == question.prompt_tokens == tokens


def test_text_prompts_begin_with_other_words() -> None:
    make = text_prompts(learn(counting(overhead=3), cheap=False), 30, 8)
    texts = [str(make(random.Random(number), number).messages[0]["content"]) for number in range(500)]
    assert len({" ".join(text.split()[:2]) for text in texts}) == 500
    assert len({text.split()[0] for text in texts[: len(WORDS)]}) == len(WORDS)


def test_learning_costs_few_counts_where_words_are_tokens() -> None:
    spent: list[str] = []

    def count(text: str) -> int | None:
        spent.append(text)
        return counting(overhead=3)(text)

    learn(count, cheap=False)
    assert len(spent) < 10


def test_a_target_that_tells_no_length_is_asked_as_many_words() -> None:
    question = text_prompts(learn(lambda _: None, cheap=False), 30, 8)(random.Random(0), 0)
    assert len(str(question.messages[0]["content"]).split()) == 30
    assert question.prompt_tokens is None


def test_prompts_shorter_than_the_template_are_refused() -> None:
    with pytest.raises(UsageError, match="the chat template alone makes 30 tokens"):
        text_prompts(learn(counting(overhead=30), cheap=True), 30, 8)


def test_a_file_of_questions(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "b"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "c"}]
    file = lines(tmp_path, {"prompt": "a"}, {"messages": chat, "expected": "y"}, {"instruction": "d", "output": "z"})
    found = [script.first for script in read_prompts(file, 9)]
    assert [len(question.messages) for question in found] == [1, 3, 1]
    assert [question.messages[-1]["content"] for question in found] == ["a", "c", "d"]
    assert all(question.new_tokens == 9 and not question.ignore_eos for question in found)


def test_a_replay_has_the_users_turns(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "y"},
    ]
    [script] = read_prompts(lines(tmp_path, {"messages": chat}), 9, replay=True)
    assert script.turns == 2
    told = [message["content"] for message in script.question(["mine"]).messages]
    assert told == ["s", "a", "mine", "b"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (['{"messages": ['], "line 1: Invalid JSON"),
        ([{"prompt": "a"}, {"messages": []}], "line 2: .*no message"),
        ([{"messages": [{"role": "user"}]}], "line 1: message 1 has no content"),
        ([{"text": "a"}], "line 1: messages: this field is missing"),
        (["7"], "line 1: it is no object"),
        ([[1]], "item 1: it is no object"),
        ([], "holds no prompts"),
    ],
)
def test_a_faulty_file_is_refused_with_the_line(tmp_path: Path, values: list[object], told: str) -> None:
    file = lines(tmp_path, *values)
    with pytest.raises(PromptsInvalid, match=told) as caught:
        read_prompts(file, 9)
    assert caught.value.where == str(file)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("tells", [lambda _: 10, lambda text: 10 ** len(text), lambda text: 900 - len(text)])
def test_what_does_not_grow_with_the_text_is_no_count_of_it(tells: Callable[[str], int]) -> None:
    spent: list[str] = []

    def count(text: str) -> int | None:
        spent.append(text)
        return tells(text)

    assert not learn(count, cheap=False).exact
    assert len(spent) == 2
