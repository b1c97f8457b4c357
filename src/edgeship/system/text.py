"""Text as people's editors, shells and pipes write it."""

from __future__ import annotations

import codecs
import re
from typing import TextIO

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What moves a terminal's cursor, changes its state or the order in which a line is read. Line feeds and tabs stay, and
# the marks that right-to-left text is written with.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def decode(content: bytes) -> str:
    """The text, its lines ended by a line feed alone and without the byte order mark that it may begin with.

    UTF-8, or UTF-16 where the mark says so, as Windows PowerShell writes. Raises UnicodeDecodeError.
    """
    text = content.decode("utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def harmless(text: str) -> str:
    """A text with all that would steer a terminal written out, as in JSON: an escape is "\\u001b"."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


def as_shown(text: str, stream: TextIO) -> str:
    """A text as it goes to a stream: harmless where that is a terminal, as it is elsewhere."""
    return harmless(text) if stream.isatty() else text
