"""Models that think before they answer: thoughts are told apart, a constraint holds what follows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from edgeship.engine.answer import Answer, ask
from edgeship.engine.api import Constraint, Conversation, Sampling
from edgeship.engine.text import TextCodec
from edgeship.engine.thinking import MARKS, Marks, Thoughts, answer_of
from tests import checkpoints
from tests.scripted import END, ByteCodec, ScriptedEngine

THINKING = Marks(ord("<"), ord(">"))
SCHEMA = Constraint("json_schema", '{"enum": ["yes", "no"]}')


def answer(said: str, *, question: str = "q", marks: Marks | None = THINKING, **settings: object) -> Answer:
    with ScriptedEngine({question: said}, thought_marks=marks) as engine:
        return ask(engine, Conversation([{"role": "user", "content": question}]), Sampling(**settings))  # type: ignore[arg-type]


def test_thoughts_are_no_part_of_the_text() -> None:
    found = answer("<It is \N{ROBOT FACE}.>\n\nyes")
    assert (found.thinking, found.text, found.finish) == ("It is \N{ROBOT FACE}.", "yes", "stop")


def test_models_without_marks_have_no_thoughts() -> None:
    assert answer("<a>b", marks=None).text == "<a>b"


def test_thoughts_come_first_or_not_at_all() -> None:
    found = answer("yes <no thought>")
    assert (found.thinking, found.text) == ("", "yes <no thought>")


def test_stop_texts_end_answers_and_no_thoughts() -> None:
    found = answer("<first. then.>second. third", stop=(".",))
    assert (found.thinking, found.text) == ("first. then.", "second")


def test_whether_thoughts_count() -> None:
    said = "<a long thought>yes it is"
    assert answer(said, max_tokens=6).text == ""
    assert answer(said, max_tokens=6).finish == "length"
    found = answer(said, max_tokens=6, thoughts_count=False)
    assert (found.thinking, found.text, found.finish) == ("a long thought", "yes it", "length")


def test_an_answer_may_end_within_its_thoughts() -> None:
    found = answer("<hm")
    assert (found.thinking, found.text, found.finish) == ("hm", "", "stop")


@pytest.mark.slow
@pytest.mark.parametrize("said", ['<Is it "no"?>"yes"', '<>"yes"', '"yes"'])
def test_a_constraint_begins_after_the_thoughts(said: str) -> None:
    found = answer(said, constraint=SCHEMA)
    assert (json.loads(found.text), found.finish) == ("yes", "stop")
    assert found.thinking == ('Is it "no"?' if "Is" in said else "")


@pytest.mark.slow
def test_under_a_constraint_thoughts_lead_to_an_answer() -> None:
    """A model that would end while it thinks goes on; what it says is cut, and not called whole."""
    assert answer("<hm", constraint=SCHEMA, max_tokens=40).finish == "length"


# --- where thoughts begin ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "now", "may_begin"),
    [
        ("question ", False, True),
        ("question <", True, False),
        ("question <\n", True, False),
        ("question <>", False, False),
        ("question <>\n", False, False),
        ("what is < 3 and more? ", False, True),
        ("<old>answer ", False, True),
    ],
)
def test_a_template_may_open_or_close_the_thoughts(prompt: str, now: bool, may_begin: bool) -> None:
    found = Thoughts(THINKING, list(prompt.encode()), ByteCodec().stream())
    assert (found.now, found.may_begin) == (now, may_begin)
    assert (found.take(ord("x")) is not None) == now


def test_nothing_is_thought_without_marks() -> None:
    found = Thoughts(None, [END], None)
    assert (found.now, found.may_begin, found.take(1)) == (False, False, None)


@pytest.mark.parametrize("names", [*MARKS, ("<plan>", "</plan>"), ("<think>",)])
def test_marks_are_tokens_of_the_tokenizer(names: tuple[str, ...], tmp_path: Path) -> None:
    checkpoints.make_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_tokens(list(names))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = TextCodec(tmp_path).thought_marks
    assert (found is not None) == (names in MARKS)
    if found is not None:
        assert [tokenizer.id_to_token(each) for each in (found.begin, found.end)] == list(names)


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("<think>\n\n</think>\n\nyes", "yes"),
        ("[THINK]a\nb[/THINK]yes", "yes"),
        ("yes <think>x</think>", "yes <think>x</think>"),
        ("<think>cut", "<think>cut"),
        ("", ""),
    ],
)
def test_a_text_without_its_thoughts(text: str, without: str) -> None:
    assert answer_of(text) == without
