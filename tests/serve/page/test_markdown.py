"""Markdown as the page shows it, in a browser: what becomes an element, and what stays as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.serve.page import models
from tests.serve.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

# An element as tag[its children], texts in between; what the page adds around code and tables is left out.
_OUTLINE = """async (text) => {
  const { show } = await import("/page/markdown.js");
  const outline = (node) => {
    if (node.nodeType === 3) return node.data;
    if (node.matches(".code-head")) return "";
    const inside = [...node.childNodes].map(outline).join("");
    if (node.matches("div")) return inside;
    return node.matches("a") ? `a(${node.getAttribute("href")})[${inside}]` : `${node.localName}[${inside}]`;
  };
  const element = document.createElement("div");
  show(element, text);
  return [...element.children].map(outline).join("");
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with serving(models.scripted) as url:
        page = browser.new_page()
        page.goto(url)
        yield page
        page.close()


@pytest.mark.parametrize(
    ("text", "outline"),
    [
        ("one\ntwo\n\nthree", "p[onebr[]two]p[three]"),
        ("# A\n## B ##\n####### no", "h3[A]h4[B]p[####### no]"),
        ("**bold** *it* _it_ ~~gone~~ `a*b*`", "p[strong[bold] em[it] em[it] del[gone] code[a*b*]]"),
        ("**bold with *it* inside**", "p[strong[bold with em[it] inside]]"),
        ("snake_case_name and 2 * 3 * 4", "p[snake_case_name and 2 * 3 * 4]"),
        ("**open and `open", "p[**open and `open]"),
        (r"\*not\* \`code\`", "p[*not* `code`]"),
        ("`` a ` b ``", "p[code[a ` b]]"),
        ("[x](https://a.org/b_(c)) ", "p[a(https://a.org/b_(c))[x]]"),
        ('[x](https://a.org "title")', "p[a(https://a.org/)[x]]"),
        ("see https://a.org/x_y.", "p[see a(https://a.org/x_y)[https://a.org/x_y].]"),
        ("[x](javascript:alert(1))", "p[[x](javascript:alert(1))]"),
        ("[x](JaVaScRiPt:alert(1))", "p[[x](JaVaScRiPt:alert(1))]"),
        ("[x](//a.org) [y](/page) [z](data:text/html,x)", "p[[x](//a.org) [y](/page) [z](data:text/html,x)]"),
        ("<b>no</b> &amp; <!-- -->", "p[<b>no</b> &amp; <!-- -->]"),
        ("```py\na = 1\n\n# b\n```\nafter", "pre[code[a = 1\n\n# b]]p[after]"),
        ("```\nopen **x**", "pre[code[open **x**]]"),
        ("````\n```\n````", "pre[code[```]]"),
        ("- a\n- b\n  - c\n  - d\n- e", "ul[li[a]li[bul[li[c]li[d]]]li[e]]"),
        ("1. a\n\n   more\n2. b", "ol[li[ap[more]]li[b]]"),
        ("- a\n\n- b\n\nafter", "ul[li[a]li[b]]p[after]"),
        ("- a\n  ```\n  x\n  ```", "ul[li[apre[code[x]]]]"),
        ("text\n- a\n1. b", "p[text]ul[li[a]]ol[li[b]]"),
        ("> a\n> > b\n\nc", "blockquote[p[a]blockquote[p[b]]]p[c]"),
        ("---\n***\n- - -", "hr[]hr[]hr[]"),
        ("a | b\n--|:-:\n1 | `x`\n2", "table[thead[tr[th[a]th[b]]]tbody[tr[td[1]td[code[x]]]]]p[2]"),
        ("|a|\n|-|\n|x \\| y|", "table[thead[tr[th[a]]]tbody[tr[td[x | y]]]]"),
        ("a | b\nno table", "p[a | bbr[]no table]"),
        ("", ""),
    ],
)
def test_markdown(page: Page, text: str, outline: str) -> None:
    assert page.evaluate(_OUTLINE, text) == outline


@pytest.mark.parametrize("text", ["*a " * 20_000, "[" * 20_000, "> " * 10_000 + "x", "`" * 9_999 + " x", "- " * 5_000])
def test_what_would_go_on_for_ever_does_not(page: Page, text: str) -> None:
    assert page.evaluate(_OUTLINE, text)


def test_what_did_not_change_stays_the_same_element(page: Page) -> None:
    same = """async () => {
      const { show } = await import("/page/markdown.js");
      const element = document.createElement("div");
      show(element, "one\\n\\ntwo");
      const [one, two] = element.children;
      show(element, "one\\n\\ntwo more\\n\\nthree");
      return [element.children[0] === one, element.children[1] === two, element.children.length];
    }"""
    assert page.evaluate(same) == [True, False, 3]
