"""What is known of a text before it is read, and what is kept of it afterwards: the prefix cache of a decoder's slots.

Keys and values are of each token: a text that begins like one before goes on where they part. States are of one place,
and the places where later texts part from this one are not known yet. So a prompt that is read stops where a state
is likely to be of use, and it is kept:
- some tokens before its end: the next turn of a chat repeats the prompt, but often not how it leads to an answer, such
  as marks of thoughts; and of the same prompt that is asked again the last token is computed;
- where it parted from another text, since what two begin with a third may, such as instructions.
"""

from __future__ import annotations

from edgeship.engine.decoders import Decoder
from edgeship.engine.prefix_cache import STATE_TOKENS, PrefixCache
from edgeship.engine.request import Work

# What leads from the last message to the answer, in the templates of the models that keep states: 3 to 7 tokens.
_LEAD_TOKENS = 8


class Recall:
    """The prefix cache of a decoder; for one thread."""

    def __init__(self, decoder: Decoder, cache_bytes: int) -> None:
        self._decoder = decoder
        self._states = decoder.keeps_prefixes and not decoder.goes_back
        self.cache = PrefixCache(cache_bytes if decoder.keeps_prefixes else 0, states=self._states)
        self._stops: dict[int, list[int]] = {}  # by slot, the last one first

    def begin(self, work: Work, slot: int) -> int:
        """Puts what is known of a text's beginning into its slot; its last token is always computed."""
        self._stops.pop(slot, None)
        if not self.cache.budget_bytes or not work.may_use_cache:
            return 0
        found = self.cache.find(work.tokens[:-1])
        start = 0
        for part in found.parts:
            self._decoder.write(slot, start, part)
            start += part.shape[1]
        if found.state is not None:
            self._decoder.write_state(slot, found.state)
        if self._states:
            self._stops[slot] = _stops(start, found.shared, len(work.tokens))
        return start

    def until_stop(self, work: Work, most: int) -> int:
        """At most so many tokens, and none beyond the next place whose state is to be kept."""
        if not self._states:
            return most
        stops = self._stops.get(-1 if work.slot is None else work.slot)
        count = min(most, stops[-1] - work.held if stops else work.unread)
        # Cut at even places, for the same reason and because results must not depend on the cuts, see `Chunk.reading`.
        return count - count % 2 if 1 < count < work.unread else count

    def after_chunk(self, work: Work, *, was_reading: bool) -> None:
        """Some of a text was read: what of it should be known is kept now, while its slot is in use."""
        stops = self._stops.get(-1 if work.slot is None else work.slot)
        if stops and work.held >= stops[-1]:
            stops.pop()
            self.keep(work)
        elif not self._states and was_reading and not work.reading and not work.finished:
            self.keep(work)

    def keep(self, work: Work) -> None:
        """Keeps all that the work's slot holds."""
        slot, decoder = work.slot, self._decoder
        if self.cache.budget_bytes and work.held and slot is not None:
            self.cache.insert(
                work.tokens[: work.held],
                lambda start, end: decoder.read(slot, start, end),
                (lambda: decoder.read_state(slot)) if self._states else None,
            )


def _stops(start: int, shared: int, tokens: int) -> list[int]:
    """Where reading from `start` stops to keep a state, the last place first.

    What is read until there is even in number: a token left over in the middle would take a run of its own.
    """
    found: list[int] = []
    last = tokens - _LEAD_TOKENS
    for stop in (min(shared, last), last):
        if stop - (found[-1] if found else start) >= STATE_TOKENS:
            found.append(stop - (stop - start) % 2)
    return found[::-1]
