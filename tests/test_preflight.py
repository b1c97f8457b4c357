"""What `ship` finds out before it begins: candidates, the reference, what all of it needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import builder as builds
from edgeship import preflight, shipping
from edgeship.builder import Plan, Prediction
from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.errors import NameInvalid, PrecisionUnsupported, UsageError
from edgeship.measure.agreement.reference import of_checkpoint
from edgeship.measure.choice.choose import Thresholds
from edgeship.measure.choice.escalation import BUDGETS, MOST_TRIES, with_budget
from edgeship.preflight import ReferenceName, Shipment, choose_reference
from edgeship.recipe import Precision, Recipe, named_recipe
from edgeship.settings import Settings
from edgeship.store import packages
from tests.packages import make_package


@pytest.fixture
def shipment(tiny: Path) -> Shipment:
    recipes = tuple(named_recipe(name, {}, where="test") for name in ("int8", "int4-fast", "int4"))
    return Shipment(open_checkpoint(str(tiny)), "tiny", recipes, Thresholds(), "transformers")


@pytest.mark.parametrize("installed", [True, False])
def test_the_original_is_the_reference_where_it_is_installed(
    shipment: Shipment, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def is_installed(*, adapter: bool) -> bool:
        asked.append(adapter)
        return installed

    monkeypatch.setattr(of_checkpoint, "is_installed", is_installed)
    assert choose_reference(shipment.checkpoint) == ("transformers" if installed else "fp32")
    assert asked == [False]


def test_what_is_left_open_is_decided_once(tiny: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Shipment] = []
    monkeypatch.setattr(shipping, "_ship", lambda shipment, *_: begun.append(shipment))
    monkeypatch.setattr(of_checkpoint, "is_installed", lambda **_: False)
    shipping.ship(open_checkpoint(str(tiny)), settings=settings)
    (shipment,) = begun
    assert shipment.name == "tiny"
    assert tuple(recipe.label for recipe in shipment.recipes) == shipping.CANDIDATES
    assert (shipment.thresholds, shipment.reference) == (Thresholds(), "fp32")


def test_the_fp32_build_is_made_first_where_it_is_the_reference_only(shipment: Shipment) -> None:
    assert preflight.to_build(shipment) == shipment.recipes
    without = replace(shipment, reference="fp32")
    assert [recipe.label for recipe in preflight.to_build(without)] == ["fp32", "int8", "int4-fast", "int4"]
    own = Recipe(precision=Precision.FP32, builder="genai")
    asked = replace(without, recipes=(*shipment.recipes, own))
    assert preflight.to_build(asked) == asked.recipes
    assert preflight.fp32_of(asked) == own


@pytest.mark.parametrize(("reference", "bytes_needed"), [("transformers", 600_519_552), ("fp32", 32_000)])
def test_the_reference_needs_memory_too(
    shipment: Shipment,
    settings: Settings,
    reference: ReferenceName,
    bytes_needed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the FP32 build it is what running needs, of the original what its size predicts."""
    real = builds.plan

    def plan(checkpoint: Checkpoint, recipe: Recipe, settings: Settings) -> Plan:
        found = real(checkpoint, recipe, settings)
        needs = {"build_peak_memory_bytes": 1, "run_memory_bytes": 1000 * recipe.precision.bits, "disk_bytes": 7}
        return replace(found, prediction=replace(found.prediction, **needs))

    found: list[Prediction] = []
    monkeypatch.setattr(builds, "plan", plan)
    monkeypatch.setattr(preflight, "check_resources", lambda need, *_: found.append(need))
    shipment = replace(shipment, reference=reference)
    preflight.preflight(shipment, settings, tmp_path)
    (need,) = found
    assert need.build_peak_memory_bytes == bytes_needed
    assert need.disk_bytes == 7 * (3 + (reference == "fp32"))
    preflight.preflight(replace(shipment, force_resources=True), settings, tmp_path)
    assert len(found) == 1


def test_escalation_may_need_the_disk_of_all_its_tries(
    shipment: Shipment, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Prediction] = []
    monkeypatch.setattr(preflight, "check_resources", lambda need, *_: found.append(need))
    shipment = replace(shipment, recipes=shipment.recipes[1:2])
    preflight.preflight(shipment, settings, tmp_path)
    _, _, plans, _ = preflight.preflight(replace(shipment, escalate=True), settings, tmp_path)
    plain, escalated = found
    largest = builds.plan(shipment.checkpoint, with_budget(shipment.recipes[0], BUDGETS[-1]), settings).prediction
    assert escalated.disk_bytes == plain.disk_bytes + MOST_TRIES * largest.disk_bytes
    assert escalated.build_peak_memory_bytes >= largest.build_peak_memory_bytes
    assert list(plans) == list(shipment.recipes)


