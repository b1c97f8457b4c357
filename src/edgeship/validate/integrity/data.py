"""Whether a file is data of a kind that packages hold: by its name, and by whether its content is what the name says.

What may do harm has no end, so that a list of that always lacks something; what a package is made of has one. Files
with weights have any name, and are known by the graph that names them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from edgeship.system import json_file
from edgeship.validate.integrity import code

MOST_BYTES = 1 << 26
"""A larger file that is no graph and has no weights is not read; the largest tokenizers have half of that."""
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xae\x42\x60\x82"
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_ADAPTER = b"TORT"
_OF_FINDER = (b"\0\0\0\x01Bud1", b"\0\x05\x16\x07")
# White space may be in any text, and vocabularies have further marks beyond ASCII.
_BINARY = re.compile(r"[\0-\x08\x0e-\x1f]")
_LENGTH_DELIMITED, _SENTENCEPIECE_FIELDS = 2, range(1, 6)

Fault = str | None
"""What its content is not, as words behind "is"; None where it is what its name says."""


def _text(content: bytes) -> Fault:
    try:
        found = _BINARY.search(content.decode("utf-8"))
    except UnicodeDecodeError:
        return "no text in UTF-8"
    return None if found is None else f"no text: it holds the control character {found[0]!r}"


def _json(content: bytes) -> Fault:
    try:
        json_file.parse(content)
    except (ValueError, RecursionError) as error:
        return f"no JSON: {error}"
    return None


def _json_lines(content: bytes) -> Fault:
    faults = (_json(line) for line in content.splitlines() if line.strip())
    return next((f"no JSON in each line: {fault}" for fault in faults if fault), None)


def _picture(content: bytes) -> Fault:
    """None also where it ends as it must: an archive behind a picture is read from its end."""
    for begin, end in ((_PNG, _PNG_END), (_JPEG, _JPEG_END)):
        if content.startswith(begin) and content.endswith(end):
            return None
    return "no picture from its first byte to its last"


def _vocabulary(content: bytes) -> Fault:
    """SentencePiece's, or the lines of text that tiktoken has."""
    if _text(content) is None:
        return None
    try:
        known = all(field in _SENTENCEPIECE_FIELDS for field in _fields(content))
    except ValueError:
        known = False
    return None if known else "neither a vocabulary of SentencePiece nor a text"


def _fields(content: bytes) -> Iterator[int]:
    """Numbers of the fields of a message of Protocol Buffers that only has texts and messages. Raises ValueError."""
    place = 0
    while place < len(content):
        key, place = _number(content, place)
        size, place = _number(content, place)
        if key & 7 != _LENGTH_DELIMITED or (place := place + size) > len(content):
            raise ValueError("no such message")
        yield key >> 3


def _number(content: bytes, place: int) -> tuple[int, int]:
    """A number in sevens of bits, and where it ends. Raises ValueError."""
    value = 0
    for shift, byte in enumerate(content[place : place + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, place + shift + 1
    raise ValueError("a number does not end")


def _adapter(content: bytes) -> Fault:
    return None if content[4:8] == _ADAPTER else "no adapter of ONNX Runtime"


def _of_finder(content: bytes) -> Fault:
    return None if content.startswith(_OF_FINDER) else "nothing that macOS keeps of a folder"


_BY_SUFFIX: dict[str, Callable[[bytes], Fault]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    **dict.fromkeys((".md", ".txt", ".jinja", ".tiktoken"), _text),
    **dict.fromkeys((".model", ".spm"), _vocabulary),
    **dict.fromkeys((".png", ".jpg", ".jpeg"), _picture),
    ".onnx_adapter": _adapter,
    # What the Hub's client keeps of a download.
    **dict.fromkeys((".metadata", ".lock"), _text),
}
_BY_NAME: dict[str, Callable[[bytes], Fault]] = {
    **dict.fromkeys(("readme", "license", "licence", "copying", "notice", "use_policy", "cachedir.tag"), _text),
    **dict.fromkeys((".gitattributes", ".gitignore"), _text),
    ".ds_store": _of_finder,
}


def _reader(name: str) -> Callable[[bytes], Fault] | None:
    last = PurePosixPath(name).name.lower()
    return _of_finder if last.startswith("._") else _BY_NAME.get(last) or _BY_SUFFIX.get(PurePosixPath(last).suffix)


def is_known(name: str) -> bool:
    """Whether packages hold files of this name, besides graphs and files with weights."""
    return _reader(name) is not None


def fault(name: str, content: bytes) -> Fault:
    """What is wrong with a file that is no graph and has no weights, as words behind "is"; None where nothing is."""
    reader = _reader(name)
    if reader is None:
        return "of no kind that packages hold"
    return reader(content) or code.kind_of(name, content)
