"""Models that think before they answer: thoughts are told apart, a constraint holds what follows them."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from edgeship.engine.answer import Answer, ask, collect
from edgeship.engine.api import Constraint, Conversation, Prompt, Sampling, Token
from edgeship.engine.isolated_answer import Answer as IsolatedAnswer
from edgeship.engine.pacing import Callbacks
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


def test_a_text_that_goes_on_has_no_thoughts() -> None:
    with ScriptedEngine({}, default="<a>b", thought_marks=THINKING) as engine:
        found = collect(engine.stream(engine.encode("q"), Sampling()))
    assert (found.text, found.thinking, found.usage.reasoning_tokens) == ("<a>b", "", 0)


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


@pytest.mark.parametrize("most", [3, 0])
def test_a_budget_ends_the_thoughts(most: int) -> None:
    """Where the script has `-`, the mark is put in its place."""
    said = f"<{'abc'[:most]}-yes it is"
    found = answer(said, thinking_tokens=most)
    assert (found.thinking, found.text, found.finish) == ("abc"[:most], "yes it is", "stop")
    assert found.usage.reasoning_tokens == most + 2
    with ScriptedEngine({"q": said}, thought_marks=THINKING) as engine:
        opened = Prompt((*engine.render(Conversation([{"role": "user", "content": "q"}])).tokens, THINKING.begin))
        found = collect(engine.stream(opened, Sampling(thinking_tokens=most)))
    assert (found.thinking, found.text) == ("abc"[:most], "yes it is")
    assert found.usage.reasoning_tokens == most + 1


@pytest.mark.parametrize("settings", [{"seed": 1, "temperature": 1.0}, {"logprobs": 2}, {"ignore_eos": True}])
def test_the_end_of_a_budget_is_a_token_like_others(settings: dict[str, Any]) -> None:
    found = answer("<abc-yes", thinking_tokens=3, max_tokens=8, **settings)
    assert (found.thinking, found.text) == ("abc", "yes")
    assert bytes(found.tokens[:8]) == b"<abc>yes"
    assert len(found.logprobs) == (len(found.tokens) if "logprobs" in settings else 0)


def test_a_budget_that_is_not_spent_changes_nothing() -> None:
    for said in ("<abc>yes", "yes"):
        assert answer(said, thinking_tokens=3).text == "yes"
    assert answer("<abc>yes", marks=None, thinking_tokens=0).text == "<abc>yes"


def test_a_budget_and_guesses() -> None:
    """What is guessed beyond the budget is not said."""
    question = "<abcdefgh abcdefgh "
    with ScriptedEngine({question: "<abcdefgh-yes"}, thought_marks=THINKING, speculation=True) as engine:
        conversation = Conversation([{"role": "user", "content": question}])
        found = ask(engine, conversation, Sampling(thinking_tokens=8))
    assert (found.thinking, found.text) == ("abcdefgh", "yes")
    assert found.usage.drafted_tokens


def test_thoughts_of_an_answer_that_is_cut_are_counted() -> None:
    found = answer("<a long thought>yes", max_tokens=6)
    assert (found.usage.reasoning_tokens, found.usage.completion_tokens) == (6, 6)
    with ScriptedEngine({"q": "<abc>yes"}, thought_marks=THINKING) as engine:
        cancel = threading.Event()
        steps = engine.converse(Conversation([{"role": "user", "content": "q"}]), Sampling(), cancel=cancel)
        for _ in range(3):
            next(steps)
        cancel.set()
        usage = next(steps).usage
    assert usage
    assert (usage.reasoning_tokens, usage.completion_tokens) == (3, 3)


def test_thoughts_of_an_answer_from_another_process_are_counted() -> None:
    callbacks = Callbacks("test")
    found = IsolatedAnswer(callbacks, None, None, None)
    for token in (Token(1, ""), Token(2, "", thinking="a"), Token(3, "", thinking="b"), Token(4, ""), Token(5, "yes")):
        found.take({"token": asdict(token)})
    callbacks.close()
    assert [found.usage(count).reasoning_tokens for count in (1, 3, 5)] == [1, 3, 3]


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
def test_a_constraint_begins_where_a_budget_ends_the_thoughts() -> None:
    found = answer('<Is "-"yes"', thinking_tokens=4, constraint=SCHEMA)
    assert (found.thinking, json.loads(found.text), found.finish) == ('Is "', "yes", "stop")


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


@pytest.mark.parametrize("names", [*(marks[:2] for marks in MARKS), ("<plan>", "</plan>"), ("<think>",)])
def test_marks_are_tokens_of_the_tokenizer(names: tuple[str, ...], tmp_path: Path) -> None:
    checkpoints.make_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_tokens(list(names))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = TextCodec(tmp_path).thought_marks
    assert (found is not None) == (names[-1] in [end for _, end, _ in MARKS])
    if found is not None:
        assert [tokenizer.id_to_token(each) for each in (found.begin, found.end)] == list(names)
        assert (*names, found.label) in MARKS


@pytest.mark.parametrize(
    ("said", "thinking"),
    [
        ("<thought\nIt rains.>yes", "It rains."),
        ("<thought\n>yes", ""),
        ("<>yes", ""),
        ("<thoughtful>yes", "thoughtful"),
        ("<tho>yes", "tho"),
        ("<x thought\n>yes", "x thought\n"),
    ],
)
def test_the_label_of_thoughts_is_none_of_them(said: str, thinking: str) -> None:
    found = answer(said, marks=Marks(ord("<"), ord(">"), "thought\n"))
    assert (found.thinking, found.text) == (thinking, "yes")


def test_thoughts_that_a_template_opened_have_no_label() -> None:
    found = Thoughts(Marks(ord("<"), ord(">"), "thought\n"), list(b"question <t\n"), ByteCodec().stream())
    assert [found.take(token) for token in b"tho>y"] == ["t", "h", "o", "", None]


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("<think>\n\n</think>\n\nyes", "yes"),
        ("[THINK]a\nb[/THINK]yes", "yes"),
        ("<|channel>thought\nx<channel|>yes", "yes"),
        ("<seed:think>x</seed:think>yes", "yes"),
        ("yes <think>x</think>", "yes <think>x</think>"),
        ("<think>cut", "<think>cut"),
        ("", ""),
    ],
)
def test_a_text_without_its_thoughts(text: str, without: str) -> None:
    assert answer_of(text) == without
