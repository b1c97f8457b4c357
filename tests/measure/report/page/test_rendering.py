from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship.measure.report.charts.shapes import Box, Chart, Dot, Path, Shape, Stroke, Words
from edgeship.measure.report.page.blocks import (
    Case,
    Cases,
    Facts,
    Page,
    Part,
    Passage,
    Pictures,
    Rows,
    Section,
    Sentences,
    Verdict,
)
from edgeship.measure.report.page.rendering import MOST_CHARACTERS, MOST_OF_A_CELL, cut, render
from edgeship.measure.report.tables import Table
from tests.measure.report.page import parsed

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("<>&\"'`{}%#"), max_size=50)


def page(text: str, parts: int = 1) -> Page:
    """With everything that there is, and this text in every place that holds one."""
    shapes: tuple[Shape, ...] = (
        Stroke(0, 0, 1, 1, "grid"),
        Box(0, 0, 1, 1, "bar", text),
        Dot(0, 0, "dot", text),
        Words(0, 0, text),
        Path(((0, 0), (1, 1)), "line s0"),
        Path(((0, 0), (1, 1), (2, 0)), "band s0"),
    )
    blocks = (
        Rows(text, Table((text, text), ((text, text), (text, text))), text),
        Pictures((Chart(text, text, text, 10, shapes, (("s0", text),)),)),
        Facts(((text, text),)),
        Facts(((text, text),), commands=True),
        Sentences((text,)),
        Sentences((text,), warns=True),
        Cases(text, (Case(text, text, ((text, text),), Passage(text, text, text), serious=True),)),
    )
    told = Part(text, text, (Section(text, blocks),), Verdict(text, "undecided", (text,)))
    return Page(text, (told,) * parts, text)


@settings(deadline=None)
@given(TEXTS)
def test_whatever_a_text_holds_it_stays_a_text(text: str) -> None:
    made, plain = parsed.Page(render(page(f"x{text}x"))), parsed.Page(render(page("words")))
    assert made.tags == plain.tags
    assert [name for name, _ in made.attributes] == [name for name, _ in plain.attributes]
    assert made.text.count(f"x{text}x") >= plain.text.count("words") > 25
    assert ("aria-label", f"x{text}x") in made.attributes


@pytest.mark.parametrize("parts", [1, 2])
def test_every_element_is_closed_and_every_id_is_of_one(parts: int) -> None:
    made = parsed.Page(render(page("words", parts)))
    assert made.open == []
    ids = [value for name, value in made.attributes if name == "id"]
    assert len(ids) == len(set(ids)) == 2 * parts


def test_a_long_text_is_cut_and_a_long_line_is_not() -> None:
    long = "x" * (MOST_CHARACTERS + 1234)
    html = render(Page("long", (Part(long, "", (Section("a", (Rows("b", Table((long,), ((long,),))),)),)),)))
    assert f"<h1>{'x' * MOST_CHARACTERS} … (1,234 more characters)</h1>" in html
    assert f">{'x' * MOST_OF_A_CELL} … ({len(long) - MOST_OF_A_CELL:,} more characters)</th>" in html
    points = tuple((float(place), 1.5) for place in range(1000))
    chart = Chart("c", "", "", 10, (Path(points, "line s0"),))
    assert "999.0,1.5 " in render(Page("line", (Part("a", "", (Section("a", (Pictures((chart,)),)),)),)))


def test_what_is_cut_says_so() -> None:
    assert cut("12345", 5) == "12345"
    assert cut("123456789", 5) == "12345 … (4 more characters)"


@pytest.mark.parametrize("state", ["holds", "fails", "undecided"])
def test_a_verdict_looks_like_what_it_says(state: str) -> None:
    told = Part("a", "b", (), Verdict("said", state, ("why",)))  # type: ignore[arg-type]
    assert f'<div class="verdict {state}"' in render(Page("a", (told,)))
