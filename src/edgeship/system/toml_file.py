"""TOML that a user writes: settings and recipes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from edgeship.system import foreign

MOST_BYTES = 1 << 16
"""A larger file is not read: a setting takes a line."""


def read_table(path: Path) -> dict[str, Any]:
    """What a file holds that a user named. Raises OSError, and ValueError that says where for what is no TOML."""
    return parse(foreign.read_text(path, named=True, most_bytes=MOST_BYTES))


def parse(text: str) -> dict[str, Any]:
    """What a text says. Raises ValueError that says where for what is no TOML."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("its values nest too deeply") from error
