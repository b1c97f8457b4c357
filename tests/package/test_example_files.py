"""Files of examples: what is read as text, and what is told as something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.errors import EvalInvalid
from edgeship.package.example_files import Kind

KIND = Kind(EvalInvalid, "evaluation", "--eval", "question and answer")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_in_the_encoding_that_its_mark_says(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a").write_bytes("gr\u00fc\u00df\r\ndich".encode(encoding))
    assert KIND.read(tmp_path / "a") == "gr\u00fc\u00df\ndich"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a", b"\n\nw\xf6rld", "line 3: not UTF-8"),
        ("a", "\nhello".encode("utf-16-be"), "line 1: not UTF-8"),
        ("a", b"hello\n\0\0\0", "line 2: not UTF-8"),
        ("a.TSV", b"hello", "the evaluation file is a table, and JSON Lines are read"),
        ("a.yml", b"hello", "the evaluation file is YAML, and JSON Lines are read"),
        ("a.zst", b"hello", "the evaluation file is packed"),
    ],
)
def test_what_is_no_text_is_told_with_its_place(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EvalInvalid) as caught:
        KIND.read(tmp_path / name)
    assert (caught.value.what, caught.value.where) == (said, str(tmp_path / name))


def test_what_cannot_be_read_names_the_option(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(EvalInvalid, match="the evaluation file cannot be read") as caught:
            KIND.read(path)
        assert caught.value.hint == "Check the path given to --eval."
