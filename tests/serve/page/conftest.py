"""A browser that opens the page; what it complains of fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests import browser as browsers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

Visit = Callable[..., "Page"]
# That a request failed is what some tests are about, and says nothing of the page.
_OF_REQUESTS = "Failed to load resource"


# Not for the session: its event loop would be in the way of other tests' own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    path = browsers.chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=browsers.ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens the page at a URL in a browser that has kept nothing.

    ready: wait for the models. how: what Playwright's contexts take.
    """
    faults: list[str] = []
    contexts = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and _OF_REQUESTS not in message.text:
            faults.append(f"{message.type}: {message.text}")

    def visit(url: str, *, ready: bool = True, **how: Any) -> Page:
        def is_elsewhere(address: str) -> bool:
            return urlsplit(address).scheme in ("http", "https") and not address.startswith(url.split("#")[0])

        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | how)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", complain)
        page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
        page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
        page.on("request", lambda asked: faults.append(f"asks {asked.url}") if is_elsewhere(asked.url) else None)
        page.goto(url)
        if ready:
            page.locator("#model option").first.wait_for(state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not faults
