"""A JSON object from a file, or an error that names the file and the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeship.errors import EdgeshipError


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