def test_escalation_needs_int4_and_a_builder_that_mixes_bits(
    shipment: Shipment, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="not among the candidates"):
        preflight.preflight(replace(shipment, recipes=shipment.recipes[:1], escalate=True), settings, tmp_path)
    by_another = Recipe(precision=Precision.INT4, method="k_quant", block_size=16)
    with pytest.raises(PrecisionUnsupported, match="gives all matrices 4 bits"):
        preflight.preflight(replace(shipment, recipes=(by_another,), escalate=True), settings, tmp_path)


def test_names_have_room_for_a_budget(shipment: Shipment, settings: Settings, tmp_path: Path) -> None:
    shipment = replace(shipment, name="n" * 90)
    preflight.preflight(shipment, settings, tmp_path)
    with pytest.raises(NameInvalid, match=r"-4\.5bits"):
        preflight.preflight(replace(shipment, escalate=True), settings, tmp_path)


def test_candidates_have_names_of_their_own(shipment: Shipment, settings: Settings, tmp_path: Path) -> None:
    shipment = replace(shipment, reference="fp32")
    with pytest.raises(UsageError, match="twice"):
        preflight.preflight(replace(shipment, recipes=(shipment.recipes[0],) * 2), settings, tmp_path)
    with pytest.raises(NameInvalid):
        preflight.preflight(replace(shipment, name=".."), settings, tmp_path)


def test_cases_of_the_evaluation_are_not_calibrated_with(
    shipment: Shipment, settings: Settings, tmp_path: Path
) -> None:
    case = {"messages": [{"role": "user", "content": "hello world, how are you?"}], "expected": "fine"}
    (tmp_path / "eval.jsonl").write_text(json.dumps(case), encoding="utf-8")
    (tmp_path / "texts.jsonl").write_text(f'{json.dumps(case)}\n{{"text": "hello order"}}\n', encoding="utf-8")
    calibrated = shipment.recipes[1].model_copy(update={"calibration": tmp_path / "texts.jsonl"})
    shipment = replace(shipment, recipes=(calibrated,), eval_file=tmp_path / "eval.jsonl")
    told: list[str] = []
    (tmp_path / "work").mkdir()
    found, cases, plans, _ = preflight.preflight(
        shipment, settings, tmp_path / "work", lambda message, _: told.append(message)
    )
    assert len(cases) == 1
    (read,) = (recipe.calibration for recipe in found.recipes)
    assert read is not None
    assert [json.loads(line) for line in read.read_text(encoding="utf-8").splitlines()] == [{"text": "hello order"}]
    assert plans.keys() == set(found.recipes)
    assert found.remarks[0] == "calibration texts that are cases of the evaluation are left out: 1"
    assert told == [f"note: {remark}" for remark in found.remarks]


def test_another_builder_is_told_of_once(shipment: Shipment, settings: Settings, tmp_path: Path) -> None:
    told: list[str] = []
    recipes = tuple(
        recipe.model_copy(update={"method": "k_quant", "block_size": 16}) for recipe in shipment.recipes[1:2]
    )
    shipment = replace(
        shipment, reference="transformers", recipes=(*recipes, recipes[0].model_copy(update={"name": "again"}))
    )
    preflight.preflight(shipment, settings, tmp_path, lambda message, _: told.append(message))
    assert told == ["note: k_quant is asked for, so onnxruntime-genai's builder converts it"]


def test_it_is_known_by_how_many_cases_a_package_was_judged(tmp_path: Path, settings: Settings) -> None:
    package = make_package(tmp_path / "tiny-int4")
    assert shipping._cases_known(settings.cache_dir, "tiny-int4", package) == 0
    packages.install(package.folder, settings.cache_dir, measurements={"evaluation": {"cases": 324}})
    assert shipping._cases_known(settings.cache_dir, "tiny-int4", package) == 324
    other = make_package(tmp_path / "other", weights=b"other")
    assert shipping._cases_known(settings.cache_dir, "tiny-int4", other) == 0


def test_a_reports_commands_name_another_cache_than_the_homes_own(settings: Settings, tmp_path: Path) -> None:
    (_, chat), (_, once) = shipping._commands("tiny-int4", settings)
    assert chat.endswith("edgeship model run tiny-int4")
    assert once == f'{chat} "..."'
    (_, chat), _ = shipping._commands("tiny-int4", replace(settings, cache_dir=tmp_path))
    assert chat.endswith(f"edgeship model run tiny-int4 --cache-dir {tmp_path}")
