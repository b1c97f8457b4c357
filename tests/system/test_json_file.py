from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.errors import AdapterInvalid, CheckpointInvalid
from edgeship.system import json_file


def test_an_object_is_read_also_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert json_file.read_object(path, CheckpointInvalid) == {"a": 1}


def test_damage_is_told_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{\n  "a": 1,\n  "b" 2\n}')
    with pytest.raises(AdapterInvalid, match=r"config\.json is damaged: line 3"):
        json_file.read_object(path, AdapterInvalid)


@pytest.mark.parametrize("content", [b"[1]", b"\xff\xfe", b"", b"[" * 100_000])
def test_what_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointInvalid, match=r"config\.json"):
        json_file.read_object(path, CheckpointInvalid)


def test_a_missing_file_is_empty_only_where_it_is_optional(tmp_path: Path) -> None:
    assert json_file.read_optional(tmp_path / "none.json", CheckpointInvalid) == {}
    with pytest.raises(CheckpointInvalid, match=r"none\.json cannot be read"):
        json_file.read_object(tmp_path / "none.json", CheckpointInvalid)
