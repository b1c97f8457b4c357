"""What models, users and files write is shown, and never run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.serve.page import models
from tests.serve.page.conftest import Visit
from tests.serve.page.screen import button, send
from tests.serve.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

# What may stand in a message: anything else would be an element that its text asked for.
_OURS = "p, h3, h4, h5, h6, hr, ul, ol, li, blockquote, pre, code, strong, em, del, a, br, div, span, button, svg, path, table, thead, tbody, tr, th, td"  # noqa: E501 - one selector


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models.scripted) as url:
        yield url


def test_hostile_markup_stays_text(visit: Visit, url: str) -> None:
    page = visit(url)  # a dialog, a request elsewhere or a violation of the policy fails the test
    text = send(page, "hostile").locator(".text")
    assert text.locator(f":not({_OURS})").count() == 0
    for shown in ("onerror=", "<script>alert(2)</script>", "<b>bold</b>", "javascript:alert(3)", "<svg onload"):
        assert shown in text.inner_text()
    links = text.locator("a").evaluate_all("links => links.map(link => [link.href, link.rel])")
    assert {rel for _, rel in links} == {"noopener noreferrer nofollow"}
    assert {address.split(":")[0] for address, _ in links} == {"http"}


def test_hostile_questions_names_and_settings_stay_text(visit: Visit, url: str) -> None:
    page = visit(url)
    attack = "<img src=x onerror=alert(1)>"
    button(page, "Settings").click()
    page.get_by_label("System prompt").fill(attack)
    send(page, attack)
    assert page.locator(".bubble").inner_text() == attack
    assert page.locator("#conversations a").inner_text() == attack
    assert page.title() == f"{attack} · Edgeship"


def test_a_hostile_import_is_refused_or_shown_as_text(visit: Visit, url: str) -> None:
    page = visit(url)
    attack = "<img src=x onerror=alert(1)>"
    node = {
        "id": 1,
        "parent": None,
        "role": "assistant",
        "content": attack,
        "model": attack,
        "calls": [{"name": attack}],
    }
    hostile = {"format": "edgeship conversations", "conversations": [{"title": attack, "nodes": [node], "leaf": 1}]}
    with page.expect_file_chooser() as chooser:
        button(page, "More").click()
        button(page, "Import conversations").click()
    chooser.value.set_files({"name": "x.json", "mimeType": "application/json", "buffer": json.dumps(hostile).encode()})
    page.locator("#conversations a").click()
    assert page.locator("#log .text").inner_text() == attack
    assert page.locator("#log img").count() == 0


def test_the_policy_holds(browser: Browser, url: str) -> None:
    """Were there a hole in the page, the browser would still not run what comes through it."""
    page = browser.new_page()
    page.goto(url)
    refused = page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; return 'done' } catch (error) { return error.name } }"
    )
    assert refused == "TypeError"
    page.evaluate(
        "try { const script = document.createElement('script'); script.src = 'data:text/javascript,window.ran=1';"
        "document.body.append(script) } catch {}"
    )
    assert page.evaluate("window.ran") is None
    page.close()
