from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship.measure import document
from edgeship.measure.agreement.worst_tokens import Wanted, WorstToken
from edgeship.measure.choice.choose import choose
from edgeship.measure.report.comparison import Candidate, Report
from edgeship.measure.report.files import write_report
from edgeship.measure.report.page import documents, ship
from edgeship.measure.report.page.blocks import Pictures, Verdict
from edgeship.measure.report.page.rendering import render
from edgeship.recipe import Precision
from tests.measure.report.page.parsed import HOSTILE, Page
from tests.measure.samples import bare_report, evaluation, fidelity, measurement, report


def shown(made: Report) -> Page:
    return Page(render(ship.page(made)))


def hostile() -> Report:
    return replace(
        report(answer=HOSTILE),
        name=HOSTILE,
        checkpoint={"source": HOSTILE},
        machine={"cpu": HOSTILE},
        tools={"tool": HOSTILE},
        commands=((HOSTILE, HOSTILE),),
    )


def test_hostile_texts_stay_texts() -> None:
    page = shown(hostile())
    assert page.tags == shown(report()).tags
    # The title and the heading, twelve answers and FP32's ten, three facts, and a command with its name.
    assert page.text.count(HOSTILE) == 2 + 12 + 10 + 3 + 2


def test_the_page_says_what_failed_and_what_is_next() -> None:
    text = shown(report(answer="a wrong answer")).words
    assert "INT8, the smallest that holds" in text
    assert "Cases that INT8 fails: 12 of 320, 12 of them in full" in text
    assert len(re.findall(r"(?<!FP32's) answera wrong answer", text)) == 12
    assert "edgeship model run triage" in text
    assert "parameters 1,800,000" in text
    assert "symmetric yes" in text


def test_cases_that_fp32_passes_stand_first_with_its_answer() -> None:
    text = shown(report(answer="a wrong answer")).words
    cases = text[text.index("Cases that INT8 fails") :]
    assert re.findall(r"(case\d+) FP32 (passes it|fails it too)", cases)[:3] == [
        ("case10", "passes it"),
        ("case11", "passes it"),
        ("case0", "fails it too"),
    ]
    assert "case10 FP32 passes it questionhello expectedyes answera wrong answer FP32's answeryes" in cases


def test_nothing_failed_is_no_section() -> None:
    perfect = measurement(evaluation=evaluation([True] * 4), fidelity=fidelity())
    made = replace(
        report(),
        candidates=(Candidate("fp32", Precision.FP32, {}, perfect), Candidate("int4", Precision.INT4, {}, perfect)),
        choice=choose({"int4": perfect}, perfect),
    )
    assert "What fails" not in shown(made).text


def test_what_is_known_of_one_precision_is_told_without_the_rest() -> None:
    page = shown(bare_report())
    assert page.open == []
    titles = {one.title for one in ship.part(bare_report()).sections}
    assert titles == {"Side by side", "What was measured, and where", "What to try", "How it was measured"}


def test_every_measure_has_its_chart() -> None:
    made = ship.part(report())
    titles = [
        chart.title
        for one in made.sections
        for block in one.blocks
        if isinstance(block, Pictures)
        for chart in block.charts
    ]
    assert titles[:4] == [
        "Size",
        "Decode speed",
        "Evaluation, cases passed",
        "Mean KLD from the checkpoint in transformers",
    ]
    assert titles[4:8] == [
        "Fidelity over size",
        "Fidelity over speed",
        "Cases passed over size",
        "Cases passed over speed",
    ]
    assert titles[8:] == ["FP32", "FP16", "INT8", "INT4"]


def test_where_candidates_stray_is_told_in_what_stands_before() -> None:
    wanted = (Wanted(1, " yes", 0.9), Wanted(2, " no", 0.1))
    strays = WorstToken(0, 6, 2.5, "Is it", wanted[0], 0.1, wanted, wanted[::-1])
    hardly = replace(strays, kld_nats=1e-9)
    made = report()
    candidates = tuple(
        replace(one, measurement=replace(one.measurement, worst_tokens=(strays if one.label == "int4" else hardly,)))
        for one in made.candidates
    )
    text = shown(replace(made, candidates=candidates)).words
    assert "INT4: the 1 tokens of largest KLD" in text
    assert "FP16: the" not in text
    assert "1. 2.5000 nats text 1, token 7 Is it yes" in text
    assert "' no' 10.0 %" in text


def test_a_verdict_that_chance_may_have_made_is_undecided_and_what_to_try_is_told() -> None:
    assert ship.part(report()).verdict == Verdict("INT8, the smallest that holds", "holds", report().choice.reasons)
    told = ship.part(bare_report())
    assert told.verdict is not None
    assert told.verdict.state == "fails"
    assert "What to try An evaluation: how often answers are right" in shown(bare_report()).words
    measured = measurement(evaluation=evaluation([True] * 9 + [False]))
    few = replace(
        report(),
        candidates=(Candidate("int4", Precision.INT4, {}, measured),),
        choice=choose({"int4": measured}, measurement(evaluation=evaluation([True] * 9 + [False]))),
    )
    assert (few.choice.outcome, ship.part(few).verdict) == (
        "undecided",
        Verdict("INT4, the smallest that may hold: undecided", "undecided", few.choice.reasons),
    )


def test_how_what_ships_samples_is_told() -> None:
    sampled = replace(report(), sampling={"answers": "by samples (temperature 0.7)", "repetition_penalty": 1.1})
    assert "answers by samples (temperature 0.7), repetition penalty 1.1" in shown(sampled).words
    assert "What ships" not in shown(report()).words


@pytest.mark.parametrize("reference", ["the checkpoint in transformers", "its FP32 build"])
def test_every_form_says_what_agreement_was_measured_with(reference: str, tmp_path: Path) -> None:
    paths = write_report(tmp_path, replace(report(), reference=reference))
    assert json.loads(paths.json.read_text(encoding="utf-8"))["reference"] == reference
    assert f"**Reference.** What agreement is measured with: {reference}" in paths.markdown.read_text(encoding="utf-8")
    html = paths.html.read_text(encoding="utf-8")
    assert f"Mean KLD from {reference}" in html
    assert f"<dt>Reference</dt><dd>{reference}</dd>" in html


def test_recipes_of_one_precision_are_told_apart() -> None:
    made = report()
    fp32, _, _, int4 = made.candidates
    several = [replace(int4, label=f"int4-{name}") for name in ("a", "b")]
    assert {"INT4-A", "INT4-B"} <= set(shown(replace(made, candidates=(*several, fp32))).words.split())


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = replace(report(), sampling={"answers": "greedily"})
    paths = write_report(tmp_path, made)
    (part,) = documents.page([document.read(paths.json)]).parts
    assert part == ship.part(made)
