"""Products of matrices, tile by tile."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgeship.builder import products
from edgeship.builder.products import TILE, in_tiles, product, subtract_product


@pytest.mark.parametrize("rows", [0, 1, TILE - 1, TILE, TILE + 1, 5 * TILE + 3])
def test_products_are_those_of_numpy(rows: int) -> None:
    random = np.random.default_rng(0)
    left = random.standard_normal((rows, 40)).astype(np.float32)
    right = random.standard_normal((40, 30)).astype(np.float32)
    target = random.standard_normal((rows, 30)).astype(np.float32)
    expected = target - left @ right
    assert np.allclose(product(left, right), left @ right, atol=1e-4)
    subtract_product(target, left, right)
    assert np.allclose(target, expected, atol=1e-4)


def tiles_on(cores: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    with monkeypatch.context() as patched:
        patched.setattr(products, "usable_cores", lambda: cores)
        products._threads.cache_clear()
        in_tiles(3 * TILE + 5, lambda rows: seen.append((rows.start, rows.stop)))
    products._threads.cache_clear()
    return sorted(seen)


def test_every_row_is_done_once_and_tiles_do_not_depend_on_who_does_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [tiles_on(cores, monkeypatch) for cores in (1, 2, 7)]
    wanted = [(start, min(start + TILE, 3 * TILE + 5)) for start in range(0, 3 * TILE + 5, TILE)]
    assert seen == [wanted] * 3


def test_a_tile_that_fails_is_told() -> None:
    done = threading.Event()

    def fail(rows: slice) -> None:
        if rows.start:
            raise MemoryError("no room")
        done.set()

    with pytest.raises(MemoryError, match="no room"):
        in_tiles(2 * TILE, fail)
    assert done.is_set()
