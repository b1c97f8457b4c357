"""Text as people's editors, shells and pipes write it."""

from __future__ import annotations

import codecs
import difflib
import re
import unicodedata
from collections.abc import Iterable
from typing import TextIO

# To look for likenesses takes longer, the longer a name is, and anybody may send anything.
_CHARACTERS_COMPARED = 100
_OPPOSITES = {"min", "max"}
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What moves a terminal's cursor, changes its state or the order in which a line is read. Line feeds and tabs stay, and
# the marks that right-to-left text is written with.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Letters and symbols that have no ink: fillers of Hangul and the empty pattern of Braille.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_HALVES = re.compile("[\ud800-\udfff]")


def decode(content: bytes) -> str:
    """The text, its lines ended by a line feed alone and without the byte order mark that it may begin with.

    UTF-8, or UTF-16 where the mark says so, as Windows PowerShell writes. Raises UnicodeDecodeError.
    """
    text = content.decode("utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def harmless(text: str) -> str:
    """A text with all that would steer a terminal written out, as in JSON: an escape is "\\u001b"."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


def harmless_line(text: str) -> str:
    """The same of what stands in one line: its line feeds are written out as well."""
    return harmless(text).replace("\n", "\\u000a")


def is_visible(text: str) -> bool:
    """Whether a reader sees anything of it: a letter, a digit, a mark of punctuation or a symbol."""
    return any(unicodedata.category(one)[0] in "LNPS" and one not in _BLANK for one in text)


def without_halves(text: str) -> str:
    """A text whose halves of characters, which no encoding has, are written out as `harmless` writes them."""
    return _HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_shown(text: str, stream: TextIO) -> str:
    """An answer as it goes to a stream: harmless where that is a terminal. Elsewhere the text itself is what is wanted,
    and it alone stays as it is: all else that is shown is `harmless` everywhere, since logs end on terminals too."""
    return harmless(text) if stream.isatty() else text


def meant(name: str, known: Iterable[str], *, least: float = 0.75) -> str | None:
    """The name among these that somebody may have misspelt; None where none is alike, or where it is an opposite."""
    possible = (each for each in known if {name[:3], each[:3]} != _OPPOSITES)
    return next(iter(alike(name, possible, most=1, least=least)), None)


def alike(name: str, known: Iterable[str], *, most: int = 3, least: float = 0.6) -> list[str]:
    """The names that somebody may have meant, however they write capitals, nearest first.

    least: how much of both must be the same, from 0 to 1.
    """
    folded: dict[str, list[str]] = {}
    for each in known:
        folded.setdefault(each.casefold(), []).append(each)
    close = difflib.get_close_matches(name[:_CHARACTERS_COMPARED].casefold(), list(folded), n=most, cutoff=least)
    return [each for found in close for each in folded[found]]
