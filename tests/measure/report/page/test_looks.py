"""The page in a browser: small, dark, printed, and without a complaint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeship.measure.report.page import documents
from edgeship.measure.report.page.rendering import render
from tests import browser as browsers
from tests.measure.report.page import samples

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

KINDS = (samples.bench, samples.evaluation, samples.fidelity, samples.verdict)
LONG = "a-name-without-any-place-to-break-it-" * 4
# Texts of pictures that leave it; pictures are as wide as the page, so these would be cut off.
_OUTSIDE = """() => [...document.querySelectorAll("figure > svg text")].filter((text) => {
  const [own, all] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
  return own.left < all.left - 4 || own.right > all.right + 4;
}).map((text) => text.textContent)"""
# A document has all of what it holds on a page, whatever size the browser takes for it.
_FOLDED = "() => [...document.querySelectorAll('details .case')].filter((e) => !e.checkVisibility()).length"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something of everything, with names that are hard to find room for."""
    folder = tmp_path_factory.mktemp("page")
    made = [kind(created=day) for kind in KINDS for day in ("1", "2")]
    made += [samples.shipped(), samples.bench(LONG), samples.evaluation(LONG), samples.fidelity(LONG)]
    made.append(samples.verdict(LONG))
    found = [samples.kept(folder, f"run-{number}", values) for number, values in enumerate(made)]
    path = folder / "page.html"
    path.write_text(render(documents.page(found)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    path = browsers.chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=browsers.ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Browser, file: Path) -> Iterator[Callable[..., Page]]:
    """Opens the page; whatever the browser complains of or asks for fails the test. how: as Playwright takes it."""
    faults: list[str] = []
    contexts = []

    def visit(**how: Any) -> Page:
        context = browser.new_context(**how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: faults.append(asked.url) if asked.url != file.as_uri() else None)
        page.goto(file.as_uri())
        for summary in page.locator("summary").all():
            summary.click()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_and_has_its_room(visit: Callable[..., Page], scheme: str) -> None:
    page = visit(color_scheme=scheme, viewport={"width": 1200, "height": 800})
    found = page.evaluate(browsers.CONTRASTS)
    assert len(found) > 300
    assert [text for text in found if text[1] < 4.5] == []
    assert page.evaluate(_OUTSIDE) == []


def test_a_phone_shows_all_without_moving_sideways(visit: Callable[..., Page]) -> None:
    page = visit(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    wide = "e => e.filter(x => x.getBoundingClientRect().right > 361).map(x => x.outerHTML.slice(0, 80))"
    assert page.locator("h1, h2, h3, p, dd, li, figure, svg, .scroll, .case, .verdict").evaluate_all(wide) == []
    assert page.evaluate(_OUTSIDE) == []
    # Wide tables move by themselves, by keys too.
    assert page.locator(".scroll").evaluate_all("e => e.every(x => x.tabIndex === 0)")


def test_what_is_folded_is_printed_and_in_dark_colours_on_white(visit: Callable[..., Page]) -> None:
    page = visit(color_scheme="dark")
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate(_FOLDED) > 0
    page.emulate_media(media="print")
    assert page.evaluate(_FOLDED) == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [text for text in page.evaluate(browsers.CONTRASTS) if text[1] < 4.5] == []


def test_headings_and_pictures_have_names(visit: Callable[..., Page]) -> None:
    page = visit()
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["13 measurements"]
    pictures = page.get_by_role("img").evaluate_all("e => e.map(x => [x.querySelector('title').textContent, x.id])")
    assert len(pictures) > 15
    assert page.get_by_role("img", name="Time to first token", exact=True).count() > 0
    assert page.get_by_role("table", name="Each load").count() > 0
