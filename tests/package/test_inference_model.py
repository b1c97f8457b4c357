"""inference_model.json, written and read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeship.errors import PackageDamaged
from edgeship.package.inference_model import FILE_NAME, document, read_name, read_parts
from edgeship.package.prompt_parts import NoParts, PromptParts

PARTS = PromptParts(system="<s>{Content}", user="<u>{Content}", assistant="<a>{Content}", prompt="<u>{Content}<a>")


@pytest.mark.parametrize(
    "parts",
    [
        PARTS,
        PromptParts(system=None, user="u{Content}", assistant="a{Content}", prompt="u{Content}a", opening="<bos>"),
    ],
)
def test_what_is_written_is_read(tmp_path: Path, parts: PromptParts) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(document("a-b:3", parts)), encoding="utf-8")
    assert read_parts(tmp_path) == parts
    assert read_name(tmp_path) == "a-b"


def test_parts_that_a_template_lacks_are_left_out() -> None:
    assert "opening" not in document("a", PARTS)["PromptTemplate"]
    assert document("a:7", PARTS)["Description"].startswith("a, made by Edgeship")


def test_a_template_without_parts_leaves_them_out(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps(document("a", NoParts("why"))), encoding="utf-8")
    assert read_parts(tmp_path) is None
    assert read_name(tmp_path) == "a"


@pytest.mark.parametrize("content", ["{}", '{"PromptTemplate": null, "Name": 3}'])
def test_files_that_state_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content, encoding="utf-8")
    assert read_parts(tmp_path) is None
    assert read_name(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"PromptTemplate": []}', '{"PromptTemplate": {"user": "x"}}'),
        '{"PromptTemplate": {"user": "x", "assistant": "y", "prompt": 3}}',
        '{"PromptTemplate": {"user": "x", "assistant": "y", "prompt": "z", "system": ["s"]}}',
    ],
)
def test_damage_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(PackageDamaged, match=r"inference_model\.json"):
        read_parts(tmp_path)


def test_no_file(tmp_path: Path) -> None:
    assert read_name(tmp_path) is None
    with pytest.raises(PackageDamaged, match="cannot be read"):
        read_parts(tmp_path)
