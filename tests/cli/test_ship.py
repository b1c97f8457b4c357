"""`ship`: its options reach the candidates that they mean something to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import shipping
from edgeship.cli import main, ship
from edgeship.cli.options import RecipeOptions
from edgeship.measure.compare import choose
from edgeship.measure.escalation import Attempt
from edgeship.measure.report import ReportPaths
from edgeship.recipe import RECIPES, Recipe
from edgeship.shipping import Shipped
from tests.measure.samples import measurement, report


def test_the_candidates_are_those_of_the_road() -> None:
    assert ship.CANDIDATES == shipping.CANDIDATES


def test_a_candidate_takes_the_options_that_mean_something_to_it() -> None:
    options = RecipeOptions(block_size=32, bits=5.0, calibrate=Path("texts"), builder="genai")
    found = {name: ship._candidate(name, options) for name in RECIPES}
    assert found["fp16"] == Recipe(name="fp16", precision="fp16", builder="genai")  # type: ignore[arg-type]
    assert (found["int8"].block_size, found["int8"].bits, found["int8"].calibration) == (32, None, Path("texts"))
    assert (found["int4"].bits, found["int4-small"].bits) == (5.0, 5.0)
    assert [recipe.label for recipe in found.values()] == list(RECIPES)
    assert {recipe.builder for recipe in found.values()} == {"genai"}


def test_ship_takes_a_candidate_once(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ship", str(tiny), "-p", "int4", "-p", "int4"]) == 2
    assert "twice" in capsys.readouterr().err


def test_a_schema_needs_questions(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ship", str(tiny), "--schema", "{}"]) == 2
    assert "--schema holds the answers to --eval" in capsys.readouterr().err


def test_cases_that_fail_are_shown_with_their_question(capsys: pytest.CaptureFixture[str]) -> None:
    ship._print_failures(report(answer="a wrong\nanswer " + "x" * 500))
    said = capsys.readouterr().out
    assert "INT8 fails 12 of 320 cases, such as:" in said
    assert said.count("asked     hello\n    expected  yes\n    answer    a wrong answer xxx") == 3
    assert "case0, as FP32 does" in said
    assert max(map(len, said.splitlines())) < 200


def test_where_nothing_holds_there_is_a_way_on(capsys: pytest.CaptureFixture[str]) -> None:
    made = report(answer="a wrong answer")
    fp32, *_, int4 = made.candidates
    failed = replace(made, choice=choose({"int4": int4.measurement}, fp32.measurement))
    ship._print_shipped(Shipped(failed, ReportPaths(Path("a"), Path("b"), Path("c"))), None)
    said = capsys.readouterr().out
    assert "nothing was installed" in said
    assert "nothing was installed: no candidate holds" in said
    assert "try: " in said
    assert "--min-pass-rate" in said
    assert "more bits for INT4 (--escalate)" in said
    tried = replace(failed, escalation=(Attempt("int4", 4.2, good_enough=False),))
    assert "--escalate" not in " ".join(ship._ways_on(tried))
    without = [replace(found, measurement=measurement()) for found in failed.candidates]
    assert "--eval FILE" in " ".join(ship._ways_on(replace(failed, candidates=tuple(without))))


def test_the_texts_are_said_that_agreement_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    ship._print_shipped(Shipped(report(), ReportPaths(Path("a"), Path("b"), Path("c"))), None)
    said = "the checkpoint in transformers, over 200 tokens of the answers that 48 cases expect"
    assert f"agreement is measured with {said}" in capsys.readouterr().out
