"""The prefix cache: keys and values of token sequences seen before, so that no beginning is computed twice.

Of models that keep states besides (`decoders/kept.py`) it has these too, each for the one place in a text that it
belongs to. Such a text is gone on with from a place whose state is known, and from nowhere else.
"""

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
STATE_TOKENS = 16
"""A state is kept where it spares so many tokens more than the one before it: it takes as much as many of them."""


@dataclass(frozen=True)
class Prefix:
    """The longest known beginning of a text. parts: [heads of all layers, n, size] each, joined they cover it.

    state: the one after it, where the model keeps states. shared: tokens that another text began with too, which are
    more than `tokens` where no state is known after them.
    """

    tokens: int
    parts: tuple[Floats, ...]
    state: Floats | None = None
    shared: int = 0


@dataclass(eq=False)
class _Node:
    """A run of tokens that follows its parent's. state: the one after its last token; state_used: when last of use."""

    tokens: Tokens
    entries: Floats
    parent: _Node | None
    used: int = 0
    children: dict[int, _Node] = field(default_factory=dict)
    state: Floats | None = None
    state_used: int = 0

    @property
    def bytes(self) -> int:
        return self.entries.nbytes + self.state_bytes

    @property
    def state_bytes(self) -> int:
        return 0 if self.state is None else self.state.nbytes


class PrefixCache:
    """A radix tree of texts under a budget of bytes; what was not used for longest goes first, from its end.

    For one thread. hits, searches: texts that were known in part, and texts asked for.
    states: the model keeps some, and a text is found only as far as one of them is known.
    """

    def __init__(self, budget_bytes: int, *, states: bool = False) -> None:
        self.budget_bytes = budget_bytes
        self.bytes = self.hits = self.searches = 0
        self._states = states
        self._root = _Node(np.empty(0, np.int64), np.empty((0, 0, 0), np.float32), None)
        self._clock = itertools.count(1)

    def find(self, tokens: Sequence[int]) -> Prefix:
        """The longest known beginning, which counts as used."""
        self.searches += 1
        path, shared = self._walk(np.asarray(tokens, np.int64))
        known, state = shared, None
        if self._states:
            path, known, state = self._last_state(path, shared)
        if known < LEAST_TOKENS:
            return Prefix(0, (), shared=shared)
        self.hits += 1
        left, parts = known, []
        for node in path:
            parts.append(node.entries[:, :left])
            left -= len(node.tokens)
        return Prefix(known, tuple(parts), state, shared)

    def insert(
        self, tokens: Sequence[int], read: Callable[[int, int], Floats], read_state: Callable[[], Floats] | None = None
    ) -> None:
        """Makes a text known. `read(start, end)` is asked for the part that is not, and what it gives is kept.

        Where the budget is too small for all of it, its beginning is kept.
        read_state: gives the state after the text, for models that keep states. Those texts are kept whole or not.
        """
        wanted = np.asarray(tokens, np.int64)
        path, known = self._walk(wanted)
        if read_state:
            self._insert_to_state(wanted, path, known, read, read_state)
            return
        if len(wanted) - known < LEAST_TOKENS:
            return
        end = min(len(wanted), known + self._room_beside(path) // self._token_bytes(read, known))
        if end - known >= LEAST_TOKENS:
            self._grow(wanted[:end], path, known, read)

    def _insert_to_state(
        self,
        wanted: Tokens,
        path: list[_Node],
        known: int,
        read: Callable[[int, int], Floats],
        read_state: Callable[[], Floats],
    ) -> None:
        _, before, _ = self._last_state(path, known)
        if len(wanted) - before < STATE_TOKENS:
            return
        state = read_state()
        if (len(wanted) - known) * self._token_bytes(read, known) + state.nbytes > self._room_beside(path):
            return
        node = self._grow(wanted, path, known, read, more_bytes=state.nbytes)
        node.state, node.state_used = state, next(self._clock)
        self.bytes += state.nbytes

    def _grow(
        self, wanted: Tokens, path: list[_Node], known: int, read: Callable[[int, int], Floats], more_bytes: int = 0
    ) -> _Node:
        """The node that ends `wanted`, of which the path has the first `known` tokens."""
        parent = path[-1] if path else self._root
        inside = known - sum(len(node.tokens) for node in path[:-1]) if path else 0
        if path and inside < len(parent.tokens):
            parent = self._split(parent, inside)
        missing = len(wanted) - known
        new_bytes = missing * self._token_bytes(read, known) if missing else 0
        self._make_room(new_bytes + more_bytes, {*path, parent})
        if not missing:
            return parent
        entries = read(known, len(wanted))
        node = _Node(wanted[known:].copy(), entries, parent, next(self._clock))
        parent.children[int(wanted[known])] = node
        self.bytes += entries.nbytes
        return node

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

    def _last_state(self, path: list[_Node], known: int) -> tuple[list[_Node], int, Floats | None]:
        """The path as far as a state is known, which counts as used, the tokens until there, and the state."""
        end, best = 0, 0
        for place, node in enumerate(path, 1):
            end += len(node.tokens)
            if node.state is not None and end <= known:
                best = place
        path = path[:best]
        if not path:
            return [], 0, None
        path[-1].state_used = next(self._clock)
        return path, sum(len(node.tokens) for node in path), path[-1].state

    def _split(self, node: _Node, count: int) -> _Node:
        """The node's first `count` tokens as one of their own, which becomes the parent of the rest."""
        parent = node.parent
        assert parent
        # Copies: views of one array would keep all of it, also when one of the halves is gone.
        first = _Node(node.tokens[:count].copy(), node.entries[:, :count].copy(), parent, node.used)
        parent.children[int(first.tokens[0])] = first
        node.tokens, node.entries, node.parent = node.tokens[count:].copy(), node.entries[:, count:].copy(), first
        first.children[int(node.tokens[0])] = node
        return first

    def _token_bytes(self, read: Callable[[int, int], Floats], at: int) -> int:
        for node in self._nodes():
            return node.entries.nbytes // len(node.tokens)
        return max(1, read(at, at + 1).nbytes)

    def _room_beside(self, path: list[_Node]) -> int:
        return max(0, self.budget_bytes - sum(node.entries.nbytes for node in path))

    def _make_room(self, needed: int, kept: set[_Node]) -> None:
        """Nodes that are kept may lose their states all the same."""
        while self.bytes + needed > self.budget_bytes:
            found = [(node.used, node) for node in self._nodes() if not node.children and node not in kept]
            whole = {node for _, node in found}
            found += [(node.state_used, node) for node in self._nodes() if node.state is not None and node not in whole]
            if not found:
                return
            _, oldest = min(found, key=lambda each: each[0])
            self.bytes -= oldest.bytes if oldest in whole else oldest.state_bytes
            oldest.state = None
            if oldest in whole:
                self._drop(oldest, kept)

    def _drop(self, leaf: _Node, kept: set[_Node]) -> None:
        """Takes a leaf away, and what it leaves behind that leads to no state any more."""
        parent = leaf.parent
        assert parent
        del parent.children[int(leaf.tokens[0])]
        if self._states and parent.parent and not parent.children and parent.state is None and parent not in kept:
            self.bytes -= parent.bytes
            self._drop(parent, kept)

    def _nodes(self) -> Iterator[_Node]:
        waiting = list(self._root.children.values())
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())
