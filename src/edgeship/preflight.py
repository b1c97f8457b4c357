"""What is to be shipped, and all that can be refused before the work begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from edgeship import builder as builds
from edgeship import readers
from edgeship.builder import Plan, packaging
from edgeship.builder.packaging import Spelling
from edgeship.builder.predict import check_resources
from edgeship.checkpoint import Checkpoint
from edgeship.engine.api import Constraint
from edgeship.errors import UsageError
from edgeship.held_out import without_cases
from edgeship.measure.agreement.reference import of_checkpoint
from edgeship.measure.cases import property_order
from edgeship.measure.cases.askable import require_askable, require_judgeable
from edgeship.measure.cases.evalset import EvalCase, read_evalset, take_evenly
from edgeship.measure.choice.choose import Thresholds, Undecided
from edgeship.measure.choice.escalation import BUDGETS, MOST_TRIES, with_budget
from edgeship.progress import Progress, silent
from edgeship.recipe import Precision, Recipe, named_recipe
from edgeship.release_gate import ReleaseGate
from edgeship.settings import Settings
from edgeship.store import packages
from edgeship.system.machine import free_disk_bytes, this_machine

ReferenceName = Literal["transformers", "fp32"]


@dataclass(frozen=True)
class Shipment:
    """What is to be shipped, and when it is good enough; see `shipping.ship`.

    remarks: what the user should know of it beforehand.
    """

    checkpoint: Checkpoint
    name: str
    recipes: tuple[Recipe, ...]
    thresholds: Thresholds
    reference: ReferenceName
    eval_file: Path | None = None
    eval_limit: int | None = None
    constraint: Constraint | None = None
    question: str | None = None
    report_dir: Path | None = None
    escalate: bool = False
    undecided: Undecided = "take"
    force_resources: bool = False
    gate: ReleaseGate = field(default_factory=ReleaseGate)
    remarks: tuple[str, ...] = ()


def choose_reference(checkpoint: Checkpoint) -> ReferenceName:
    """What agreement is measured with: the original where it can run here."""
    if checkpoint.renamed or checkpoint.quantized is not None:
        # transformers would begin with random numbers, or ask for the library that quantized the weights.
        return "fp32"
    return "transformers" if of_checkpoint.is_installed(adapter=checkpoint.adapter is not None) else "fp32"


def preflight(
    shipment: Shipment, settings: Settings, work: Path, progress: Progress = silent
) -> tuple[Shipment, tuple[EvalCase, ...], dict[Recipe, Plan], Spelling]:
    """Everything that can be known before the work starts.

    The shipment with what is to be said of it, and recipes that calibrate with none of the evaluation's cases; these
    cases, how each recipe is built, and how packages are written for onnxruntime-genai. work: a folder of this run.
    """
    if shipment.constraint is not None and shipment.eval_file is None:
        raise UsageError("--schema holds the answers to --eval, which is not given", hint="Give both, or neither.")
    labels = [recipe.label for recipe in shipment.recipes]
    for label in [*labels, *(with_budget(recipe, BUDGETS[0]).label for recipe in _escalated(shipment))]:
        packages.check_name(settings.cache_dir, package_name(shipment, label))
    original = shipment.checkpoint
    # What is a part of a model has other names there, and transformers reads the whole.
    renamed = original.renamed and not original.partial
    if shipment.reference == "transformers" and (renamed or original.quantized is not None):
        fault = "whose names are not as it saves them" if renamed else "which are quantized"
        raise UsageError(
            f"transformers cannot be the reference for the weights of this checkpoint, {fault}",
            where=str(shipment.checkpoint.folder),
            hint="Take the FP32 build for the reference: leave it out, or --reference fp32.",
        )
    if len(set(labels)) < len(labels):
        raise UsageError("a candidate is named twice", hint="Name each of them once.")
    lacking = packaging.require_packable(shipment.checkpoint)
    spelling = readers.spell(shipment.checkpoint)
    asked = take_evenly(read_evalset(shipment.eval_file, progress), shipment.eval_limit) if shipment.eval_file else ()
    require_judgeable(asked, embeds=False)
    cases = require_askable(asked, shipment.checkpoint, progress)
    if shipment.constraint and (remark := property_order.difference(shipment.constraint, cases)):
        progress(f"note: {remark}", None)
    packages.require_writable(settings.cache_dir)
    recipes, left_out = without_cases(shipment.recipes, asked, work)
    shipment = replace(shipment, recipes=recipes)
    plans = {recipe: builds.plan(shipment.checkpoint, recipe, settings) for recipe in to_build(shipment)}
    of_plans = (remark for plan in plans.values() for remark in plan.notes)
    remarks = tuple(dict.fromkeys([*lacking, *readers.notes(spelling), *left_out, *of_plans]))
    for remark in remarks:
        progress(f"note: {remark}", None)
    tries = _tries(shipment, settings)
    if not shipment.force_resources:
        _require_resources(shipment, plans, tries, settings)
    return replace(shipment, remarks=remarks), cases, plans, spelling


def to_build(shipment: Shipment) -> tuple[Recipe, ...]:
    """The candidates, and before them the FP32 build where it is the reference only."""
    fp32 = fp32_of(shipment)
    return shipment.recipes if shipment.reference != "fp32" or fp32 in shipment.recipes else (fp32, *shipment.recipes)


def fp32_of(shipment: Shipment) -> Recipe:
    """The recipe of the FP32 build: the candidate's, where one is asked for."""
    asked = (recipe for recipe in shipment.recipes if recipe.precision is Precision.FP32)
    return next(asked, None) or named_recipe("fp32", {}, where="the reference")


