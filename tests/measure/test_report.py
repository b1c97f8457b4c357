from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgeship.engine.api import Constraint
from edgeship.errors import NotWritable
from edgeship.measure.charts import BAR_WIDTH, charts
from edgeship.measure.compare import Thresholds, choose
from edgeship.measure.measurement import Measurement
from edgeship.measure.report import (
    Candidate,
    Report,
    busy,
    failing,
    fp32_passes,
    headline,
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
    return replace(
        report(),
        candidates=(Candidate("int4", Precision.INT4, {}, measurement()),),
        choice=choose({"int4": measurement()}, None),
        reference=None,
        template_fidelity=None,
        commands=(),
    )


def test_the_table() -> None:
    table = table_rows(report())
    assert [row[0] for row in table.rows] == ["fp32", "fp16", "int8", "int4"]
    assert all(len(row) == len(table.header) for row in table.rows)
    int8 = dict(zip(table.header, table.rows[2], strict=True))
    assert int8 == {
        "recipe": "int8",
        "size": "494 MB",
        "vs FP32": "0.25",
        "memory": "1,976 MB",
        "prefill tok/s": "170",
        "decode tok/s": "77.8",
        "mean KLD": "0.0021",
        "top-1 %": "100.0",
        "eval pass %": "96.2 [93.6, 97.8]",
        "front": "yes",
        "holds": "yes, chosen",
    }
    assert [row[-1] for row in table.rows] == ["baseline", "yes", "yes, chosen", "no"]


def test_the_table_of_what_was_not_measured() -> None:
    (row,) = table_rows(bare_report()).rows
    assert dict(zip(table_rows(bare_report()).header, row, strict=True)) == {
        "recipe": "int4",
        "size": "0.00 MB",
        "vs FP32": "–",
        "memory": "0.00 MB",
        "prefill tok/s": "170",
        "decode tok/s": "50.0",
        "mean KLD": "–",
        "top-1 %": "–",
        "eval pass %": "–",
        "front": "yes",
        "holds": "no",
    }


def test_what_is_undecided_is_marked() -> None:
    made = report()
    fp32, fp16, int8, int4 = (found.measurement for found in made.candidates)
    strict = Thresholds(max_drop=0.01)
    made = replace(made, choice=choose({"fp16": fp16, "int8": int8, "int4": int4}, fp32, strict))
    assert [row[-1] for row in table_rows(made).rows] == ["baseline", "yes", "undecided, chosen", "no"]
    assert headline(made) == "INT8, the smallest that may hold: undecided"
    assert '<section class="verdict"' in render_html(made)
    refused = replace(made, choice=choose({"int8": int8}, fp32, strict, "refuse"))
    assert headline(refused) == "no candidate is shown to hold"
    assert made.to_dict()["verdict"]["outcome"] == "undecided"


def test_the_front_is_kept_with_the_report() -> None:
    assert report().to_dict()["front"] == ["fp16", "int8", "int4"]


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
        assert (raw["label"], raw["precision"]) == (candidate.label, candidate.precision.value)
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

    monkeypatch.setattr(Path, "write_bytes", full)
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
    # The ten that FP32 fails as well, and the two that it passes.
    assert (text.count("helloyesa wrong answerfails"), text.count("helloyesa wrong answerpasses")) == (10, 2)
    assert "edgeship model run triage" in text
    assert "parameters 1,800,000" in text
    assert "symmetric yes" in text


def test_without_a_chosen_one_what_lost_most_against_fp32_is_shown() -> None:
    made = report()
    fp32, fp16, *_ = made.candidates
    good, bad = evaluation([True] * 50), evaluation([False] * 20 + [True] * 30)
    candidates = (
        replace(fp32, measurement=replace(fp32.measurement, evaluation=good)),
        replace(fp16, measurement=replace(fp16.measurement, evaluation=bad)),
    )
    measured = {one.label: one.measurement for one in candidates}
    lost = replace(made, candidates=candidates, choice=choose({"fp16": measured["fp16"]}, measured["fp32"]))
    assert failing(lost) is candidates[1]
    assert fp32_passes(lost) == frozenset(f"case{index}" for index in range(50))
    at_fault = replace(made, candidates=candidates[:1], choice=choose({"fp32": measured["fp32"]}, None))
    assert failing(at_fault) is None


def test_nothing_failed_is_no_section() -> None:
    perfect = measurement(evaluation=evaluation([True] * 4), fidelity=fidelity())
    made = replace(
        report(),
        candidates=(Candidate("fp32", Precision.FP32, {}, perfect), Candidate("int4", Precision.INT4, {}, perfect)),
        choice=choose({"int4": perfect}, perfect),
    )
    assert "Cases that" not in render_html(made)


def test_charts_have_one_zero_and_one_scale() -> None:
    made = report()
    drawn = charts([(one.label, one.measurement) for one in made.by_size], made.choice.chosen, made.reference)
    assert [chart.title for chart in drawn] == [
        "Size",
        "Decode speed",
        "Evaluation, cases passed",
        "Mean KLD from the checkpoint in transformers",
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
    (*_, kld) = charts([("fp32", measurement(fidelity=fidelity(0.0, 1.0)))], None)
    assert (kld.title, kld.bars[0].width) == ("Mean KLD from the reference", 0.0)


@pytest.mark.parametrize("reference", ["the checkpoint in transformers", "its FP32 build"])
def test_every_form_says_what_agreement_was_measured_with(reference: str, tmp_path: Path) -> None:
    paths = write_report(tmp_path, replace(report(), reference=reference))
    assert json.loads(paths.json.read_text(encoding="utf-8"))["reference"] == reference
    assert f"**Reference.** What agreement is measured with: {reference}" in paths.markdown.read_text(encoding="utf-8")
    html = paths.html.read_text(encoding="utf-8")
    assert f"Mean KLD from {reference}" in html
    assert f"<dt>Reference</dt><dd>{reference}</dd>" in html


def test_recipes_of_one_precision_stand_side_by_side() -> None:
    made = report()
    fp32, _, _, int4 = made.candidates
    several = [
        replace(int4, label=f"int4-{name}", measurement=measurement(size)) for name, size in (("a", 3), ("b", 5))
    ]
    made = replace(made, candidates=(*several, fp32))
    assert [row[0] for row in table_rows(made).rows] == ["fp32", "int4-b", "int4-a"]
    # A long label moves the bars to the right, and none of it out of the picture.
    (size, *_) = charts([("int4-a-long-name", measurement())], None)
    assert size.label_width > 100
    assert "INT4-B" in Page(render_html(made)).text


def test_what_was_known_beforehand_is_told() -> None:
    noted = replace(report(), remarks=("a few texts are left out", "the weights are pickles"))
    assert "- **Notes.** a few texts are left out; the weights are pickles." in render_markdown(noted)
    assert noted.to_dict()["remarks"] == ("a few texts are left out", "the weights are pickles")
    assert "Notes" not in render_markdown(report())


def test_what_answers_were_held_to_is_in_every_form() -> None:
    held = replace(report(), constraint=Constraint("json_schema", '{"type": "object"}'))
    for text in (render_markdown(held), render_html(held)):
        assert "held to a JSON schema" in text
    assert held.to_dict()["constraint"]["text"] == '{"type": "object"}'
    assert "held to" not in render_markdown(report())


def test_figures_that_were_taken_beside_other_programs_are_told() -> None:
    quiet = report()
    assert busy(quiet) is None
    first = quiet.candidates[0]
    loud = replace(first, measurement=replace(first.measurement, busy=0.4))
    found = replace(quiet, candidates=(loud, *quiet.candidates[1:]))
    for text in (busy(found) or "", render_markdown(found), render_html(found)):
        assert "ther programs used much of the cores while these were measured: fp32 (40%);" in text
