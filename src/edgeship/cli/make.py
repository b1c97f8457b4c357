"""`build`, `ship` and `olive-config`: from a checkpoint to a package, or to a workflow that Olive runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import settings
from edgeship.checkpoint import Checkpoint, require_template
from edgeship.cli.look import Source
from edgeship.cli.output import note, print_json, print_table, telling
from edgeship.errors import NotWritable, PrecisionUnsupported, UsageError
from edgeship.recipe import RECIPES, Precision, Recipe, RecipeFile, make_recipe, named_recipe
from edgeship.recipe.file import read_recipe_file
from edgeship.system.storage import megabytes, write_file

if TYPE_CHECKING:
    from edgeship.builder import Plan
    from edgeship.ship import ReferenceChoice, Shipped

EXIT_NONE_HOLDS = 1
FP32_BITS = 32
_COMMAND_LINE = "command line"


@dataclass(frozen=True)
class RecipeOptions:
    """What to change of a recipe; None where an option was not given.

    bits: average bits a weight; budget: the same as a part of FP32's.
    """

    block_size: int | None = None
    asymmetric: bool = False
    method: str | None = None
    bits: float | None = None
    budget: float | None = None
    calibrate: Path | None = None
    builder: str | None = None

    def changes(self) -> dict[str, Any]:
        """The fields of a Recipe that were given. Raises UsageError where two of them contradict each other."""
        if self.bits is not None and self.budget is not None:
            raise UsageError("--bits and --budget are both given", hint="A budget of 0.15 is 4.8 bits: give one.")
        given = {
            "block_size": self.block_size,
            "symmetric": False if self.asymmetric else None,
            "method": self.method,
            "bits": FP32_BITS * self.budget if self.budget is not None else self.bits,
            "calibration": self.calibrate,
            "builder": self.builder,
        }
        return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True)
class BuildRequest:
    """What `build` was asked for; None where an option was not given."""

    source: Source
    both: bool = False
    precision: str | None = None
    options: RecipeOptions = field(default_factory=RecipeOptions)
    config: Path | None = None
    output: Path | None = None
    name: str | None = None
    force: bool = False
    device: str = "cpu"
    provider: str = "CPUExecutionProvider"


def build(request: BuildRequest, *, plan_only: bool, memory: str | None, quiet: bool, as_json: bool) -> int:
    """Makes a package folder, or prints the steps."""
    from edgeship import builder as builds

    current = settings.resolve(memory=memory)
    order = _recipe_file(request)
    for remark in order.notes:
        note(f"{request.config}: {remark}")
    checkpoint = _open(request, order)
    require_template(checkpoint)
    name, output = _name_and_output(request, order, checkpoint)
    planned = builds.plan(checkpoint, order.recipe, current)
    if plan_only:
        return _print_plan(planned, as_json=as_json)
    for remark in planned.notes:
        note(f"note: {remark}")
    from edgeship.builder import packaging
    from edgeship.system.machine import cores_to_use

    packaging.require_free(output)
    with telling(quiet=quiet) as progress:
        built = builds.build(checkpoint, order.recipe, current, progress, force_resources=request.force)
        progress("package", None)
        made = packaging.write_package(
            built, checkpoint, output, name=name, version=1, cores=cores_to_use(current.threads)
        )
    facts: dict[str, Any] = {
        "package": made.manifest.ref,
        "folder": str(made.folder),
        "size_bytes": made.manifest.size_bytes,
        "recipe": built.recipe.to_key(),
        "builder": built.builder,
        "wall_s": built.wall_s,
        "peak_memory_bytes": built.peak_memory_bytes,
    }
    if as_json:
        print_json(facts)
    else:
        print(f"built {name} ({megabytes(made.manifest.size_bytes)}) in {output}")
        print(f"install: edgeship cache add {output}")
        print(f'try:     edgeship model run {output} "..."')
    return 0


def _recipe_file(request: BuildRequest) -> RecipeFile:
    """The config file's recipe with the options that were given on top."""
    if request.device.lower() != "cpu" or request.provider != "CPUExecutionProvider":
        raise PrecisionUnsupported(
            f"device {request.device!r} with {request.provider!r} cannot be built for yet",
            hint="Leave --device and --provider out, or say cpu and CPUExecutionProvider.",
        )
    changes = request.options.changes()
    if request.config is None:
        return RecipeFile(recipe=named_recipe(request.precision or "int4", changes, where=_COMMAND_LINE))
    order = read_recipe_file(request.config)
    named = {"name": request.precision, **RECIPES[request.precision]} if request.precision else {}
    merged = order.recipe.model_dump() | named | changes
    return order.model_copy(update={"recipe": make_recipe(merged, where=_COMMAND_LINE)})


def _open(request: BuildRequest, order: RecipeFile) -> Checkpoint:
    if request.both:
        raise UsageError("CHECKPOINT and --model_name_or_path are both given", hint="Give one of them.")
    source = request.source
    return replace(
        source, checkpoint=source.checkpoint or order.checkpoint, adapter=source.adapter or order.adapter
    ).open()


def _name_and_output(request: BuildRequest, order: RecipeFile, checkpoint: Checkpoint) -> tuple[str, Path]:
    from edgeship.package.names import check_name

    output = request.output or order.output
    fallback = output.name if output else f"{checkpoint.name}-{order.recipe.label}"
    name = check_name(request.name or fallback)
    return name, (output or Path("models") / name)


