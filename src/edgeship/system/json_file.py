"""JSON objects in files: read, or refused with the file and the line; written whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from edgeship.errors import EdgeshipError
from edgeship.system import foreign
from edgeship.system.fields import Fields, shown
from edgeship.system.storage import write_file
from edgeship.system.text import decode

MOST_BYTES = 1 << 24
"""A larger file is not read unless more is expected: values take forty times as much memory as their text."""
_PLACE = re.compile(r"(.*) at line (\d+) column (\d+)")


@dataclass(frozen=True)
class Complaint:
    """What is raised about a file that cannot be used, and what its owner can do about it."""

    error: type[EdgeshipError]
    hint: str

    def about(self, path: Path, what: str) -> EdgeshipError:
        """The error that says `what` is wrong with the file."""
        return self.error(f"{path.name} {what}", where=str(path), hint=self.hint)


def parse(content: str | bytes, *, finite: bool = False) -> Any:
    """The value of a JSON text. finite: without NaN and infinity, which Python writes and JSON does not have.

    Raises ValueError that says where and what: also for values nested 200 deep, for half a character, for a number of
    thousands of digits, and for a key that is there twice.
    """
    text = decode(content) if isinstance(content, bytes) else content.removeprefix("\ufeff")
    try:
        from_json(
            text.encode(), allow_inf_nan=not finite
        )  # bounds depth and refuses half characters, and does not see that a key is there twice
    except ValueError as fault:
        raise ValueError(_PLACE.sub(r"line \2, column \3: \1", str(fault))) from fault
    return json.loads(text, object_pairs_hook=_without_repeats)


def read_object(
    path: Path, complaint: Complaint, *, named: bool = False, most_bytes: int = MOST_BYTES
) -> dict[str, Any]:
    """The object that a UTF-8 JSON file holds, with or without a byte order mark. Raises the complaint's error.

    named: a user named this very file, see `foreign.open_file`.
    """
    try:
        value = parse(foreign.read_bytes(path, named=named, most_bytes=most_bytes))
    except OSError as fault:
        raise complaint.about(path, f"cannot be read: {fault}") from fault
    except ValueError as fault:
        raise complaint.about(path, f"is damaged: {fault}") from fault
    if not isinstance(value, dict):
        raise complaint.about(path, "holds no JSON object")
    return value


def read_optional(path: Path, complaint: Complaint) -> dict[str, Any]:
    """As `read_object`; empty where there is no such file."""
    return read_object(path, complaint) if path.exists() else {}


def read_fields(path: Path, complaint: Complaint) -> Fields:
    """As `read_object`, for fields that are read with their types."""
    return fields_of(read_object(path, complaint), path, complaint)


def fields_of(document: Mapping[str, Any], path: Path, complaint: Complaint) -> Fields:
    """The fields of a document that was read from `path`; what is wrong with one is the complaint's error."""
    return Fields(document, lambda what: complaint.about(path, what))


def write_object(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object, see `as_text`."""
    write_file(path, as_text(value))


def as_text(value: Mapping[str, Any]) -> str:
    """A JSON object as people and `diff` read it: indented, one line end, text as it is."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers differ in which of two values counts."""
    values: dict[str, Any] = dict(pairs)
    if len(values) != len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ValueError(f"{shown(key)} is there twice, as {shown(seen[key])} and as {shown(value)}")
            seen[key] = value
    return values