def _escalated(shipment: Shipment) -> list[Recipe]:
    """The candidates that may get more bits. Raises UsageError where --escalate finds none."""
    found = [recipe for recipe in shipment.recipes if shipment.escalate and recipe.precision is Precision.INT4]
    if shipment.escalate and not found:
        raise UsageError(
            "--escalate gives more bits to INT4, which is not among the candidates",
            hint="Add -p int4, or leave it out.",
        )
    return found


def _tries(shipment: Shipment, settings: Settings) -> list[Plan]:
    """What --escalate may build at the most. Raises PrecisionUnsupported where the builder knows no budgets of bits."""
    recipes = [with_budget(recipe, BUDGETS[-1]) for recipe in _escalated(shipment)]
    plans = [builds.plan(shipment.checkpoint, recipe, settings) for recipe in recipes]
    return sorted(plans, key=lambda plan: plan.prediction.disk_bytes)[-1:] * MOST_TRIES


def _require_resources(
    shipment: Shipment, plans: Mapping[Recipe, Plan], tries: Sequence[Plan], settings: Settings
) -> None:
    """The largest need of all builds and of the reference, and the disk of all builds together."""
    predictions = [plan.prediction for plan in (*plans.values(), *tries)]
    if shipment.reference == "fp32":
        reference_bytes = plans[fp32_of(shipment)].prediction.run_memory_bytes
    else:
        reference_bytes = of_checkpoint.predicted_memory_bytes(_all_parameters(shipment.checkpoint))
    need = replace(
        predictions[0],
        size_bytes=sum(prediction.size_bytes for prediction in predictions),
        build_peak_memory_bytes=max(
            reference_bytes, *(prediction.build_peak_memory_bytes for prediction in predictions)
        ),
        disk_bytes=sum(prediction.disk_bytes for prediction in predictions),
        run_memory_bytes=max(prediction.run_memory_bytes for prediction in predictions),
    )
    check_resources(need, this_machine(settings.memory_bytes), free_disk_bytes(settings.home))


def _all_parameters(checkpoint: Checkpoint) -> int:
    """Those that are left out are counted, since transformers reads them too."""
    if not checkpoint.partial:
        return checkpoint.parameters
    kept_bytes = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    return checkpoint.parameters * checkpoint.weights_bytes // max(1, kept_bytes)


def package_name(shipment: Shipment, label: str) -> str:
    """What the package of a candidate is called."""
    return f"{shipment.name}-{label}"
