from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.decoders import Floats
from edgeship.engine.prefix_cache import LEAST_TOKENS, STATE_TOKENS, PrefixCache

TOKEN_BYTES = 6 * 5 * 4
TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=24), min_size=1, max_size=12)


class Slot:
    """Keys and values that say which text and place they are of; counts what is read."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = list(tokens)
        self.reads: list[tuple[int, int]] = []

    def read(self, start: int, end: int) -> Floats:
        self.reads.append((start, end))
        return entries(self.tokens)[:, start:end].copy()


def entries(tokens: Sequence[int]) -> Floats:
    """[6, tokens, 5]: each token's are made of the beginning that it ends, as a model's are."""
    values = [hash(tuple(tokens[: end + 1])) % 10_007 for end in range(len(tokens))]
    return np.broadcast_to(np.array(values, np.float32)[None, :, None], (6, len(tokens), 5))


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
        joined = np.concatenate(match.parts, axis=1)
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
    assert np.array_equal(np.concatenate(match.parts, axis=1), entries([1, 2, 3, 4, 5, 6]))
    assert (cache.hits, cache.searches) == (1, 2)


# --- with states -----------------------------------------------------------------------------------------------------

STATE_BYTES = 50 * 4
LONG_TEXTS = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=70), min_size=1, max_size=10)


def state_of(tokens: Sequence[int]) -> Floats:
    return np.full(50, hash(tuple(tokens)) % 10_007, np.float32)


def insert_with_state(cache: PrefixCache, tokens: Sequence[int]) -> None:
    cache.insert(tokens, Slot(tokens).read, lambda: state_of(tokens))


@given(LONG_TEXTS, st.lists(st.integers(0, 1), max_size=70), st.sampled_from([0, 3000, 12_000, 10**6]))
def test_a_beginning_is_found_with_its_own_state(texts: list[list[int]], asked: list[int], budget: int) -> None:
    cache = PrefixCache(budget, states=True)
    for text in texts:
        insert_with_state(cache, text)
        kept = list(cache._nodes())
        assert cache.bytes == sum(node.entries.nbytes + (STATE_BYTES if node.state is not None else 0) for node in kept)
        assert cache.bytes <= budget
        assert all(node.children or node.state is not None for node in kept)
    match = cache.find(asked)
    assert match.tokens in {0, *(len(text) for text in texts if common(text, asked) == len(text))}
    assert match.tokens <= match.shared
    if match.tokens:
        assert match.state is not None
        assert np.array_equal(match.state, state_of(asked[: match.tokens]))
        assert np.array_equal(np.concatenate(match.parts, axis=1), entries(asked[: match.tokens]))
    if budget == 10**6:
        assert match.shared >= max(common(text, asked) for text in texts) - 2 * STATE_TOKENS


def test_where_texts_part_no_state_is_known_until_it_is_told() -> None:
    cache = PrefixCache(10**6, states=True)
    first, second = ([*range(30), *[number] * 30] for number in (100, 200))
    insert_with_state(cache, first)
    found = cache.find(second)
    assert (found.tokens, found.shared, found.parts, found.state) == (0, 30, (), None)
    insert_with_state(cache, first[:30])
    found = cache.find(second)
    assert (found.tokens, found.shared) == (30, 30)
    assert cache.find(first).tokens == 60


def test_a_state_that_spares_little_is_not_kept() -> None:
    cache = PrefixCache(10**6, states=True)
    insert_with_state(cache, list(range(STATE_TOKENS - 1)))
    assert cache.bytes == 0
    insert_with_state(cache, list(range(20)))
    insert_with_state(cache, list(range(20 + STATE_TOKENS - 1)))
    assert cache.find(list(range(60))).tokens == 20
    insert_with_state(cache, list(range(20 + STATE_TOKENS)))
    assert cache.find(list(range(60))).tokens == 20 + STATE_TOKENS


def test_states_that_later_ones_made_needless_go_first() -> None:
    """Of a chat's earlier turns: their keys and values stay, since the later ones stand on them."""
    turns = [list(range(end)) for end in (20, 40, 60)]
    cache = PrefixCache(60 * TOKEN_BYTES + 2 * STATE_BYTES, states=True)
    for turn in turns:
        cache.find(turn)
        insert_with_state(cache, turn)
    assert [cache.find([*turn, 999]).tokens for turn in turns] == [0, 40, 60]
    # What leads to no state any more goes with the last one that it led to.
    insert_with_state(cache, [7] * 35)
    assert [cache.find(tokens).tokens for tokens in (*turns, [7] * 35)] == [0, 0, 0, 35]
    assert cache.bytes == 35 * TOKEN_BYTES + STATE_BYTES


def test_what_many_texts_begin_with_stays() -> None:
    instructions = list(range(30))
    cache = PrefixCache(70 * TOKEN_BYTES + 3 * STATE_BYTES, states=True)
    insert_with_state(cache, instructions)
    for number in range(100, 110):
        assert cache.find([*instructions, *[number] * 20]).tokens == 30
        insert_with_state(cache, [*instructions, *[number] * 20])
        cache.find([number] * 20)


def test_what_a_text_goes_on_from_is_not_dropped_for_it() -> None:
    cache = PrefixCache(65 * TOKEN_BYTES + 3 * STATE_BYTES, states=True)
    texts = [[*range(20), *range(start, end)] for start, end in ((20, 40), (100, 120), (200, 240))]
    for text in texts:
        insert_with_state(cache, text)
    assert [cache.find(text).tokens for text in texts] == [0, 0, 60]


def test_a_text_that_does_not_fit_with_its_state_is_not_kept() -> None:
    for missing in (0, 1):
        cache = PrefixCache(20 * TOKEN_BYTES + STATE_BYTES - missing, states=True)
        insert_with_state(cache, list(range(20)))
        assert cache.find(list(range(20))).tokens == (0 if missing else 20)
        assert cache.bytes <= cache.budget_bytes


def common(one: Sequence[int], other: Sequence[int]) -> int:
    return next(
        (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right),
        min(len(one), len(other)),
    )
