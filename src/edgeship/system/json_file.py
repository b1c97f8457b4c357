"""JSON objects in files: read, or refused with the file and the line; written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.errors import EdgeshipError
from edgeship.system.storage import write_file

MOST_BYTES = 1 << 28
"""A larger file is not read: the largest tokenizers take a tenth of it."""


@dataclass(frozen=True)
class Complaint:
    """What is raised about a file that cannot be used, and what its owner can do about it."""

    error: type[EdgeshipError]
    hint: str

    def about(self, path: Path, what: str) -> EdgeshipError:
        """The error that says `what` is wrong with the file."""
        return self.error(f"{path.name} {what}", where=str(path), hint=self.hint)


def read_object(path: Path, complaint: Complaint) -> dict[str, Any]:
    """The object that a UTF-8 JSON file holds, with or without a byte order mark. Raises the complaint's error."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise complaint.about(path, f"is larger than {MOST_BYTES >> 20} MiB, so it is not read")
        value = json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as fault:
        raise complaint.about(path, f"is damaged: line {fault.lineno}, column {fault.colno}: {fault.msg}") from fault
    except (OSError, ValueError, RecursionError) as fault:
        raise complaint.about(path, f"cannot be read: {fault}") from fault
    if not isinstance(value, dict):
        raise complaint.about(path, "holds no JSON object")
    return value


def read_optional(path: Path, complaint: Complaint) -> dict[str, Any]:
    """As `read_object`; empty where there is no such file."""
    return read_object(path, complaint) if path.is_file() else {}


def write_object(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object as people and `diff` read it: indented, one line end, text as it is."""
    write_file(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