def _print_plan(plan: Plan, *, as_json: bool) -> int:
    needs = plan.prediction
    if as_json:
        shown = ("name", "key", "done", "needs", "detail")
        steps = [{key: getattr(step, key) for key in shown} for step in plan.steps]
        print_json({"steps": steps, "prediction": asdict(needs), "notes": plan.notes})
        return 0
    rows = [[step.name, "done" if step.done else "to do", step.key[:12], step.detail] for step in plan.steps]
    print_table(["STEP", "STATE", "KEY", "WHAT"], rows)
    print(
        f"predicted: {megabytes(needs.size_bytes)} of model, "
        f"{megabytes(needs.build_peak_memory_bytes)} of memory at the most, "
        f"{megabytes(needs.disk_bytes)} of disk" + (f", about {needs.time_s:.0f} s" if needs.time_s else "")
    )
    for remark in plan.notes:
        print(f"note: {remark}")
    return 0


@dataclass(frozen=True)
class ShipRequest:
    """What `ship` was asked for."""

    source: Source
    eval_file: Path | None
    eval_limit: int | None
    name: str | None
    precisions: tuple[str, ...]
    options: RecipeOptions
    reference: ReferenceChoice
    max_drop: float
    min_pass_rate: float
    max_mean_kld: float
    min_top1: float
    ask: str | None
    report: Path | None
    force: bool


def ship(
    request: ShipRequest, *, cache_dir: Path | None, threads: int | None, memory: str | None, as_json: bool
) -> int:
    """The whole road; exit 1 where no candidate holds."""
    from edgeship.measure.compare import Thresholds
    from edgeship.package.names import check_name
    from edgeship.ship import Order
    from edgeship.ship import ship as ship_order

    current = settings.resolve(cache_dir=cache_dir, threads=threads, memory=memory)
    if request.name is not None:
        check_name(request.name)
    recipes = tuple(_candidate(name, request.options) for name in request.precisions)
    checkpoint = request.source.open()
    order = Order(
        checkpoint=checkpoint,
        name=request.name or checkpoint.name,
        recipes=recipes,
        thresholds=Thresholds(
            max_drop=request.max_drop,
            min_pass_rate=request.min_pass_rate,
            max_mean_kld_nats=request.max_mean_kld,
            min_top1_agreement=request.min_top1,
        ),
        reference=request.reference,
        eval_file=request.eval_file,
        eval_limit=request.eval_limit,
        question=request.ask,
        report_dir=request.report,
        force_resources=request.force,
    )
    with telling() as progress:
        shipped = ship_order(order, current, progress)
    if as_json:
        print_json(_shipped_dict(shipped))
    else:
        _print_shipped(shipped)
    return 0 if shipped.package else EXIT_NONE_HOLDS


def _candidate(name: str, options: RecipeOptions) -> Recipe:
    """A recipe with the options that mean something to its precision, since they are given once for all candidates."""
    changes = options.changes()
    plain = named_recipe(name, {}, where=_COMMAND_LINE)
    meant = set(changes) if plain.precision.quantized else {"builder"}
    if plain.precision is not Precision.INT4:
        meant -= {"bits"}
    return named_recipe(name, {key: changes[key] for key in changes if key in meant}, where=_COMMAND_LINE)


def _shipped_dict(shipped: Shipped) -> dict[str, Any]:
    report = shipped.report
    return {
        "holds": report.choice.holds,
        "chosen": report.choice.chosen,
        "package": shipped.package.manifest.ref if shipped.package else None,
        "folder": str(shipped.package.folder) if shipped.package else None,
        "new": shipped.new,
        "verdict": report.choice.verdict(),
        "reference": report.reference,
        "candidates": {candidate.label: candidate.measurement.summary() for candidate in report.candidates},
        "report": {
            "html": str(shipped.paths.html),
            "json": str(shipped.paths.json),
            "markdown": str(shipped.paths.markdown),
        },
        "question": shipped.question,
        "answer": shipped.answer,
    }


def _print_shipped(shipped: Shipped) -> None:
    from edgeship.measure.report import table_rows

    report = shipped.report
    table = table_rows(report)
    facts = report.checkpoint
    print(f"\n{report.name}: {facts.get('architecture')}, {facts.get('parameters'):,} parameters\n")
    print_table(table.header, table.rows)
    print()
    for reason in report.choice.reasons:
        print(f"  {reason}")
    print(f"\nreport: {shipped.paths.html}")
    if shipped.package is None:
        print("nothing was installed: no candidate holds")
        return
    ref = shipped.package.manifest.ref
    state = "installed" if shipped.new else "installed already, unchanged"
    print(f"shipped: {ref} ({state}) in {shipped.package.folder}\n")
    print(f"> {shipped.question}\n{shipped.answer}\n")
    for purpose, command in report.commands:
        print(f"{purpose + ':':10} {command}")


def olive_config(source: Source, name: str, output: Path | None, *, as_json: bool) -> int:
    """Writes an Olive workflow that builds the recipe, or prints it."""
    from edgeship.recipe import olive as workflows

    assert source.checkpoint is not None
    recipe = named_recipe(name, {}, where=_COMMAND_LINE)
    built = f"models/{source.open().name}-{recipe.label}"
    text = workflows.render(recipe, source.checkpoint, source.adapter, built)
    if output is None:
        print(text.rstrip("\n"))
        return 0
    try:
        write_file(output, text)
    except OSError as error:
        raise NotWritable(f"the workflow cannot be written: {error.strerror or error}", where=str(output)) from error
    if as_json:
        print_json({"workflow": str(output)})
    else:
        print(f"wrote {output}\nbuild: edgeship build --config {output}")
    return 0
