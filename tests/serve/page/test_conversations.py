"""Conversations that the browser keeps: found, named, deleted, exported, imported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serve.page import models
from tests.serve.page.conftest import Visit
from tests.serve.page.screen import button, focused, send
from tests.serve.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Download, Page

pytestmark = pytest.mark.slow

_FORMAT = b'{"format": "edgeship conversations", "conversations": [%s]}'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models.scripted) as url:
        yield url


def names(page: Page) -> list[str]:
    return page.locator("#conversations a").all_inner_texts()


def two(page: Page) -> None:
    send(page, "hello")
    button(page, "New conversation").click()
    send(page, "rich")


def test_they_outlive_the_page(visit: Visit, url: str) -> None:
    page = visit(url)
    two(page)
    assert names(page) == ["rich", "hello"]
    page.reload()
    page.get_by_role("heading", name="Kettles").wait_for()
    page.get_by_role("link", name="hello").click()
    page.locator("#log").get_by_text("Good day to you.").wait_for()


def test_they_are_found_by_what_was_said(visit: Visit, url: str) -> None:
    page = visit(url)
    two(page)
    page.get_by_label("Search conversations").fill("GOOD DAY")
    assert names(page) == ["hello"]
    page.get_by_label("Search conversations").fill("nobody said this")
    assert names(page) == []


def test_one_is_renamed(visit: Visit, url: str) -> None:
    page = visit(url)
    two(page)
    page.get_by_role("link", name="hello").hover()
    button(page, "Rename hello").click()
    page.get_by_label("Name of the conversation").fill("Greeting")
    page.keyboard.press("Enter")
    assert "Greeting" in names(page)
    assert focused(page) == "Rename Greeting"
    button(page, "Rename rich").click()
    page.get_by_label("Name of the conversation").fill("no")
    page.keyboard.press("Escape")
    assert "rich" in names(page)
    send(page, "hello")
    assert sorted(names(page)) == ["Greeting", "rich"]


def test_one_is_deleted_and_brought_back(visit: Visit, url: str) -> None:
    page = visit(url)
    two(page)
    button(page, "Delete rich").click()
    assert names(page) == ["hello"]
    assert page.locator("#log .message").count() == 0
    assert focused(page)
    button(page, "Undo").click()
    page.get_by_role("heading", name="Kettles").wait_for()
    assert sorted(names(page)) == ["hello", "rich"]


def test_a_deleted_one_is_not_brought_back_by_its_answer(visit: Visit, url: str) -> None:
    page = visit(url)
    page.get_by_label("Message to the model").fill("long")
    page.keyboard.press("Enter")
    page.locator("#log").get_by_text("word word").wait_for()
    button(page, "Delete long").click()
    send(page, "hello")
    assert names(page) == ["hello"]


def test_an_answer_goes_on_while_another_conversation_is_open(visit: Visit) -> None:
    with serving(lambda: models.scripted(delay_s=0.001)) as url:
        page = visit(url)
        page.get_by_label("Message to the model").fill("rich")
        page.keyboard.press("Enter")
        page.locator("#log").get_by_text("The").first.wait_for()
        button(page, "New conversation").click()
        assert send(page, "hello").locator(".text").inner_text() == "Good day to you."
        page.get_by_role("link", name="rich").click()
        page.locator("#log").get_by_text("Unplug it.").wait_for()


def test_no_click_is_lost_when_the_list_changes_under_it(visit: Visit) -> None:
    """A row that is pressed stays until it is let go, though another conversation moves to the top meanwhile."""
    with serving(lambda: models.scripted(delay_s=0.002)) as url:
        page = visit(url)
        send(page, "hello")
        button(page, "New conversation").click()
        send(page, "rich")
        page.get_by_role("link", name="hello").hover()
        page.mouse.down()
        page.evaluate("""() => {
            const [key, kept] = Object.entries(localStorage).find(([, value]) => value.includes("hello"));
            localStorage.setItem(key, kept.replaceAll("hello", "renamed"));
            window.dispatchEvent(new StorageEvent("storage", { key }));
        }""")
        assert page.get_by_role("link", name="hello").is_visible()
        page.mouse.up()
        page.locator("#log").get_by_text("Good day to you.").wait_for()


def test_a_page_that_is_closed_in_the_middle_keeps_what_came(visit: Visit) -> None:
    with serving(lambda: models.scripted(delay_s=0.002)) as url:
        page = visit(url)
        page.get_by_label("Message to the model").fill("long")
        page.keyboard.press("Enter")
        page.locator("#log").get_by_text("word word").wait_for()
        page.reload()
        page.get_by_role("alert").get_by_text("before the answer was complete.").wait_for()
        assert page.locator("#log").get_by_text("word").count()
        assert button(page, "Try again").is_visible()


def test_export_and_import(visit: Visit, url: str, tmp_path: Path) -> None:
    page = visit(url)
    two(page)
    exported = tmp_path / "all.json"
    saved(page, "Export all conversations as JSON").save_as(exported)
    assert len(json.loads(exported.read_text(encoding="utf-8"))["conversations"]) == 2
    markdown = tmp_path / "one.md"
    saved(page, "Export this conversation as Markdown").save_as(markdown)
    assert markdown.read_text(encoding="utf-8") == f"# rich\n\n## You\n\nrich\n\n## scripted\n\n{models.RICH}\n"
    other = visit(url)
    imported(other, exported.read_bytes())
    other.get_by_text("2 conversations were imported.").wait_for()
    assert sorted(names(other)) == ["hello", "rich"]
    other.get_by_role("link", name="hello").click()
    other.locator("#log").get_by_text("Good day to you.").wait_for()


def saved(page: Page, entry: str) -> Download:
    with page.expect_download() as download:
        button(page, "More").click()
        button(page, entry).click()
    return download.value


def imported(page: Page, content: bytes) -> None:
    with page.expect_file_chooser() as chooser:
        button(page, "More").click()
        button(page, "Import conversations").click()
    chooser.value.set_files({"name": "x.json", "mimeType": "application/json", "buffer": content})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "It is no JSON"),
        (b"[]", "It is no export of this page."),
        (_FORMAT % b"{}", "without messages"),
        (_FORMAT % b'{"nodes": [{"id": "x"}]}', "not of this page"),
        (_FORMAT % b'{"nodes": [{"id": 2, "parent": 1, "role": "user"}]}', "an answer to nothing"),
    ],
)
def test_a_file_that_is_no_export(visit: Visit, url: str, content: bytes, why: str) -> None:
    page = visit(url)
    imported(page, content)
    page.locator(".notice").get_by_text(why).wait_for()
    assert names(page) == []


def test_the_oldest_make_room(visit: Visit, url: str) -> None:
    page = visit(url)
    two(page)
    # Filled up to where a browser refuses to keep more.
    page.evaluate("""() => {
        for (const length of [100_000, 100])
            try { for (let i = 0; ; i++) localStorage.setItem(`${length} ${i}`, "x".repeat(length)) } catch {}
    }""")
    button(page, "New conversation").click()
    send(page, "hostile")
    page.locator(".notice").get_by_text("the oldest conversations were deleted").wait_for()
    assert "hello" not in names(page)
    assert "hostile" in names(page)
