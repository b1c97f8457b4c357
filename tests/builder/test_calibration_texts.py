"""The texts that a user calibrates with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeship.builder.calibration_texts import read_sequences
from edgeship.checkpoint import open_checkpoint
from edgeship.errors import CalibrationInvalid


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
