"""Calls told apart from text, however the text comes in pieces."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.api import CallPiece, ToolCall
from edgeship.engine.tools import CallMarks, CallReader, MarkedText
from edgeship.package.tool_formats import FORMATS, HERMES, ToolFormat
from tests.scripted import ByteCodec

BY_NAME = {form.name: form for form in FORMATS}
FUNCTIONS = tuple({"name": name} for name in ("weather", "we", 'odd "name"'))
BONN = ("weather", {"city": "Bonn", "note": 'a "quoted" }] \\ \u00fc\n'})
every_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)


def read(form: ToolFormat, pieces: Sequence[str]) -> tuple[str, list[tuple[str, str]], list[tuple[str, str]]]:
    """Text, calls, and the calls as their pieces tell them."""
    reader = CallReader(form, FUNCTIONS)
    steps = [*(reader.push(piece) for piece in pieces), reader.push("", last=True)]
    calls = [call for step in steps for call in step.tool_calls]
    told: dict[int, tuple[str, str]] = {}
    ids: dict[int, str | None] = {}
    for piece in (piece for step in steps for piece in step.calling):
        if piece.index not in told:
            assert piece.id is not None
            assert piece.name is not None
            ids[piece.index] = piece.id
        else:
            assert (piece.id, piece.name) == (None, None)
        name, arguments = told.get(piece.index, (piece.name or "", ""))
        told[piece.index] = (name, arguments + piece.arguments)
    assert reader.made == len(calls)
    assert list(told) == list(range(len(told)))
    assert {call.id for call in calls} <= set(ids.values())
    assert len(set(ids.values())) == len(ids)
    text = "".join(step.text for step in steps)
    return text, [(call.name, call.arguments) for call in calls], list(told.values())


@every_format
def test_what_is_written_is_read(form: ToolFormat) -> None:
    calls = [BONN, ("we", {})] if form.several else [BONN]
    text, made, told = read(form, [form.written(calls)])
    assert text == ""
    assert [(name, json.loads(arguments)) for name, arguments in made] == calls
    assert told == made


def pieces_of(text: str, cuts: Sequence[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def likely(form: ToolFormat) -> st.SearchStrategy[str]:
    """Texts with calls, halves of calls, and what looks like them."""
    whole = form.written([BONN])
    parts = ["", " ", "\n", "text", "{", "}", "[", "]", ",", '"', "\\", "<", whole, whole[: len(whole) // 2]]
    parts += [form.written([("we", {})]), form.written([("unknown", {})]), whole[:-3], *form.marks]
    parts += ['{"name": "we", "arguments": {}}', '{"arguments": {"a": [1, "]"]}, "id": 3, "name": "we"}', '{"city": 1}']
    return st.lists(st.sampled_from(parts), max_size=6).map("".join)


@every_format
@given(data=st.data())
def test_pieces_do_not_matter(form: ToolFormat, data: st.DataObject) -> None:
    text = data.draw(likely(form))
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=8))
    assert read(form, pieces_of(text, cuts)) == read(form, [text]) == read(form, list(text))


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("hermes", "no call"),
        ("hermes", "  spaces \n stay \n"),
        ("hermes", "<tool_call> is the mark"),
        ("hermes", '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>'),
        ("hermes", '<tool_call>\n{"name": "we'),
        ("hermes", '<tool_call>\n{"name": 3}'),
        ("hermes", "<tool_cal"),
        ("hermes", "<tool_call><tool_call><"),
        ("mistral", "[TOOL_CALLS] []"),
        ("mistral-args", "[TOOL_CALLS]unknown[ARGS]{}"),
        ("mistral-args", "[TOOL_CALLS]" + "we" * 20),
        ("llama3", '{"city": "Bonn"}'),
        ("llama3", 'Say {"name": "we", "parameters": {}}'),
        ("llama3", '{"name": "we"}'),
        ("json", '{"name": "w'),
        ("json-list", "[1, 2, 3]"),
    ],
)
def test_what_only_looks_like_a_call_stays_text(form: str, text: str) -> None:
    assert read(BY_NAME[form], list(text))[:2] == (text, [])


def test_text_before_a_call_stays_text_and_white_space_around_calls_is_theirs() -> None:
    call = HERMES.written([("we", {})])
    assert read(HERMES, list(f"Let me see.\n\n{call}\n{call}\n")) == (
        "Let me see.",
        [("we", "{}")] * 2,
        [("we", "{}")] * 2,
    )
    assert read(HERMES, [f"\n{call} and more"])[0] == " and more"


def test_a_call_behind_what_only_looked_like_one_is_found() -> None:
    assert read(HERMES, list("<tool_call> " + HERMES.written([("we", {})]))) == (
        "<tool_call>",
        [("we", "{}")],
        [("we", "{}")],
    )


def test_arguments_come_as_they_are_written() -> None:
    reader = CallReader(HERMES, FUNCTIONS)
    assert reader.push('Look: <tool_call>\n{"name": "we').calling == ()
    assert reader.push('ather", "arguments": ').calling == ()
    (begun,) = reader.push('{"city"').calling
    assert (begun.index, begun.name, begun.arguments) == (0, "weather", '{"city"')
    assert begun.id
    assert len(begun.id) == len("call_") + 24
    assert begun.id.startswith("call_")
    step = reader.push(': "Bonn"}}')
    assert step.calling == (CallPiece(0, None, None, ': "Bonn"}'),)
    assert step.tool_calls == (ToolCall(begun.id, "weather", '{"city": "Bonn"}'),)
    assert reader.push("\n</tool_call>").tool_calls == ()


def test_a_call_that_is_cut_stays_without_an_end() -> None:
    assert read(HERMES, list('<tool_call>\n{"name": "we", "arguments": {"a": 1')) == ("", [], [("we", '{"a": 1')])


def test_ids_of_mistral_are_short() -> None:
    (call,) = CallReader(BY_NAME["mistral"], FUNCTIONS).push('[TOOL_CALLS][{"name": "we", "arguments": {}}]').tool_calls
    assert len(call.id) == 9
    assert call.id.isalnum()


def test_llama_writes_its_mark_or_begins_without() -> None:
    text = '{"name": "we", "parameters": {"a": 1}}'
    for form in (text, f"<|python_tag|>{text}", f"\n {text}", f"Well <|python_tag|>{text}"):
        assert read(BY_NAME["llama3"], list(form))[1] == [("we", '{"a": 1}')], form


def test_an_answer_that_cannot_be_held_to_calls_has_none() -> None:
    asked: list[str] = []

    def refuse(said: str) -> bool:
        asked.append(said)
        return False

    reader = CallReader(HERMES, FUNCTIONS, refuse)
    text = HERMES.written([("we", {})])
    steps = [*(reader.push(char) for char in text), reader.push("", last=True)]
    assert "".join(step.text for step in steps) == text
    assert reader.made == 0
    assert asked == [""]


class Holding:
    """Holds every answer to calls, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, said: str) -> bool:
        self.asked.append(said)
        return True


