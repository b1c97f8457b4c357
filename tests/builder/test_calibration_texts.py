"""The texts that a user calibrates with."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.builder.calibration_texts import read_sequences
from edgeship.checkpoint import open_checkpoint


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
