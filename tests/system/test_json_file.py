from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeship.errors import AdapterInvalid, CheckpointInvalid
from edgeship.system import json_file
from edgeship.system.json_file import Complaint

COMPLAINT = Complaint(CheckpointInvalid, "Copy it again.")


def test_an_object_is_read_also_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert json_file.read_object(path, COMPLAINT) == {"a": 1}


def test_damage_is_told_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{\n  "a": 1,\n  "b" 2\n}')
    with pytest.raises(AdapterInvalid, match=r"config\.json is damaged: line 3") as caught:
        json_file.read_object(path, Complaint(AdapterInvalid, "Train it again."))
    assert (caught.value.where, caught.value.hint) == (str(path), "Train it again.")


@pytest.mark.parametrize(
    "content",
    [
        *(b"[1]", b"\xff\xfe", b"", b"[" * 100_000, b'{"a": ' * 250 + b"1" + b"}" * 250),
        *(b'{"a": "\\ud800"}', b'{"a": ' + b"1" * 5000 + b"}"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointInvalid, match=r"config\.json"):
        json_file.read_object(path, COMPLAINT)


def test_half_a_character_in_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        json_file.parse('{"a": "\ud800"}')


def test_a_missing_file_is_empty_only_where_it_is_optional(tmp_path: Path) -> None:
    assert json_file.read_optional(tmp_path / "none.json", COMPLAINT) == {}
    with pytest.raises(CheckpointInvalid, match=r"none\.json cannot be read"):
        json_file.read_object(tmp_path / "none.json", COMPLAINT)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.touch()
    os.truncate(path, json_file.MOST_BYTES + 1)
    with pytest.raises(CheckpointInvalid, match="is larger than 16 MiB"):
        json_file.read_object(path, COMPLAINT)


def test_a_key_that_is_there_twice_is_told_with_both_values(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": {"b": 1, "b": [2]}}')
    with pytest.raises(CheckpointInvalid, match=r"config\.json is damaged: 'b' is there twice, as 1 and as \[2\]"):
        json_file.read_object(path, COMPLAINT)


def test_fields_are_told_with_their_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": "1"}')
    with pytest.raises(CheckpointInvalid, match=r"config\.json has a '1', which is not a whole number") as caught:
        json_file.read_fields(path, COMPLAINT).count("a")
    assert (caught.value.where, caught.value.hint) == (str(path), "Copy it again.")
