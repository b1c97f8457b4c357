"""Text as people's editors, shells and pipes write it."""

from __future__ import annotations

import codecs

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode(content: bytes) -> str:
    """The text, its lines ended by a line feed alone and without the byte order mark that it may begin with.

    UTF-8, or UTF-16 where the mark says so, as Windows PowerShell writes. Raises UnicodeDecodeError.
    """
    text = content.decode("utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")
