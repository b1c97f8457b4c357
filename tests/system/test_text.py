"""Text as editors, shells and pipes write it."""

from __future__ import annotations

import pytest

from edgeship.system.text import decode


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_encodings_and_line_ends_make_no_difference(encoding: str, ending: str) -> None:
    assert decode(f"Grüße{ending}\N{ROBOT FACE}{ending}".encode(encoding)) == "Grüße\n\N{ROBOT FACE}\n"


def test_a_mark_inside_a_text_is_a_character() -> None:
    assert decode("a\ufeffb".encode()) == "a\ufeffb"


@pytest.mark.parametrize("content", [b"\xff", b"a\xe4", b"\xff\xfea"])
def test_what_is_no_text(content: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        decode(content)
