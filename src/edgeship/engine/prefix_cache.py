"""The prefix cache: keys and values of token sequences seen before, so that no beginning is computed twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeship.engine.decoders import Floats

Tokens = npt.NDArray[np.int64]
# Shorter runs are computed sooner than they are looked up and copied.
LEAST_TOKENS = 4


@dataclass(frozen=True)
class Prefix:
    """The longest known beginning of a text. parts: [2 * layers, kv heads, n, head size] each, joined they cover it."""

    tokens: int
    parts: tuple[Floats, ...]


@dataclass(eq=False)
class _Node:
    """A run of tokens that follows its parent's."""

    tokens: Tokens
    entries: Floats
    parent: _Node | None
    used: int = 0
    children: dict[int, _Node] = field(default_factory=dict)


class PrefixCache:
    """A radix tree of texts under a budget of bytes; what was not used for longest goes first, from its end.

    For one thread. hits, searches: texts that were known in part, and texts asked for.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.bytes = self.hits = self.searches = 0
        self._root = _Node(np.empty(0, np.int64), np.empty((0, 0, 0, 0), np.float32), None)
        self._clock = itertools.count(1)

    def find(self, tokens: Sequence[int]) -> Prefix:
        """The longest known beginning, which counts as used."""
        self.searches += 1
        path, known = self._walk(np.asarray(tokens, np.int64))
        if known < LEAST_TOKENS:
            return Prefix(0, ())
        self.hits += 1
        left, parts = known, []
        for node in path:
            parts.append(node.entries[:, :, :left])
            left -= len(node.tokens)
        return Prefix(known, tuple(parts))

    def insert(self, tokens: Sequence[int], read: Callable[[int, int], Floats]) -> None:
        """Makes a text known. `read(start, end)` is asked for the part that is not, and what it gives is kept.

        Where the budget is too small for all of it, its beginning is kept.
        """
        wanted = np.asarray(tokens, np.int64)
        path, known = self._walk(wanted)
        if len(wanted) - known < LEAST_TOKENS:
            return
        token_bytes = self._token_bytes(read, known)
        room = self.budget_bytes - sum(node.entries.nbytes for node in path)
        end = min(len(wanted), known + max(0, room) // token_bytes)
        if end - known < LEAST_TOKENS:
            return
        parent = path[-1] if path else self._root
        inside = known - sum(len(node.tokens) for node in path[:-1]) if path else 0
        if path and inside < len(parent.tokens):
            parent = self._split(parent, inside)
        self._make_room((end - known) * token_bytes, {*path, parent})
        entries = read(known, end)
        node = _Node(wanted[known:end].copy(), entries, parent, next(self._clock))
        parent.children[int(wanted[known])] = node
        self.bytes += entries.nbytes

    def _walk(self, tokens: Tokens) -> tuple[list[_Node], int]:
        """The nodes that begin `tokens`, the last perhaps in part, and how many tokens they cover. Touches them."""
        now = next(self._clock)
        path: list[_Node] = []
        node, known = self._root, 0
        while known < len(tokens) and (child := node.children.get(int(tokens[known]))):
            count = min(len(child.tokens), len(tokens) - known)
            differing = np.flatnonzero(child.tokens[:count] != tokens[known : known + count])
            child.used = now
            path.append(child)
            if len(differing):
                return path, known + int(differing[0])
            known += count
            if count < len(child.tokens):
                return path, known
            node = child
        return path, known

    def _split(self, node: _Node, count: int) -> _Node:
        """The node's first `count` tokens as one of their own, which becomes the parent of the rest."""
        parent = node.parent
        assert parent
        # Copies: views of one array would keep all of it, also when one of the halves is gone.
        first = _Node(node.tokens[:count].copy(), node.entries[:, :, :count].copy(), parent, node.used)
        parent.children[int(first.tokens[0])] = first
        node.tokens, node.entries, node.parent = node.tokens[count:].copy(), node.entries[:, :, count:].copy(), first
        first.children[int(node.tokens[0])] = node
        return first

    def _token_bytes(self, read: Callable[[int, int], Floats], at: int) -> int:
        for node in self._nodes():
            return node.entries.nbytes // len(node.tokens)
        return max(1, read(at, at + 1).nbytes)

    def _make_room(self, needed: int, kept: set[_Node]) -> None:
        while self.bytes + needed > self.budget_bytes:
            leaves = [node for node in self._nodes() if not node.children and node not in kept]
            if not leaves:
                return
            oldest = min(leaves, key=lambda node: node.used)
            assert oldest.parent
            del oldest.parent.children[int(oldest.tokens[0])]
            self.bytes -= oldest.entries.nbytes

    def _nodes(self) -> Iterator[_Node]:
        waiting = list(self._root.children.values())
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())
