"""A page as HTML. Jinja escapes every text, and the page itself forbids whatever is not in it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.measure.report.page.blocks import Page
from edgeship.system.text import harmless

if TYPE_CHECKING:
    import jinja2

MOST_CHARACTERS = 1500
"""Of a text that a model or a user wrote: a page of endless answers would be read by nobody."""
MOST_OF_A_CELL = 120


def render(page: Page) -> str:
    """The file's text."""
    return _environment().get_template("page.html.jinja").render(page=page)


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_bounded,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["cell"] = lambda text: cut(text, MOST_OF_A_CELL)
    return made


def _bounded(value: Any) -> Any:
    # What has a type of its own is the page's, not a text in it.
    # What would turn the direction of a line, or is no character of a page, is written out.
    return harmless(cut(value, MOST_CHARACTERS)) if type(value) is str else value


def cut(text: str, most: int) -> str:
    """A text that is no longer than it may be, with what is missing said."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters)"
