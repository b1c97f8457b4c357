"""A page as a parser of HTML sees it."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = '<script>alert("x")</script><img src=https://example.com/x.png> | `code` &amp; {{ 7 * 7 }}'
_VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """Collects a page's tags and text, and checks that every element is closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    @property
    def words(self) -> str:
        """The text on one line."""
        return " ".join(self.text.split())
