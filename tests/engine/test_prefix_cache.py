from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.decoders import Floats
from edgeship.engine.prefix_cache import LEAST_TOKENS, PrefixCache

TOKEN_BYTES = 2 * 3 * 5 * 4
TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=24), min_size=1, max_size=12)


class Slot:
    """Keys and values that say which text and place they are of; counts what is read."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = list(tokens)
        self.reads: list[tuple[int, int]] = []

    def read(self, start: int, end: int) -> Floats:
        self.reads.append((start, end))
        return entries(self.tokens)[:, :, start:end].copy()


def entries(tokens: Sequence[int]) -> Floats:
    """[2, 3, tokens, 5]: each token's are made of the beginning that it ends, as a model's are."""
    values = [hash(tuple(tokens[: end + 1])) % 10_007 for end in range(len(tokens))]
    return np.broadcast_to(np.array(values, np.float32)[None, None, :, None], (2, 3, len(tokens), 5))


def insert(cache: PrefixCache, tokens: Sequence[int]) -> Slot:
    slot = Slot(tokens)
    cache.insert(tokens, slot.read)
    return slot


def nodes(cache: PrefixCache) -> list[Floats]:
    return [node.entries for node in cache._nodes()]


@given(TEXTS, st.lists(st.integers(0, 2), max_size=24))
def test_the_longest_known_beginning_is_found_with_its_own_entries(texts: list[list[int]], asked: list[int]) -> None:
    cache = PrefixCache(10**6)
    for text in texts:
        insert(cache, text)
    match = cache.find(asked)
    best = max((common(text, asked) for text in texts), default=0)
    # Endings shorter than LEAST_TOKENS are not kept.
    assert best - 2 * LEAST_TOKENS < match.tokens <= best
    if match.tokens:
        joined = np.concatenate(match.parts, axis=2)
        assert np.array_equal(joined, entries(asked[: match.tokens]))


@given(TEXTS, st.integers(0, 60))
def test_the_budget_holds_and_bytes_are_counted(texts: list[list[int]], tokens: int) -> None:
    cache = PrefixCache(tokens * TOKEN_BYTES)
    for text in texts:
        insert(cache, text)
        found = nodes(cache)
        assert cache.bytes == sum(array.nbytes for array in found) <= cache.budget_bytes
        # Nothing is kept alive by views of larger arrays.
        assert all(array.base is None for array in found)


def test_only_what_is_not_known_is_read() -> None:
    cache = PrefixCache(10**6)
    insert(cache, [1, 2, 3, 4, 5, 6])
    slot = insert(cache, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert slot.reads == [(6, 10)]
    assert insert(cache, [1, 2, 3, 4, 5, 6, 7]).reads == []


def test_what_was_not_used_for_longest_goes_first_and_a_shared_beginning_last() -> None:
    cache = PrefixCache(14 * TOKEN_BYTES)
    system = [1, 2, 3, 4]
    first, second, third = ([*system, *[number] * 5] for number in (7, 8, 9))
    insert(cache, first)
    insert(cache, second)
    assert cache.find(first).tokens == 9
    insert(cache, third)
    assert cache.find(second).tokens == 4
    assert (cache.find(first).tokens, cache.find(third).tokens) == (9, 9)


def test_a_text_larger_than_the_budget_is_kept_from_its_beginning() -> None:
    cache = PrefixCache(10 * TOKEN_BYTES)
    insert(cache, list(range(100)))
    assert cache.find(list(range(100))).tokens == 10
    nothing = PrefixCache(0)
    insert(nothing, list(range(100)))
    assert nothing.find(list(range(100))).tokens == 0


def test_a_match_outlives_its_eviction() -> None:
    cache = PrefixCache(8 * TOKEN_BYTES)
    insert(cache, [1, 2, 3, 4, 5, 6])
    match = cache.find([1, 2, 3, 4, 5, 6])
    insert(cache, [9, 8, 7, 6, 5, 4, 3, 2])
    assert cache.find([1, 2, 3, 4, 5, 6]).tokens == 0
    assert np.array_equal(np.concatenate(match.parts, axis=2), entries([1, 2, 3, 4, 5, 6]))
    assert (cache.hits, cache.searches) == (1, 2)


def common(one: Sequence[int], other: Sequence[int]) -> int:
    return next(
        (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right),
        min(len(one), len(other)),
    )
