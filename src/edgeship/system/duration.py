"""Durations as people write them, and as Go and Ollama's clients do: seconds, or a text such as "5m" or "1h30m"."""

from __future__ import annotations

import re

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNIT = "|".join(sorted(_UNITS_S, key=len, reverse=True))
_WHOLE = re.compile(rf"[+-]?([0-9]+(\.[0-9]*)?({_UNIT}))+")
_PIECE = re.compile(rf"([0-9]+(?:\.[0-9]*)?)({_UNIT})")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")
_MOST_CHARACTERS = 100


def seconds_in(text: str) -> float:
    """The seconds that a text means. Raises ValueError for one that is no duration."""
    if len(text) <= _MOST_CHARACTERS and _NUMBER.fullmatch(text):
        return float(text)
    if len(text) > _MOST_CHARACTERS or not _WHOLE.fullmatch(text):
        raise ValueError(f"{text[:_MOST_CHARACTERS]!r} is no duration")
    total = sum(float(number) * _UNITS_S[unit] for number, unit in _PIECE.findall(text))
    return -total if text.startswith("-") else total
