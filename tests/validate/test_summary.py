from __future__ import annotations

from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from edgeship.validate.summary import MOST_BYTES, as_markdown
from edgeship.validate.verdict import CheckResult, Evidence, Finding
from tests.measure.report.page.parsed import HOSTILE
from tests.validate.samples import evidence, verdict

MARKUP = (
    HOSTILE,
    "</pre></details><script>alert(1)</script>",
    "| a | b |\n| --- | --- |\n# heading\n- item",
    "```\nfence\n~~~",
    "[link](javascript:alert(1)) ![image](https://example.com/x.png)",
    "`code` \\| \\` **bold** __x__ ~~y~~ <!-- comment",
    "\n\n<pre>\n\n> quote\n\n1. one",
    "&lt;b&gt; \u202e \x1b[31m \x00 \ud800",
    "a\rb\x85c\u2028d",
)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(MarkdownIt("commonmark").enable("table").render(text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(" ".join([tag, *(f"{name}={value}" for name, value in attrs)]))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.found.append(f"comment {data}")


def test_it_is_told() -> None:
    text = as_markdown(verdict("triage"))
    assert text.startswith("## ❌ fail: triage is not fit for release: 1 check passes, domain fails, lengths undecided")
    assert "| fail | domain | 1 of 3 fails: by-slice | by-slice | 50.0 % | 80.0 % | 12.0 s |" in text
    assert "- leaks was not made: the gate turns it off: triage" in text
    assert "**fail: domain/by-slice** Too few: triage" in text
    assert "**undecided: lengths/beside-the-original** triage What would decide: triage: 100 more cases." in text
    assert "<summary>2 of 2 kept requests that show it</summary>" in text
    assert "--replay domain/1" in text


@pytest.mark.parametrize("text", MARKUP)
def test_answers_are_no_markup(text: str) -> None:
    made = as_markdown(verdict(text))
    assert Tags(made).found == Tags(as_markdown(verdict("words"))).found
    # Readers leave out what a row has too many of.
    assert {line.count("|") for line in made.splitlines()[2:8]} == {8}


def test_there_is_an_end() -> None:
    many = tuple(
        Finding(f"n{number}", "fail", "<" * 2000, evidence=(evidence("<" * 9000),) * 9) for number in range(200)
    )
    checks = (CheckResult("edges", "Survives", many),)
    text = as_markdown(verdict(checks=checks))
    assert len(text.encode()) < MOST_BYTES + 1000
    assert text.count("<details>") == text.count("</details>") > 3
    assert "n199" not in text
    assert "more findings are in the JSON document" in text


def test_a_finding_without_evidence() -> None:
    check = CheckResult("edges", "Survives", (Finding("one", "fail", "It is so.", evidence=()),))
    assert "<details>" not in as_markdown(verdict(checks=(check,)))
    empty = Evidence("edges/1", {}, "", "")
    check = CheckResult("edges", "Survives", (Finding("one", "fail", "It is so.", evidence=(empty,)),))
    assert "<pre>evidence  edges/1" in as_markdown(verdict(checks=(check,)))
