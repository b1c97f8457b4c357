"""The texts to calibrate with: a user's, and the built-in ones."""

from __future__ import annotations

import json
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
)
from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.errors import CalibrationInvalid
from edgeship.measure.questions import QUESTIONS

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
        ('{"text": 5}', 'a line has neither "messages" nor "text"'),
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
    text = shown(checkpoint, read_sequences(tmp_path / "texts", checkpoint))
    assert text == "<user>Be brief.\n\nWho are you?</s><assistant>A model.</s>"
    assert "<system>" not in shown(checkpoint, default_sequences(checkpoint))


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
