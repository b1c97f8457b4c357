"""How many turns are made until conditions are settled: they are judged, and judged again with twice as many."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from edgeship.measure.load.conditions import Judged, confirmed, settled
from edgeship.measure.load.turns import LEAST_TURNS


@dataclass
class Looks:
    """Give it what each look showed until `note` says that no other is to follow; `judged` then has the last.

    turns: before the first look. most_turns: before the last one.
    spend_s: after that no turn is begun, but for the first of each look. The first look comes at half of that time, if
    there are enough turns for intervals by then: what holds has to hold in another look as well.
    made: the turns so far. goal: those before the next look, if there is time.
    """

    turns: int
    most_turns: int
    spend_s: float = math.inf
    clock: Callable[[], float] = time.monotonic
    made: int = 0
    judged: tuple[Judged, ...] = ()
    goal: int = field(init=False)

    def __post_init__(self) -> None:
        self.goal, self._begun_s, self._looked = self.turns, self.clock(), False

    def next_turns(self) -> Iterator[int]:
        """The numbers of the turns before the next look, counted from 0; there is one at least."""
        while True:
            yield self.made
            self.made += 1
            if self.made >= self.goal or self._is_over() or self._is_time_to_look():
                return

    def note(self, judged: Sequence[Judged]) -> bool:
        """Takes what a look showed; whether another one is to follow."""
        before, self.judged, self._looked = self.judged, tuple(judged), True
        self.goal = min(2 * self.made, self.most_turns)
        if self.made < self.goal and not self._is_over() and not settled(judged, before):
            return True
        if self.most_turns > self.turns:
            self.judged = confirmed(judged, before)
        return False

    @property
    def _spent_s(self) -> float:
        return self.clock() - self._begun_s

    def _is_over(self) -> bool:
        return self._spent_s > self.spend_s

    def _is_time_to_look(self) -> bool:
        return not self._looked and self.made >= LEAST_TURNS and self._spent_s > self.spend_s / 2
