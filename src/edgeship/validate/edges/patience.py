"""How long a request may take before it counts as one that hangs: a slow target, or a busy machine, is none."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeship.validate.edges.row import Asked, Crowd, Known, Row
from edgeship.validate.edges.texts import said

_TIMES = 10
"""What takes so many times as long as its like took, hangs."""
_BUSY = 2
"""A machine that others use may need so many times as long for a crowd as for the same questions one by one."""
_WORDS = 400


@dataclass(frozen=True)
class Patience:
    """How long a target may take. least_s: so long may any target take over anything.

    plain_s: so long took the plain question. letter_s: so long took a longer one, for each of its letters.
    """

    least_s: float
    plain_s: float = 0.0
    letter_s: float = 0.0

    @property
    def usual_s(self) -> float:
        """How long a request may take that is as short as the plain question."""
        return max(self.least_s, _TIMES * self.plain_s)

    def over(self, row: Row, known: Known) -> float:
        """How long what a row asks may take: one slot answers a crowd one by one, and long texts must be read."""
        asks = row.asks
        if isinstance(asks, Crowd):
            return self.usual_s + _BUSY * asks.many * self.plain_s
        if isinstance(asks, Asked) and (body := asks.of(known)) is not None:
            return max(self.usual_s, _TIMES * self.letter_s * letters_in(body))
        return self.usual_s


def longer_question() -> dict[str, Any]:
    """A question of some hundred words, which no server has read before."""
    return said(f"{secrets.token_hex(4)}{' order' * _WORDS}", max_tokens=1)


def letters_in(body: Mapping[str, Any]) -> int:
    """How long a body is; a character that is no ASCII, which may be several tokens, counts for several letters."""
    return len(json.dumps(body, default=str))
