"""JSON objects in files: read, or refused with the file and the line; written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.errors import EdgeshipError
from edgeship.system.storage import write_file


def read_object(path: Path, error: type[EdgeshipError]) -> dict[str, Any]:
    """The object that a UTF-8 JSON file holds. Raises `error` where there is none."""
    hint = "Copy the file again from where the checkpoint came."
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as fault:
        raise error(
            f"{path.name} is damaged: line {fault.lineno}, column {fault.colno}: {fault.msg}",
            where=str(path),
            hint=hint,
        ) from fault
    except (OSError, ValueError, RecursionError) as fault:
        raise error(f"{path.name} cannot be read: {fault}", where=str(path), hint=hint) from fault
    if not isinstance(value, dict):
        raise error(f"{path.name} holds no JSON object", where=str(path), hint=hint)
    return value


def read_optional(path: Path, error: type[EdgeshipError]) -> dict[str, Any]:
    """As `read_object`; empty where there is no such file."""
    return read_object(path, error) if path.is_file() else {}


def write_object(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object as people and `diff` read it: indented, one line end, text as it is."""
    write_file(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
