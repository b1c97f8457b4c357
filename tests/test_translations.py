"""Pages that stand in two languages: the same commands in both, and no translation older than its original."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAIRS = [("README.md", "README.zh-CN.md"), ("docs/tutorial.md", "docs/tutorial.zh-CN.md")]
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^    \S.*\n)+", re.MULTILINE)
_STAMP = re.compile(r"<!-- translates (\S+) ([0-9a-f]{16}) -->")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """Code blocks of both kinds, comments in them left out: these may be in either language."""
    found = _FENCED.findall(text) + _INDENTED.findall(_FENCED.sub("", text))
    return [re.sub(r"[ ]+#.*", "", block) for block in found]


def stamp(original: str) -> str:
    return hashlib.sha256(read(original).encode()).hexdigest()[:16]


@pytest.mark.parametrize(("original", "translation"), PAIRS)
def test_both_have_the_same_code_blocks(original: str, translation: str) -> None:
    assert blocks(read(original))
    assert blocks(read(original)) == blocks(read(translation))


@pytest.mark.parametrize(("original", "translation"), PAIRS)
def test_the_translation_is_of_the_text_as_it_is(original: str, translation: str) -> None:
    found = _STAMP.search(read(translation))
    assert found, f"{translation} does not say which text it translates"
    assert found[1] == Path(original).name
    assert found[2] == stamp(original), (
        f"{translation} is older than {original}: translate what has changed since, then write "
        f"<!-- translates {Path(original).name} {stamp(original)} --> into it"
    )


@pytest.mark.parametrize(("original", "translation"), PAIRS)
def test_both_have_the_same_headings_and_tables(original: str, translation: str) -> None:
    def shape(text: str) -> list[str]:
        plain = _FENCED.sub("", text)
        return [re.match(r"#+|\|", line)[0] for line in plain.splitlines() if re.match(r"#+ |\|", line)]  # type: ignore[index]

    assert shape(read(original)) == shape(read(translation))
