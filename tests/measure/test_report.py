from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgeship.errors import NotWritable
from edgeship.measure.charts import BAR_WIDTH, charts
from edgeship.measure.compare import choose
from edgeship.measure.measurement import Measurement
from edgeship.measure.report import (
    Candidate,
    Report,
    megabytes,
    render_html,
    render_markdown,
    slice_table,
    table_rows,
    write_report,
)
from edgeship.recipe import Precision
from tests.measure.samples import evaluation, fidelity, measurement, report

HOSTILE = '<script>alert("x")</script><img src=https://example.com/x.png> | `code` &amp; {{ 7 * 7 }}'
VOID = {"meta", "br", "img", "hr", "input", "link"}


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
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def bare_report() -> Report:
    """One precision, of which only size and speed are known."""
    measured = {Precision.INT4: measurement()}
    return replace(
        report(),
        candidates=(Candidate(Precision.INT4, {}, measured[Precision.INT4]),),
        choice=choose(measured, None),
        template_fidelity=None,
        commands=(),
    )


def test_the_table() -> None:
    table = table_rows(report())
    assert [row[0] for row in table.rows] == ["fp32", "fp16", "int8", "int4"]
    assert all(len(row) == len(table.header) for row in table.rows)
    int8 = dict(zip(table.header, table.rows[2], strict=True))
    assert int8 == {
        "precision": "int8",
        "size MB": "494",
        "vs FP32": "0.25",
        "memory MB": "1,976",
        "prefill tok/s": "170",
        "decode tok/s": "77.8",
        "mean KLD": "0.0021",
        "top-1 %": "100.0",
        "eval pass %": "96.2 [93.6, 97.8]",
        "holds": "yes, chosen",
    }
    assert [row[-1] for row in table.rows] == ["reference", "yes", "yes, chosen", "no"]


def test_the_table_of_what_was_not_measured() -> None:
    (row,) = table_rows(bare_report()).rows
    assert dict(zip(table_rows(bare_report()).header, row, strict=True)) == {
        "precision": "int4",
        "size MB": "0.00",
        "vs FP32": "–",
        "memory MB": "0.00",
        "prefill tok/s": "170",
        "decode tok/s": "50.0",
        "mean KLD": "–",
        "top-1 %": "–",
        "eval pass %": "–",
        "holds": "no",
    }


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(3_456_789, "3.46"), (34_567_890, "34.6"), (345_678_900, "346"), (3_456_789_000, "3,457")]
)
def test_megabytes(size_bytes: int, text: str) -> None:
    assert megabytes(size_bytes) == text


def test_slices_are_shown_where_there_are_several() -> None:
    slices = slice_table(report())
    assert slices is not None
    assert slices.header == ("slice", "cases", "fp32 %", "fp16 %", "int8 %", "int4 %")
    assert [row[:3] for row in slices.rows] == [("seen", "160", "96.9 (155)"), ("new", "160", "96.9 (155)")]
    assert slice_table(bare_report()) is None


def test_the_files(tmp_path: Path) -> None:
    made = report()
    paths = write_report(tmp_path / "new" / "report", made)
    assert sorted(path.name for path in (tmp_path / "new" / "report").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    values = json.loads(paths.json.read_text(encoding="utf-8"))
    assert values["schema_version"] == 1
    assert values["verdict"] == made.choice.verdict()
    for candidate, raw in zip(made.candidates, values["candidates"], strict=True):
        assert raw["precision"] == candidate.precision.value
        assert Measurement.from_dict(raw["measurement"]) == candidate.measurement
        # The figures can be computed again from the single answers.
        records = raw["measurement"]["evaluation"]["records"]
        assert sum(record["passed"] for record in records) == raw["measurement"]["evaluation"]["passed"]
    write_report(tmp_path / "new" / "report", made)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(NotWritable, match="the report cannot be written") as caught:
        write_report(tmp_path / "file", report())
    assert caught.value.where == str(tmp_path / "file")


def test_a_write_that_fails_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write_report(tmp_path, report())
    before = old.html.read_text(encoding="utf-8")

    def full(path: Path, *_: object, **__: object) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NotWritable, match="No space left on device"):
        write_report(tmp_path, bare_report())
    assert old.html.read_text(encoding="utf-8") == before
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("made", [report(), bare_report()], ids=["full", "bare"])
def test_the_page_stands_alone(made: Report) -> None:
    html = render_html(made)
    page = Page(html)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?://|url\(|@import", html)
    assert not {name for name, _ in page.attributes} & {"src", "href", "onclick", "onload"}
    assert "default-src 'none'" in html
    for reason in made.choice.reasons:
        assert reason in " ".join(page.text.split())


def test_hostile_texts_stay_texts() -> None:
    plain, made = report(), report(answer=HOSTILE)
    made = replace(
        made,
        name=HOSTILE,
        checkpoint={"source": HOSTILE},
        machine={"cpu": HOSTILE},
        tools={"tool": HOSTILE},
        commands=((HOSTILE, HOSTILE),),
    )
    page, unharmed = Page(render_html(made)), Page(render_html(plain))
    assert page.tags == unharmed.tags
    assert page.text.count(HOSTILE) == 1 + 1 + 12 + 3 + 2


def test_hostile_texts_do_not_break_the_markdown() -> None:
    made = replace(report(), name=HOSTILE, tools={"tool": "a\n# b"})
    text = render_markdown(made)
    assert "<script" not in text
    assert "\n# b" not in text
    assert text.startswith("# &lt;script>")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows[:6]}) == 1


def test_the_page_says_what_failed_and_what_is_next() -> None:
    text = " ".join(Page(render_html(report(answer="a wrong answer"))).text.split())
    assert "INT8, the smallest that holds" in text
    assert "Cases that INT8 fails: 12 of 320, the first 12 in full" in text
    assert text.count("a wrong answer") == 12
    assert "edgeship model run triage" in text
    assert "parameters 1,800,000" in text
    assert "symmetric yes" in text


def test_nothing_failed_is_no_section() -> None:
    perfect = measurement(evaluation=evaluation([True] * 4), fidelity=fidelity())
    made = replace(
        report(),
        candidates=(Candidate(Precision.FP32, {}, perfect), Candidate(Precision.INT4, {}, perfect)),
        choice=choose({Precision.INT4: perfect}, perfect),
    )
    assert "Cases that" not in render_html(made)


def test_charts_have_one_zero_and_one_scale() -> None:
    made = report()
    drawn = charts([(one.precision, one.measurement) for one in made.by_bits], made.choice.chosen)
    assert [chart.title for chart in drawn] == [
        "Size",
        "Decode speed",
        "Evaluation, cases passed",
        "Mean KLD from the original",
    ]
    size = drawn[0]
    assert [bar.width for bar in size.bars] == pytest.approx([BAR_WIDTH / part for part in (1, 2, 4, 8)], abs=0.1)
    assert [bar.chosen for bar in size.bars] == [False, False, True, False]
    bars = [bar for chart in drawn for bar in chart.bars]
    assert all(0 <= bar.width <= BAR_WIDTH for bar in bars)
    intervals = [(bar.low, bar.width, bar.high) for bar in bars if bar.low is not None and bar.high is not None]
    assert len(intervals) == 8
    assert all(0 <= low <= width <= high <= BAR_WIDTH for low, width, high in intervals)


def test_a_chart_of_zeros_is_drawn() -> None:
    (*_, kld) = charts([(Precision.FP32, measurement(fidelity=fidelity(0.0, 1.0)))], None)
    assert (kld.title, kld.bars[0].width) == ("Mean KLD from the original", 0.0)
