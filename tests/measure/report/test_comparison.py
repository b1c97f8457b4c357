from __future__ import annotations

from dataclasses import replace

from edgeship.engine.api import Constraint
from edgeship.measure.choice.choose import Thresholds, choose
from edgeship.measure.report.comparison import busy, failing, fp32_passes, headline, slice_table, table_rows
from edgeship.measure.report.markdown import render_markdown
from edgeship.measure.report.page import ship
from edgeship.measure.report.page.rendering import render
from tests.measure.samples import bare_report, evaluation, measurement, report


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
    assert '<div class="verdict undecided"' in render(ship.page(made))
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


def test_recipes_of_one_precision_stand_side_by_side() -> None:
    made = report()
    fp32, _, _, int4 = made.candidates
    several = [
        replace(int4, label=f"int4-{name}", measurement=measurement(size)) for name, size in (("a", 3), ("b", 5))
    ]
    made = replace(made, candidates=(*several, fp32))
    assert [row[0] for row in table_rows(made).rows] == ["fp32", "int4-b", "int4-a"]


def test_what_was_known_beforehand_is_told() -> None:
    noted = replace(report(), remarks=("a few texts are left out", "the weights are pickles"))
    assert "- **Notes.** a few texts are left out; the weights are pickles." in render_markdown(noted)
    assert noted.to_dict()["remarks"] == ("a few texts are left out", "the weights are pickles")
    assert "Notes" not in render_markdown(report())


def test_what_answers_were_held_to_is_in_every_form() -> None:
    held = replace(report(), constraint=Constraint("json_schema", '{"type": "object"}'))
    for text in (render_markdown(held), render(ship.page(held))):
        assert "held to a JSON schema" in text
    assert held.to_dict()["constraint"]["text"] == '{"type": "object"}'
    assert "held to" not in render_markdown(report())


def test_figures_that_were_taken_beside_other_programs_are_told() -> None:
    quiet = report()
    assert busy(quiet) is None
    first = quiet.candidates[0]
    loud = replace(first, measurement=replace(first.measurement, busy=0.4))
    found = replace(quiet, candidates=(loud, *quiet.candidates[1:]))
    for text in (busy(found) or "", render_markdown(found), render(ship.page(found))):
        assert "ther programs used much of the cores while these were measured: fp32 (40%);" in text
