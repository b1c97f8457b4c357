"""Text as editors, shells and pipes write it."""

from __future__ import annotations

import io

import pytest

from edgeship.system.text import alike, as_shown, decode, harmless, harmless_line, meant


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\u001b[2J\u001b]0;title\u0007"),
        ("\x9b31m", r"\u009b31m"),
        ("ab\x08\x7f\rc", r"ab\u0008\u007f\u000dc"),
        ("one\r\ntwo\tthree\n", "one\ntwo\tthree\n"),
        ("a\u202egpj.exe\u202c \u2066x\u2069", r"a\u202egpj.exe\u202c \u2066x\u2069"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_would_steer_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_text_of_every_language_stays_as_it_is() -> None:
    for text in ("Grüße, 你好, ok", "שלום \u200f(1)\u200e", "👩\u200d💻 \N{ROBOT FACE}", "e\u0301"):
        assert harmless(text) == text


def test_what_is_no_terminal_gets_text_as_it_is() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert as_shown("\x1b[2J", io.StringIO()) == "\x1b[2J"
    assert harmless_line("a\nb\x1b[2J\tc") == "a\\u000ab\\u001b[2J\tc"
    assert as_shown("\x1b[2J", Terminal()) == r"\u001b[2J"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("temprature", "temperature"),
        ("TEMPERATURE", "temperature"),
        ("min_tokens", None),
        ("max-lenght", "max-length"),
        ("min-lenght", None),
        ("x" * 100_000, None),
        ("", None),
    ],
)
def test_the_name_that_is_meant(name: str, found: str | None) -> None:
    assert meant(name, ["temperature", "max_tokens", "max-length"]) == found


def test_names_that_are_alike_are_told_as_they_are_written() -> None:
    assert alike("TRIAGE-int", ["other", "Triage-INT4"]) == ["Triage-INT4"]
    assert alike("triage", ["Triage", "triage", "TRIAGE"], most=1) == ["Triage", "triage", "TRIAGE"]
