"""Answers that are one JSON document, which may be large: made so that other requests go on meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.responses import Response

_VALUES = 4096
"""So many plain values of a list are encoded at once: no other thread runs until that is done."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Document(Response):
    """A response of this document. To make a large one is work for a thread; see `Server.tell`.

    An iterator is told as a list, of which one element after another is made and encoded.
    """

    media_type = "application/json"

    def render(self, content: Mapping[str, Any]) -> bytes:
        """See Response."""
        return "".join(_pieces(content)).encode()


def _pieces(document: Mapping[str, Any]) -> Iterator[str]:
    yield "{"
    for number, (name, value) in enumerate(document.items()):
        yield f"{',' if number else ''}{_ENCODER.encode(name)}:"
        if isinstance(value, Iterator):
            yield f"[{','.join(map(_ENCODER.encode, value))}]"
        elif isinstance(value, list):
            yield from _list(value)
        else:
            yield _ENCODER.encode(value)
    yield "}"


def _list(values: list[Any]) -> Iterator[str]:
    yield "["
    for start in range(0, len(values), _VALUES):
        yield ("," if start else "") + _ENCODER.encode(values[start : start + _VALUES])[1:-1]
    yield "]"
