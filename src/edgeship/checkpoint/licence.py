"""The licence that a checkpoint states: on its model card, in its config, or as a text beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.system import foreign

_MOST_OF_A_CARD, _MOST_OF_A_NAME = 1 << 20, 200


def find_licence(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The licence by its name; None where none is stated."""
    on_card = card_licence(_read_text(folder / "README.md"))
    if on_card is not None:
        return on_card
    in_config = config.get("license")
    if isinstance(in_config, str) and in_config:
        return in_config
    texts = (_read_text(path).strip() for path in sorted(folder.glob("LICEN[CS]E*")))
    return next((text.splitlines()[0][:_MOST_OF_A_NAME].strip() for text in texts if text), None)


def card_licence(card: str) -> str | None:
    """The licence in a model card's front matter; its name where it is none of the Hub's known ones."""
    fields: dict[str, str] = {}
    open_key = ""  # of a list, whose first item counts
    for line in _front_matter(card):
        key, colon, value = line.partition(":")
        if colon and key in ("license", "license_name"):
            open_key = "" if value.strip() else key
            fields |= {key: value} if value.strip() else {}
        elif open_key and line.strip():
            fields |= {open_key: line.strip()[1:]} if line.strip().startswith("-") else {}
            open_key = ""
    stated = {key: value.strip().strip("'\"") for key, value in fields.items()}
    licence = stated.get("license")
    return stated.get("license_name", licence) if licence == "other" else licence


def _front_matter(card: str) -> list[str]:
    """The lines between a card's first line and the next one that begin with ---; none where it has no such."""
    first, *rest = card.replace("\r\n", "\n").split("\n")
    end = next((number for number, line in enumerate(rest) if line.startswith("---")), None)
    return rest[:end] if first.rstrip() == "---" and end is not None else []


def _read_text(path: Path) -> str:
    """The beginning of a text that nothing depends on; empty where it cannot be read."""
    try:
        with foreign.open_file(path) as stream:
            return stream.read(_MOST_OF_A_CARD).decode(errors="replace")
    except OSError:
        return ""
