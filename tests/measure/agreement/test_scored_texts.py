from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeship.checkpoint import open_checkpoint
from edgeship.engine.api import Message, Prompt
from edgeship.errors import TemplateMissing, TextsInvalid
from edgeship.measure.agreement import questions
from edgeship.measure.agreement.questions import built_in_prompts
from edgeship.measure.agreement.reference import PlainText, ScoredText
from edgeship.measure.agreement.scored_texts import (
    WINDOW_TOKENS,
    CheckpointReader,
    PackageReader,
    own_answers,
    read_texts,
)
from tests import checkpoints

HELLO = [{"role": "user", "content": "hello"}]


class Bytes:
    """Tokens are bytes, and every text begins with 1."""

    def __init__(self, begin: Sequence[int] = (1,), end: Sequence[int] = ()) -> None:
        self.begin, self.end = list(begin), list(end)

    def encode(self, text: str, *, special: bool) -> Sequence[int]:
        return self.begin * special + list(text.encode()) + self.end * special

    def ask(self, messages: Sequence[Message]) -> Sequence[int]:
        return list("".join(f"{message['content']}|" for message in messages).encode())

    def readable(self, messages: Sequence[Message]) -> Sequence[Message]:
        return messages


def written(folder: Path, *examples: Any) -> Path:
    path = folder / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, examples)), encoding="utf-8")
    return path


def test_shapes_of_fine_tuning_and_evaluation(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"messages": [*HELLO, {"role": "assistant", "content": "yes"}]},
        {"instruction": "hello", "output": "yes"},
        {"messages": HELLO, "expected": {"a": 1}},
        {"question": "hello", "answers": ["yes", "yeah"]},
        {"messages": HELLO},
        {"text": "ab"},
        {"text": "c"},
    )
    assert read_texts(path, Bytes()) == [
        ScoredText(HELLO, "yes"),
        ScoredText(HELLO, "yes"),
        ScoredText(HELLO, '{"a": 1}'),
        ScoredText(HELLO, "yes"),
        Prompt(tuple(b"hello|")),
        PlainText([1, *b"ab"]),
        PlainText([1, *b"c"]),
    ]


@pytest.mark.parametrize(("begin", "end"), [((), ()), ((1,), ())])
def test_plain_text_is_cut_into_windows_that_each_begin_as_texts_do(
    tmp_path: Path, begin: tuple[int, ...], end: tuple[int, ...]
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("x" * 1300, encoding="utf-8")
    found = read_texts(path, Bytes(begin, end))
    assert all(isinstance(text, PlainText) for text in found)
    tokens = [list(text.tokens) for text in found if isinstance(text, PlainText)]
    assert [len(one) for one in tokens[:2]] == [WINDOW_TOKENS, WINDOW_TOKENS]
    assert {tuple(one[: len(begin)]) for one in tokens} == {begin}
    assert sum(len(one) - len(begin) for one in tokens) == 1300


def test_what_a_tokenizer_puts_at_the_end_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("abc", encoding="utf-8")
    assert read_texts(path, Bytes((1,), (2,))) == [PlainText(list(b"abc"))]


def test_texts_are_taken_evenly(tmp_path: Path) -> None:
    path = written(tmp_path, *({"text": f"{number} is one"} for number in range(10)))
    found = read_texts(path, Bytes(()), limit=2)
    assert found == [PlainText(list(b"0 is one")), PlainText(list(b"5 is one"))]


@pytest.mark.parametrize(
    ("content", "what", "where"),
    [
        ('{"text": "a b"}\n{"text": ', "a line is not valid JSON", ":2"),
        ('{"text": "a b"}\n{"tokens": [1]}', 'neither "messages" nor "text"', ":2"),
        ('{"messages": [{"role": 1}]}', '"messages" is no list', ":1"),
        ("", "holds no text", ""),
        ('{"text": ""}', "holds no text", ""),
    ],
)
def test_a_file_that_says_nothing_is_told_with_its_line(tmp_path: Path, content: str, what: str, where: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TextsInvalid, match=what) as caught:
        read_texts(path, Bytes(()))
    assert caught.value.where == f"{path}{where}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TextsInvalid, match="the texts file cannot be read") as caught:
        read_texts(tmp_path / "none", Bytes())
    assert caught.value.hint is not None
    assert "--texts" in caught.value.hint


def test_checkpoint_and_package_read_alike(tmp_path: Path) -> None:
    folder = checkpoints.make_checkpoint(tmp_path / "tiny")
    checkpoint, package = open_checkpoint(str(folder)), PackageReader(folder)
    reader = CheckpointReader(checkpoint)
    assert reader.encode("hello there", special=True) == list(package.encode("hello there", special=True))
    assert tuple(reader.ask(HELLO)) == tuple(package.ask(HELLO))
    assert own_answers(package) == built_in_prompts(checkpoint)
    assert len(own_answers(package)) == len(questions.built_in())


def test_a_package_without_a_template_has_no_conversations(tmp_path: Path) -> None:
    reader = PackageReader(checkpoints.make_checkpoint(tmp_path / "tiny", template=None))
    with pytest.raises(TemplateMissing):
        read_texts(written(tmp_path, {"messages": HELLO, "expected": "yes"}), reader)
    with pytest.raises(TemplateMissing):
        own_answers(reader)
