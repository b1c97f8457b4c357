"""The examples of a file that a user names, one after the other: texts, and conversations with what is expected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.package.example_files import Kind
from edgeship.package.examples import document, unified
from edgeship.system import json_file

FORMATS = (
    'Each line is a JSON object with "messages" (and the answer as "expected"), or with "text"; '
    "any other file is plain text."
)
_OBJECTS = re.compile(r"\s*(\[\s*)?{")
"""How a file begins that is to be JSON, and no plain text."""


@dataclass(frozen=True)
class Entry:
    """One example of a file, and where it stands: a text, or `messages` and what is expected."""

    where: str
    content: str | Mapping[str, Any]


def read_entries(path: Path, kind: Kind) -> Iterator[Entry]:
    """What the file holds, one after the other as it is asked for. Raises the kind's error, naming the line."""
    content = kind.read(path)
    items = document(content)
    # Not splitlines(): JSON strings may hold U+2028 and its like as they are.
    lines = content.split("\n")
    if items is not None:
        for number, item in enumerate(items, 1):
            yield _entry(item, f"{path}, item {number}", kind)
    elif _OBJECTS.match(content) or _are_strings(lines):
        for number, line in enumerate(lines, 1):
            if line.strip():
                where = f"{path}:{number}"
                yield _entry(_parsed(line, where, kind), where, kind)
    else:
        yield Entry(str(path), content)


def _are_strings(lines: Iterable[str]) -> bool:
    try:
        return all(isinstance(json_file.parse(line), str) for line in lines if line.strip())
    except ValueError:
        return False


def _parsed(line: str, where: str, kind: Kind) -> Any:
    try:
        return json_file.parse(line)
    except ValueError as error:
        raise kind.error(f"a line is not valid JSON: {error}", where=where, hint=FORMATS) from error


def _entry(value: Any, where: str, kind: Kind) -> Entry:
    if isinstance(value, str):
        return Entry(where, value)
    example = unified(value) if isinstance(value, dict) else {}
    if isinstance(example.get("text"), str):
        return Entry(where, example["text"])
    if "messages" not in example:
        raise kind.error('an example has neither "messages" nor "text"', where=where, hint=FORMATS)
    turns = example["messages"]
    if not isinstance(turns, list) or not turns or not all(map(_is_turn, turns)):
        raise kind.error('"messages" is no list of {"role", "content"}', where=where, hint=FORMATS)
    return Entry(where, example)


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
