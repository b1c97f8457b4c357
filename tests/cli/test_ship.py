"""`ship`: its options reach the candidates that they mean something to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeship import shipping
from edgeship.cli import main, ship
from edgeship.cli.options import RecipeOptions
from edgeship.measure.choice.choose import Thresholds, choose
from edgeship.measure.choice.escalation import Attempt
from edgeship.measure.report.comparison import ways_on
from edgeship.measure.report.files import ReportPaths
from edgeship.recipe import RECIPES, Recipe
from edgeship.shipping import Shipped
from tests.measure.report.test_gated import gated, second_choice
from tests.measure.samples import measurement, report

PATHS = ReportPaths(Path("a"), Path("b"), Path("c"))


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
    ship._print_shipped(Shipped(failed, PATHS), None)
    said = capsys.readouterr().out
    assert "nothing was installed" in said
    assert "nothing was installed: no candidate holds" in said
    assert "try: " in said
    assert "--min-pass-rate" in said
    assert "more bits for INT4 (--escalate)" in said
    tried = replace(failed, escalation=(Attempt("int4", 4.2, good_enough=False),))
    assert "--escalate" not in " ".join(ways_on(tried))
    without = [replace(found, measurement=measurement()) for found in failed.candidates]
    assert "--eval FILE" in " ".join(ways_on(replace(failed, candidates=tuple(without))))


@pytest.mark.parametrize("undecided", [None, "refuse"])
def test_what_becomes_of_the_undecided_is_passed_on(
    undecided: str | None, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def road(*_: object, **how: Any) -> Shipped:
        given.update(how)
        return Shipped(report(), PATHS)

    monkeypatch.setattr(shipping, "ship", road)
    assert main(["ship", str(tiny), *(["--undecided", undecided] if undecided else [])]) == 1
    assert given["undecided"] == (undecided or "take")


@pytest.mark.parametrize(
    ("words", "effort", "force", "resources"),
    [
        ([], "quick", False, False),
        (["--gate-effort", "off", "--force"], "off", True, False),
        (["--force-resources"], "quick", False, True),
    ],
)
def test_how_the_release_gate_looks_is_passed_on(
    words: list[str], effort: str, force: bool, resources: bool, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def road(*_: object, **how: Any) -> Shipped:
        given.update(how)
        return Shipped(report(), PATHS)

    monkeypatch.setattr(shipping, "ship", road)
    assert main(["ship", str(tiny), *words]) == 1
    assert (given["gate"].effort, given["gate"].force, given["force_resources"]) == (effort, force, resources)


def test_a_gate_file_is_read_before_the_work_begins(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gate.toml").write_text("surprise = 1\n", encoding="utf-8")
    assert main(["ship", str(tiny), "--gate", str(tmp_path / "gate.toml")]) == 2
    assert "gate-invalid" in capsys.readouterr().err


def test_what_the_release_gate_refuses_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    refused = gated("fail")
    ship._print_shipped(Shipped(refused, PATHS), None)
    said = capsys.readouterr().out
    assert "  INT8 fails the release gate's check domain: It answers 3 of 10" in said
    assert "release gate, INT8: fail (2 of 3 checks, quick effort, 12 s); all that it found: verdict-int8.json" in said
    assert "nothing was installed: INT8, the smallest that holds, failed the release gate" in said
    assert "--force installs it all the same" in said
    entry: Any = SimpleNamespace(ref="triage-int8:1", name="triage-int8", folder=Path("int8"))
    forced = Shipped(gated("fail", force=True), PATHS, entry, new=True)
    ship._print_shipped(forced, None)
    assert "installed by force: INT8" in capsys.readouterr().out
    assert ship._shipped_dict(forced)["forced"] is True
    ship._print_shipped(Shipped(gated("pass"), PATHS, entry, new=True), None)
    said = capsys.readouterr().out
    made = "release gate, INT8: pass (2 of 3 checks, quick effort, 12 s)"
    assert f"{made}\n  performance was not made: there is no baseline\n" in said
    assert "force" not in said


def test_what_the_release_gate_refused_before_is_said_too(capsys: pytest.CaptureFixture[str]) -> None:
    entry: Any = SimpleNamespace(ref="triage-fp16:1", name="triage-fp16", folder=Path("fp16"))
    shipped = Shipped(second_choice("pass"), PATHS, entry, new=True)
    ship._print_shipped(shipped, None)
    said = capsys.readouterr().out
    assert said.index("release gate, INT8: fail (") < said.index("release gate, FP16: pass (")
    assert "shipped: triage-fp16:1" in said
    refused = ship._shipped_dict(shipped)["refused"]
    assert list(refused) == ["int8"]
    assert refused["int8"][0].startswith("INT8 fails the release gate's check domain: It answers 3 of 10")
    assert ship._shipped_dict(Shipped(gated("pass"), PATHS))["refused"] == {}


def test_an_undecided_package_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    entry: Any = SimpleNamespace(ref="triage-int8:1", name="triage-int8", folder=Path("int8"))
    sure = report()
    ship._print_shipped(Shipped(sure, PATHS, entry, new=True), None)
    assert "undecided" not in capsys.readouterr().out
    fp32, _, int8, _ = (found.measurement for found in sure.candidates)
    unsure = replace(sure, choice=choose({"int8": int8}, fp32, Thresholds(max_drop=0.01)))
    ship._print_shipped(Shipped(unsure, PATHS, entry, new=True), None)
    said = capsys.readouterr().out
    assert "undecided: int8 may fall short after all; --undecided refuse ships only what holds" in said
    assert "more cases like these would decide" in said
    assert ship._shipped_dict(Shipped(unsure, PATHS, entry))["outcome"] == "undecided"


def test_the_texts_are_said_that_agreement_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    ship._print_shipped(Shipped(report(), PATHS), None)
    said = "the checkpoint in transformers, over 200 tokens of the answers that 48 cases expect"
    assert f"agreement is measured with {said}" in capsys.readouterr().out
