"""Where an answer that is held to a constraint should end a text, a number, a list, or itself.

A constraint says what may follow, and that alone leaves some answers without an end. A model that would end a text
with `", "` finds that token forbidden where `"}` must follow, and goes on with the text. And a model that has begun to
repeat itself does so for ever. In both cases only tokens that end something are left, where the constraint has such.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

Allowed = npt.NDArray[np.bool_]

# No number that a program reads has more digits.
_MOST_DIGITS = 32
# So many digits tell a number with a fraction apart from those beside it: a further zero changes nothing.
_TELLING_DIGITS = 14
# A text is in a loop once one piece fills so many bytes and stands there so many times: a line of dashes is no loop.
# Who was in a loop will be again, so each time half the bytes are enough.
_LOOP_BYTES, _LEAST_LOOP_BYTES, _LOOP_TIMES = 512, 64, 8
_KEPT_BYTES = _LOOP_BYTES * (1 + _LOOP_TIMES)
# A list or an object is in a loop once items that it has already fill so many bytes, and twice those of the others:
# 140 labels, or 340 zeros, are no loop; `minItems` holds a list open for longer.
_SAME_BYTES = 1024
_MOST_DEPTH = 64
# After so many loops every list and object ends as soon as it may.
_MOST_LOOPS = 4

_NUMBER = frozenset(b"0123456789+-.eE")
_DIGITS = frozenset(b"0123456789")


class Place(Enum):
    """Where an answer stands. PLAIN: in what is no JSON. BETWEEN: in no text and no number."""

    PLAIN = "plain"
    BETWEEN = "between"
    TEXT = "text"
    ESCAPE = "escape"
    NUMBER = "number"


class Enders:
    """The tokens of a vocabulary that end something, by the place where they do.

    tokens: the bytes of each. ends: those that end an answer, and do so everywhere.
    """

    def __init__(self, tokens: Sequence[bytes], ends: Collection[int]) -> None:
        first = np.array([token[0] if token else 0 for token in tokens], np.uint8)
        plain = np.zeros(len(first), np.bool_)
        plain[[end for end in ends if end < len(first)]] = True
        self._by_place: dict[Place, Allowed] = {
            Place.PLAIN: plain,
            Place.BETWEEN: plain | np.isin(first, list(b"]}")),
            Place.TEXT: plain | (first == ord('"')),
            Place.ESCAPE: np.zeros_like(plain),
            Place.NUMBER: plain | ~np.isin(first, list(_NUMBER)),
        }

        self.no_zeros: Allowed = first != ord("0")

    def at(self, place: Place) -> Allowed:
        """bool [tokens]."""
        return self._by_place[place]

    def has(self, token: int | None, place: Place) -> bool:
        """Whether a token ends something there."""
        return token is not None and bool(self._by_place[place][token])


class Ending:
    """Watches one answer. marks: tokens that end a text in what is no JSON."""

    def __init__(self, enders: Enders, *, is_json: bool, marks: Collection[int] = ()) -> None:
        self._enders, self._marks = enders, list(marks)
        self._place = Place.BETWEEN if is_json else Place.PLAIN
        self._text = bytearray()  # of the text or number in which the answer stands; the whole where it is no JSON
        self._open: list[_Items] = []
        self._loops = 0
        self._text_loops = self._items_loop = False

    def push(self, said: bytes) -> None:
        """The answer goes on."""
        for byte in said:
            self._step(byte)
        before = self._text_loops or self._items_loop
        self._text_loops, self._items_loop = self._is_text_loop(), self._is_items_loop()
        self._loops += not before and (self._text_loops or self._items_loop)

    def narrow(self, allowed: Allowed, likeliest: int | None) -> Allowed:
        """What is left of `allowed` where something should end. likeliest: the token that the model would say."""
        for place in self._to_end(allowed, likeliest):
            left = allowed & self._enders.at(place)
            if place is Place.PLAIN:
                left[self._marks] = allowed[self._marks]
            if left.any():
                return left
        return self._without_zeros(allowed) if self._is_fraction_of_zeros() else allowed

    def _is_fraction_of_zeros(self) -> bool:
        return self._place is Place.NUMBER and b"." in self._text and self._digits() >= _TELLING_DIGITS

    def _without_zeros(self, allowed: Allowed) -> Allowed:
        """A number that may not end yet is one that must be more or less than its digits say: a zero never ends it."""
        may_end = (allowed & self._enders.at(Place.NUMBER)).any()
        left = allowed & self._enders.no_zeros
        return allowed if may_end or not left.any() else left

    def _to_end(self, allowed: Allowed, likeliest: int | None) -> Iterator[Place]:
        refused = None if likeliest is None or allowed[likeliest] else likeliest
        if self._place in (Place.BETWEEN, Place.NUMBER) and (
            self._items_loop or self._loops >= _MOST_LOOPS or self._enders.has(refused, Place.BETWEEN)
        ):
            yield Place.BETWEEN
        if self._text_loops or self._enders.has(refused, self._place):
            yield self._place

    def _is_text_loop(self) -> bool:
        if self._place is Place.NUMBER:
            return self._digits() >= _MOST_DIGITS
        if self._place is Place.BETWEEN:
            return False
        return repeats(bytes(self._text[-_KEPT_BYTES:]), max(_LEAST_LOOP_BYTES, _LOOP_BYTES >> self._loops))

    def _digits(self) -> int:
        return sum(byte in _DIGITS for byte in self._text)

    def _is_items_loop(self) -> bool:
        return len(self._open) > _MOST_DEPTH or any(items.loop for items in self._open)

    def _step(self, byte: int) -> None:
        for items in self._open:
            items.item.append(byte)
        place = self._next_place(byte)
        if place in (Place.TEXT, Place.NUMBER) and self._place is Place.BETWEEN:
            self._text.clear()
        self._place = place
        self._text.append(byte)
        if place is not Place.BETWEEN:
            return
        if byte in b"[{":
            self._open.append(_Items())
        elif byte in b"]}" and self._open:
            self._open.pop()
        elif byte == ord(",") and self._open:
            self._open[-1].end_item()

    def _next_place(self, byte: int) -> Place:
        if self._place is Place.PLAIN:
            return Place.PLAIN
        if self._place is Place.ESCAPE:
            return Place.TEXT
        if self._place is Place.TEXT:
            return {ord('"'): Place.BETWEEN, ord("\\"): Place.ESCAPE}.get(byte, Place.TEXT)
        if self._place is Place.NUMBER and byte in _NUMBER:
            return Place.NUMBER
        if byte == ord('"'):
            return Place.TEXT
        return Place.NUMBER if byte in _DIGITS or byte == ord("-") else Place.BETWEEN


@dataclass
class _Items:
    """What a list or an object has so far. item: the one that is being written."""

    item: bytearray = field(default_factory=bytearray)
    known: set[bytes] = field(default_factory=set)
    same_bytes: int = 0
    new_bytes: int = 0

    @property
    def loop(self) -> bool:
        return self.same_bytes >= _SAME_BYTES and self.same_bytes >= 2 * self.new_bytes

    def end_item(self) -> None:
        item = bytes(self.item)
        if item in self.known:
            self.same_bytes += len(item)
        else:
            self.new_bytes += len(item)
            self.known.add(item)
        self.item.clear()


def repeats(text: bytes, length: int) -> bool:
    """Whether the last `length` bytes, or more, are one piece over and over."""
    found = text.rfind(text[-length:], 0, len(text) - 1)
    if found < 0 or len(text) < length:
        return False
    period = len(text) - length - found
    span = max(length, _LOOP_TIMES * period)
    return span <= len(text) and text[-span:-period] == text[-span + period :]


def vocabulary(tokenizer: Any, size: int) -> list[bytes]:
    """The bytes of every token that the logits know. tokenizer: llguidance's."""
    known = min(size, int(tokenizer.vocab_size))
    return [tokenizer.decode_bytes([token]) for token in range(known)] + [b""] * (size - known)
