"""Responses that can be asked for again, and gone on from. They are kept in memory, no more than there is room for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.errors import NotFound


@dataclass(frozen=True)
class StoredResponse:
    """A response and the items that it answers, as JSON: so it is known what they take. at_s: when it was kept."""

    response: bytes
    items: bytes
    owner: str
    at_s: float

    @property
    def size_bytes(self) -> int:
        return len(self.response) + len(self.items)

    def read_items(self) -> list[dict[str, Any]]:
        """The items that it answers."""
        items: list[dict[str, Any]] = json.loads(self.items)
        return items

    def read_output(self) -> list[dict[str, Any]]:
        """The items of the answer."""
        output: list[dict[str, Any]] = json.loads(self.response)["output"]
        return output


class StoredResponses:
    """Those of one server. For one thread, which is the event loop's.

    most, most_bytes: beyond these the oldest ones go. most_age_s: what is older is as good as gone.
    owner: whose a response is; nobody else's finds it.
    """

    def __init__(
        self, *, most: int, most_bytes: int, most_age_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._most_bytes, self._most_age_s, self._clock = most, most_bytes, most_age_s, clock
        self._kept: dict[str, StoredResponse] = {}
        self._size_bytes = 0

    def keep(self, response: Mapping[str, Any], items: Sequence[Mapping[str, Any]], owner: str = "") -> None:
        """Keeps a response with the items that it answers."""
        kept = StoredResponse(_json(response), _json(items), owner, self._clock())
        self._kept[response["id"]] = kept
        self._size_bytes += kept.size_bytes
        self._make_room()

    def find(self, name: str, owner: str = "") -> StoredResponse:
        """The response with that id. Raises NotFound."""
        self._make_room()
        kept = self._kept.get(name)
        if kept is None or kept.owner != owner:
            raise NotFound(
                f"there is no response {name!r}",
                hint="Responses are kept in memory for a while, unless store is false.",
            )
        return kept

    def forget(self, name: str, owner: str = "") -> None:
        """Drops the response with that id. Raises NotFound."""
        self.find(name, owner)
        self._drop(name)

    def _make_room(self) -> None:
        """Drops the oldest ones, which come first."""
        oldest_s = self._clock() - self._most_age_s
        while self._kept:
            name, kept = next(iter(self._kept.items()))
            if len(self._kept) <= self._most and self._size_bytes <= self._most_bytes and kept.at_s >= oldest_s:
                return
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._size_bytes -= self._kept.pop(name).size_bytes


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
