"""What the tests do on the page, as a user does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Request


def send(page: Page, text: str) -> Locator:
    """Asks, and waits for the answer to end: the message that it is."""
    before = answers(page).count()
    page.get_by_label("Message to the model").fill(text)
    button(page, "Send").click()
    found = answers(page).nth(before)
    ended(page)
    return found


def answers(page: Page) -> Locator:
    """The model's messages, from above."""
    return page.locator(".message.assistant")


def ended(page: Page) -> None:
    """Waits for the end of what is being answered."""
    page.locator('#log[aria-busy="false"] .message.assistant').first.wait_for()


def focused(page: Page) -> str:
    """What has the focus: its id, or its name; nothing where the focus is lost."""
    script = "(e => e === document.body ? '' : e.id || e.getAttribute('aria-label') || e.textContent)"
    return str(page.evaluate(f"{script}(document.activeElement)"))


def button(page: Page | Locator, name: str) -> Locator:
    """A button by what it is called."""
    return page.get_by_role("button", name=name, exact=True)


def body_of(request: Request) -> dict[str, Any]:
    """What the page has sent."""
    body: dict[str, Any] = request.post_data_json or {}
    return body
