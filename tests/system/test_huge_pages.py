"""Huge pages: which memory is meant, and that its content stays."""

from __future__ import annotations

import sys

import pytest

from edgeship.errors import UsageError
from edgeship.system import huge_pages
from edgeship.system.huge_pages import PAGE_BYTES, added
from edgeship.system.memory import zero_pages

MB2 = PAGE_BYTES
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its pages")


def test_a_new_region_counts_in_whole_huge_pages() -> None:
    assert added([], [(MB2 + 1, 4 * MB2 - 1)]) == [(2 * MB2, 3 * MB2)]


def test_a_region_that_was_there_does_not_count() -> None:
    assert added([(0, 4 * MB2)], [(0, 4 * MB2)]) == []


def test_of_a_region_that_grew_only_what_came_counts() -> None:
    assert added([(2 * MB2, 4 * MB2)], [(MB2, 6 * MB2)]) == [(MB2, 2 * MB2), (4 * MB2, 6 * MB2)]


def test_between_two_regions_that_became_one_only_the_gap_counts() -> None:
    before = [(4 * MB2, 5 * MB2), (MB2, 2 * MB2)]
    assert added(before, [(MB2, 6 * MB2)]) == [(2 * MB2, 4 * MB2), (5 * MB2, 6 * MB2)]


def test_less_than_a_huge_page_is_nothing() -> None:
    assert added([], [(4096, 4096 + MB2)]) == []


@linux_only
def test_memory_in_huge_pages_keeps_its_content() -> None:
    before = huge_pages.regions()
    content = bytes(range(256)) * (MB2 // 64)
    memory = zero_pages(len(content))
    memory[:] = content
    wanted = added(before, huge_pages.regions())
    assert sum(end - first for first, end in wanted) >= len(content) - 2 * MB2
    made = list(huge_pages.collapse(wanted))
    assert made
    assert memory[:] == content


@linux_only
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert huge_pages.regions()
    monkeypatch.setenv(huge_pages.VARIABLE, "0")
    assert huge_pages.regions() == []


def test_a_value_that_says_neither_yes_nor_no_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(huge_pages.VARIABLE, "off")
    with pytest.raises(UsageError, match=f"{huge_pages.VARIABLE} is 'off'; it must be 0 or 1"):
        huge_pages.regions()


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert huge_pages.regions() == []
    assert list(huge_pages.collapse([])) == []
