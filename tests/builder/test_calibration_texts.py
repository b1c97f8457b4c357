"""The texts to calibrate with: a user's, and the built-in ones."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.builder.calibration_texts import (
    BUDGET_TOKENS,
    BUILT_IN,
    MAX_TOKENS,
    default_sequences,
    read_sequences,
    remark,
)
from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.errors import CalibrationInvalid
from edgeship.measure.agreement.questions import QUESTIONS
from edgeship.package.tokenizer import Tokenizer

REPOSITORY = Path(__file__).parents[2]
TURNS = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TURNS
ONE_TASK = "{{ raise_exception('a source language is missing') }}"


@pytest.mark.parametrize("text", ["hello world\n", '{"text": "hello world"}\n'])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tiny: Path, tmp_path: Path, text: str) -> None:
    checkpoint = open_checkpoint(str(tiny))
    (tmp_path / "here").write_bytes(text.encode())
    (tmp_path / "there").write_bytes(f"\ufeff{text}".replace("\n", "\r\n").encode())
    assert read_sequences(tmp_path / "there", checkpoint) == read_sequences(tmp_path / "here", checkpoint)


def test_a_line_may_hold_what_unicode_calls_a_line_end(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    (tmp_path / "texts").write_text('{"text": "hello \u2028 world"}\n', encoding="utf-8")
    (tmp_path / "escaped").write_text('{"text": "hello \\u2028 world"}\n', encoding="utf-8")
    assert read_sequences(tmp_path / "texts", checkpoint) == read_sequences(tmp_path / "escaped", checkpoint)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "a line is not valid JSON: line 1, column 1: EOF"),
        ('{"text": ' + "[" * 5000, "a line is not valid JSON: line 1, column .*: recursion limit"),
        ('{"text": "\\ud800"}', "a line is not valid JSON"),
        ('{"text": "a", "text": "b"}', "'text' is there twice"),
        ('{"text": 5}', 'an example has neither "messages" nor "text"'),
        ('{"messages": [5]}', '"messages" is no list of {"role", "content"}'),
    ],
)
def test_a_line_that_cannot_be_used_is_told_with_its_number(tiny: Path, tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "texts").write_text(f'{{"text": "hello"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(CalibrationInvalid, match=said) as caught:
        read_sequences(tmp_path / "texts", open_checkpoint(str(tiny)))
    assert str(caught.value.where).endswith(":2")


def test_fine_tuning_files_are_calibration_texts(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    question, answer = "Where is my order?", "On its way."
    same = (
        json.dumps({"messages": [{"role": "user", "content": question}], "expected": answer}),
        json.dumps({"instruction": question, "input": "", "output": answer}),
        json.dumps([{"prompt": question, "completion": answer}], indent=1),
    )
    found = []
    for number, text in enumerate(same):
        (tmp_path / str(number)).write_text(text, encoding="utf-8")
        found.append(read_sequences(tmp_path / str(number), checkpoint))
    assert found[0] == found[1] == found[2]
    (tmp_path / "plain").write_text("[INST] plain text", encoding="utf-8")
    assert read_sequences(tmp_path / "plain", checkpoint)


def test_instructions_stand_in_the_first_question_of_a_template_without_a_system_role(
    tiny: Path, tmp_path: Path
) -> None:
    checkpoint = replace(open_checkpoint(str(tiny)), chat_template=NO_SYSTEM)
    turns = [("system", "Be brief."), ("user", "Who are you?"), ("assistant", "A model.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    (tmp_path / "texts").write_text(json.dumps({"messages": messages}), encoding="utf-8")
    text = shown(checkpoint, read_sequences(tmp_path / "texts", checkpoint)[:1])
    assert text == "<user>Be brief.\n\nWho are you?</s><assistant>A model.</s>"
    assert "<system>" not in shown(checkpoint, default_sequences(checkpoint))


def own(path: Path, checkpoint: Checkpoint) -> str:
    """What is read of a file of few texts, without the built-in ones that follow."""
    found, built_in = read_sequences(path, checkpoint), default_sequences(checkpoint)
    return shown(checkpoint, found[: next(at for at, tokens in enumerate(found) if tokens == built_in[0])])


@pytest.mark.parametrize(
    "content",
    [
        '["hello world", "good day"]',
        '["hello world",\n {"text": "good day"}]',
        '"hello world"\n\n"good day"\n',
        '{"text": "hello world"}\n{"text": "good day"}',
        '\n{"text": "hello world"}\r\n\r\n{"text": "good day"}',
    ],
)
def test_texts_come_in_several_shapes(tiny: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "texts").write_bytes(content.encode())
    assert own(tmp_path / "texts", open_checkpoint(str(tiny))) == "hello worldgood day"


def test_one_document_may_be_one_example(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text(json.dumps({"text": "hello world"}, indent=2), encoding="utf-8")
    assert own(tmp_path / "texts", open_checkpoint(str(tiny))) == "hello world"


@pytest.mark.parametrize(
    "text", ["[INST] hello [/INST]", '"Hello", she said.\n"You?"', "5\n7\n", "\u3053\u3093\u306b\u3061\u306f"]
)
def test_whatever_is_no_json_is_plain_text(tiny: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "texts").write_text(text, encoding="utf-8")
    assert own(tmp_path / "texts", open_checkpoint(str(tiny))) == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_say_the_encoding(tiny: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "texts").write_bytes("hello world".encode(encoding))
    assert own(tmp_path / "texts", open_checkpoint(str(tiny))) == "hello world"


@pytest.mark.parametrize(
    ("name", "content", "said", "hint"),
    [
        ("texts", b"", "no text of two tokens", "Each line"),
        ("texts", b" \n\n\t\n", "no text of two tokens", "Each line"),
        ("texts", b"x", "no text of two tokens", "Each line"),
        ("texts", b"[]", "no text of two tokens", "Each line"),
        ("texts", b'{"text": " "}\n', "no text of two tokens", "Each line"),
        ("texts", b"[1, 2]", "an example has neither", "Each line"),
        ("texts", b'{"train": [\n{"text": "a"}]}', "an example has neither", "Each line"),
        ("texts", b'[{"text": "hello"},\n{"te', "a line is not valid JSON", "Each line"),
        ("texts", b"hello\nw\xf6rld", "line 2: not UTF-8", "Save the file as UTF-8 text."),
        ("texts", "hello\nworld".encode("utf-16-le"), "line 1: not UTF-8", "Save the file as UTF-8 text."),
        ("texts", "hello".encode("utf-32"), "line 1: not UTF-8", "Save the file as UTF-8 text."),
        ("texts", b"PAR1\x15\x04\x15\x80", "line 1: not UTF-8", "Save the file as UTF-8 text."),
        ("texts.csv", b"question,answer\nhello,yes\n", "is a table", "text, or question and answer"),
        ("texts.tsv", b"text\nhello\n", "is a table", "read_table"),
        ("texts.parquet", b"PAR1", "is a table", "read_parquet"),
        ("texts.jsonl.zip", b"PK\x03\x04", "is packed", "Unpack it first."),
    ],
)
def test_what_is_no_text_is_told_as_what_it_is(
    tiny: Path, tmp_path: Path, name: str, content: bytes, said: str, hint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CalibrationInvalid, match=said) as caught:
        read_sequences(tmp_path / name, open_checkpoint(str(tiny)))
    assert hint in str(caught.value.hint)
    assert str(caught.value.where).startswith(str(tmp_path / name))


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe that has a path")
def test_a_pipe_is_refused_since_texts_are_read_more_than_once(tiny: Path, tmp_path: Path) -> None:
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CalibrationInvalid, match="a pipe gives its text once"):
        read_sequences(tmp_path / "pipe", open_checkpoint(str(tiny)))


def test_tokens_that_the_model_does_not_have_are_left_out(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    (tmp_path / "texts").write_text("hello world " * 2000, encoding="utf-8")
    numbers = {number for tokens in read_sequences(tmp_path / "texts", checkpoint) for number in tokens}
    fewer = replace(checkpoint, vocab_size=max(numbers))
    assert all(number < max(numbers) for tokens in read_sequences(tmp_path / "texts", fewer) for number in tokens)
    with pytest.raises(CalibrationInvalid, match="no text of two tokens"):
        read_sequences(tmp_path / "texts", replace(checkpoint, vocab_size=1))


@pytest.mark.parametrize("template", ['{"text": "%s"}', "%s", '["%s"]'])
def test_of_a_long_line_no_more_is_read_than_the_budget(
    tiny: Path, tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(f"number {number}" for number in range(200_000))
    (tmp_path / "texts").write_text(template % text, encoding="utf-8")
    encoded: list[int] = []
    encode = Tokenizer.encode

    def counted(self: Tokenizer, text: str, *, special: bool) -> list[int]:
        encoded.append(len(text))
        return encode(self, text, special=special)

    monkeypatch.setattr(Tokenizer, "encode", counted)
    sequences = read_sequences(tmp_path / "texts", open_checkpoint(str(tiny)))
    assert sum(map(len, sequences)) == BUDGET_TOKENS
    assert sum(encoded) < 300_000 < len(text)


def test_the_whole_budget_is_read_and_not_more(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    lines = [json.dumps({"text": f"line {number} of a file with many lines"}) for number in range(3000)]
    (tmp_path / "texts").write_text("\n".join([*lines, "this is no JSON"]), encoding="utf-8")
    sequences = read_sequences(tmp_path / "texts", checkpoint)
    assert sum(map(len, sequences)) == BUDGET_TOKENS
    whole = [checkpoint.tokenizer.load().encode(json.loads(line)["text"], special=True) for line in lines]
    assert sequences[:-1] == whole[: len(sequences) - 1], "all of them from the beginning, and the last is cut"
    assert whole[len(sequences) - 1][: len(sequences[-1])] == sequences[-1]


def test_few_texts_are_followed_by_built_in_ones_and_that_is_said(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    (tmp_path / "texts").write_text('{"text": "hello world"}\n' * 5000, encoding="utf-8")
    first, *rest = read_sequences(tmp_path / "texts", checkpoint)
    assert shown(checkpoint, [first]) == "hello world"
    assert len(first) + sum(map(len, rest)) == BUDGET_TOKENS
    assert rest[:50] == default_sequences(checkpoint)[:50]
    said = remark(tmp_path / "texts", checkpoint)
    assert said is not None
    assert f"have {len(first)} tokens without repetitions" in said
    (tmp_path / "many").write_text("\n".join(f"line {number}" for number in range(9000)), encoding="utf-8")
    assert remark(tmp_path / "many", checkpoint) is None


def test_control_tokens_alone_say_too_little(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    (tmp_path / "texts").write_text(next(iter(checkpoint.special_tokens.values())) * 20_000, encoding="utf-8")
    assert remark(tmp_path / "texts", checkpoint) is not None


@pytest.mark.parametrize("name", ["checkpoint", "base"])
def test_built_in_texts_fill_the_budget_of_the_examples_tokenizer(name: str) -> None:
    checkpoint = open_checkpoint(str(REPOSITORY / "examples" / "triage" / name))
    assert BUDGET_TOKENS - 1 <= sum(map(len, default_sequences(checkpoint))) <= BUDGET_TOKENS, "no token stands alone"


def test_built_in_texts_fill_the_budget_of_tokenizers_with_long_tokens() -> None:
    """A token is 2.5 characters of them with SmolLM2's 49,152 entries, 3.0 with Gemma 3's 262,144."""
    written = "".join(line for entry in entries(BUILT_IN) for line in lines_of(entry))
    assert len(written) > 3.1 * BUDGET_TOKENS


def test_built_in_texts_fill_the_budget_in_the_form_of_the_chat_template(tiny: Path) -> None:
    checkpoint = replace(open_checkpoint(str(tiny)), chat_template=TURNS)
    sequences = default_sequences(checkpoint)
    assert sum(map(len, sequences)) == BUDGET_TOKENS
    assert max(map(len, sequences)) == MAX_TOKENS
    text = shown(checkpoint, sequences)
    assert "<system>" in text
    assert "</s><assistant>" in text


@pytest.mark.parametrize("chat_template", [None, ONE_TASK])
def test_built_in_conversations_are_plain_text_where_no_template_takes_them(
    tiny: Path, chat_template: str | None
) -> None:
    checkpoint = replace(open_checkpoint(str(tiny)), chat_template=chat_template)
    assert "\n\nAssistant: " in shown(checkpoint, default_sequences(checkpoint))


def test_built_in_conversations_take_turns_and_end_as_their_file_says() -> None:
    for path, last in ((BUILT_IN, "assistant"), (QUESTIONS, "user")):
        for entry in entries(path):
            roles = [message["role"] for message in entry.get("messages", ())]
            asked = roles[1:] if roles[:1] == ["system"] else roles
            assert asked == (["user", "assistant"] * len(asked))[: len(asked)], entry
            assert not roles or roles[-1] == last, entry


def test_every_part_of_the_built_in_texts_holds_conversations_texts_and_several_scripts() -> None:
    built_in = entries(BUILT_IN)
    for start in range(0, len(built_in) - 19, 20):
        part = built_in[start : start + 20]
        letters = "".join(line for entry in part for line in lines_of(entry))
        assert 4 <= sum("messages" in entry for entry in part) <= 16
        assert any("\u0400" <= letter <= "\u0eff" for letter in letters), start  # Cyrillic, Arabic, Devanagari
        assert any("\u3040" <= letter <= "\ud7a3" for letter in letters), start  # Chinese, Japanese, Korean


def test_built_in_texts_are_none_that_anything_is_measured_with() -> None:
    measured = {line.strip() for path in (REPOSITORY / "benchmarks" / "texts").glob("*.txt") for line in lines(path)}
    for entry in entries(REPOSITORY / "examples" / "triage" / "eval.jsonl"):
        measured |= set(lines_of(entry)) | {entry["expected"]}
    calibrated = {line for path in (BUILT_IN, QUESTIONS) for entry in entries(path) for line in lines_of(entry)}
    assert len(measured) > 1000
    assert not {line for line in measured & calibrated if len(line) > len("return None")}


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(path)]


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def lines_of(entry: dict[str, Any]) -> list[str]:
    texts = [entry["text"]] if "text" in entry else [message["content"] for message in entry["messages"]]
    return [line.strip() for text in texts for line in text.splitlines()]


def shown(checkpoint: Checkpoint, sequences: list[list[int]]) -> str:
    tokenizer = checkpoint.tokenizer.load()
    return "".join(tokenizer.decode(tokens, special=True) for tokens in sequences)