def test_an_answer_is_held_from_the_first_mark_on() -> None:
    hold = Holding()
    reader = CallReader(HERMES, FUNCTIONS, hold)
    for piece in (
        "Well.",
        '<tool_call>\n{"name"',
        ': "we", "arguments": {}}',
        "\n</tool_call>\n",
        HERMES.written([("we", {})]),
    ):
        reader.push(piece)
    assert hold.asked == ['\n{"name"']
    assert reader.made == 2


def test_without_a_mark_an_answer_is_held_once_name_and_arguments_are_there() -> None:
    hold = Holding()
    reader = CallReader(BY_NAME["llama3"], FUNCTIONS, hold)
    for char in ' {"name": "we", "parameters": {}}':
        reader.push(char)
    assert hold.asked == ['{"name": "we", "parameters": {']
    assert reader.made == 1


def test_marks_that_leave_no_text_are_seen() -> None:
    text = MarkedText(ByteCodec().stream(), CallMarks(BY_NAME["mistral"], {"[TOOL_CALLS]": 257}))
    assert [text.push(token) for token in (97, 0xC3, 257, 98)] == ["a", "", "\ufffd[TOOL_CALLS]", "b"]
    assert text.flush() == ""


NOTES = (
    {
        "name": "note",
        "parameters": {
            "properties": {"text": {"type": "string"}, "count": {"type": "integer"}, "code": {"type": "string"}}
        },
    },
)


@pytest.mark.parametrize("form", [form for form in FORMATS if form.notation], ids=lambda form: form.name)
def test_arguments_leave_as_json_and_texts_as_they_come(form: ToolFormat) -> None:
    arguments = {"code": "7", "count": 7, "text": 'a long "text"\nof two lines'}
    text = form.written([("note", arguments)])
    reader = CallReader(form, NOTES)
    begun = reader.push(text[: text.index("text")])
    assert json.loads("".join(piece.arguments for piece in begun.calling) + "}") == {"code": "7", "count": 7}
    half = text.index("two")
    (going,) = reader.push(text[text.index("text") : half]).calling
    assert 'a long \\"text\\"\\nof ' in going.arguments
    (call,) = reader.push(text[half:], last=True).tool_calls
    assert json.loads(call.arguments) == arguments


def test_without_a_mark_a_call_in_python_is_held_once_its_name_is_there() -> None:
    hold = Holding()
    reader = CallReader(BY_NAME["pythonic"], NOTES, hold)
    for char in ' [note(count=7, code="7")]':
        reader.push(char)
    assert hold.asked == ["[note("]
    assert reader.made == 1
    assert CallReader(BY_NAME["pythonic"], NOTES, hold).push("[not").text == ""
    assert CallReader(BY_NAME["pythonic"], NOTES, hold).push("[now").text == "[now"
