"""The page for people who see it small, dark or not at all, and for those who use no mouse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import CONTRASTS
from tests.serve.page import models
from tests.serve.page.conftest import Visit
from tests.serve.page.screen import answers, button, ended, focused, send
from tests.serve.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

# What a screen reader could not name, ids that are there twice, pictures without a text.
_NAMELESS = """() => {
  const name = (e) => e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent.trim() || e.value;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const controls = all("a, button, input, select, textarea, summary, [role=region], [role=img]");
  const ids = all("[id]").map((e) => e.id);
  const meant = (e) => [e.getAttribute("aria-describedby"), e.getAttribute("aria-controls"), e.htmlFor];
  return [
    ...controls.filter((e) => !name(e)).map((e) => e.outerHTML),
    ...ids.filter((id, index) => ids.indexOf(id) !== index),
    ...all("img:not([alt]), svg:not([aria-hidden], [role=img])").map((e) => e.outerHTML),
    ...all("[aria-describedby], [aria-controls], label[for]").flatMap(meant).filter((id) => id && !ids.includes(id)),
  ];
}"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda: models.scripted(delay_s=0.001)) as url:
        yield url


def full(page: Page) -> None:
    """Something of everything."""
    send(page, "think")
    page.locator(".message.assistant summary").click()
    send(page, "rich")
    button(page, "Answer again").last.click()
    ended(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_text_can_be_read(visit: Visit, url: str, scheme: Any, width: int) -> None:
    page = visit(url, color_scheme=scheme, viewport={"width": width, "height": 740})
    full(page)
    if width > 1000:
        button(page, "Settings").click()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 15
    assert [text for text in found if text[1] < 4.5] == []


@pytest.mark.parametrize("view", ["chat", "model"])
def test_a_narrow_screen_shows_all_without_moving_sideways(visit: Visit, url: str, view: str) -> None:
    page = visit(url, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    full(page)
    page.get_by_label("Message to the model").focus()
    page.keyboard.press("Enter")
    assert page.get_by_label("Message to the model").input_value() == "\n"
    if view == "model":
        page.get_by_role("link", name="Model").click()
        page.get_by_role("heading", name="Now").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    outside = "e => e.filter(x => x.getBoundingClientRect().right > 361).map(x => x.outerHTML)"
    shown = page.locator("button:visible, select:visible, textarea:visible, .message:visible")
    assert shown.evaluate_all(f"e => ({outside})(e.filter(x => !x.closest('#shelf')))") == []
    button(page, "Conversations").click()
    assert page.get_by_label("Search conversations").is_visible()
    page.keyboard.press("Escape")
    assert focused(page) == "Conversations"
    page.get_by_label("Search conversations").wait_for(state="hidden")


def test_everything_has_a_name(visit: Visit, url: str) -> None:
    page = visit(url)
    full(page)
    button(page, "Settings").click()
    assert page.evaluate(_NAMELESS) == []
    page.get_by_role("link", name="Model").click()
    page.get_by_role("heading", name="Now").wait_for()
    assert page.evaluate(_NAMELESS) == []
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["scripted"]
    assert page.locator("html").get_attribute("lang") == "en"
    for role, name in (("navigation", "Conversations"), ("main", "About the model"), ("complementary", "Settings")):
        assert page.get_by_role(role, name=name).count() == 1  # type: ignore[arg-type]


def test_answers_are_heard(visit: Visit, url: str) -> None:
    page = visit(url)
    heard = page.locator("#heard")
    assert heard.get_attribute("aria-live") == "polite"
    send(page, "rich")
    said = heard.locator("p").all_inner_texts()
    assert said[:3] == ["The model is answering.", "Kettles", "The S-1 leaks at the lid, in three ways:"]
    assert said[-1] == "Unplug it."
    assert len(said) == len(set(said))


def test_the_theme_is_chosen_and_kept(visit: Visit, url: str) -> None:
    page = visit(url, color_scheme="light")
    dark = "getComputedStyle(document.body).backgroundColor === 'rgb(18, 22, 27)'"
    assert not page.evaluate(dark)
    button(page, "Theme: system").click()
    button(page, "Theme: light").click()
    assert page.evaluate(dark)
    page.reload()
    button(page, "Theme: dark").wait_for()
    assert page.evaluate(dark)


def test_nothing_moves_for_who_wants_no_motion(visit: Visit, url: str) -> None:
    page = visit(url, reduced_motion="reduce")
    page.get_by_label("Message to the model").fill("long")
    page.keyboard.press("Enter")
    page.locator("#log").get_by_text("word word").wait_for()
    assert page.evaluate("document.getAnimations().length") == 0
    page.keyboard.press("Escape")


def test_all_is_done_with_the_keyboard(visit: Visit, url: str) -> None:
    page = visit(url)
    press = page.keyboard.press
    assert focused(page) == "question"
    page.keyboard.type("he")
    press("Shift+Enter")
    press("Backspace")
    page.keyboard.type("llo")
    press("Enter")
    page.locator("#log").get_by_text("Good day to you.").wait_for()
    ended(page)
    press("Alt+r")
    page.get_by_text("2 / 2").wait_for()
    ended(page)
    press("Alt+s")
    assert focused(page) == "set-system"
    press("Escape")
    assert focused(page).startswith("Settings")
    press("Alt+m")
    page.get_by_role("heading", name="Now").wait_for()
    assert focused(page) == "about"
    press("Alt+m")
    page.locator("#log").wait_for()
    press("Alt+f")
    assert focused(page) == "search"
    press("Tab")
    assert focused(page).startswith("hello") or focused(page) == "hello"
    press("Alt+n")
    assert focused(page) == "question"
    assert page.locator("#log .message").count() == 0
    press("Alt+k")
    page.get_by_role("dialog", name="Keys").wait_for()
    press("Escape")
    page.get_by_role("dialog", name="Keys").wait_for(state="detached")
    assert focused(page)


def test_each_stop_of_the_tab_key_is_seen(visit: Visit, url: str) -> None:
    page = visit(url)
    full(page)
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        if name := focused(page):
            seen.add(name)
            assert page.evaluate("document.activeElement.checkVisibility({ visibilityProperty: true })"), name
    assert {"search", "model", "Edit", "Answer again", "question", "Send", "Copy code", "New conversation"} <= seen


def test_the_way_to_the_question_is_short(visit: Visit, url: str) -> None:
    page = visit(url)
    page.locator("#skip").focus()
    assert page.locator("#skip").bounding_box()["y"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    page.locator("#question:focus").wait_for()


def test_who_reads_further_up_is_left_there(visit: Visit, url: str) -> None:
    page = visit(url)
    send(page, "rich")
    page.get_by_label("Message to the model").fill("long")
    page.keyboard.press("Enter")
    answers(page).nth(1).get_by_text("word " * 60).wait_for()
    scroll = page.locator("#scroll")
    scroll.evaluate("e => e.scrollTop = 0")
    button(page, "To the end").wait_for()
    page.wait_for_timeout(300)
    assert scroll.evaluate("e => e.scrollTop") == 0
    button(page, "To the end").click()
    assert scroll.evaluate("e => e.scrollTop") > 0
    page.keyboard.press("Escape")
