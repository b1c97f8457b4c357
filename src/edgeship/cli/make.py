"""`build` and `ship`: from a checkpoint to a package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship import settings
from edgeship.checkpoint import Checkpoint, require_template
from edgeship.cli.look import Source
from edgeship.cli.output import megabytes, note, print_json, print_table, telling
from edgeship.errors import PrecisionUnsupported, UsageError
from edgeship.recipe import Recipe, RecipeFile, make_recipe
from edgeship.recipe_file import read_recipe_file

EXIT_NONE_HOLDS = 1


@dataclass(frozen=True)
class BuildRequest:
    """What `build` was asked for; None where an option was not given."""

    checkpoint: str | None
    both: bool = False
    adapter: Path | None = None
    revision: str | None = None
    chat_template: Path | None = None
    allow_pickle: bool = False
    precision: str | None = None
    block_size: int | None = None
    asymmetric: bool = False
    method: str | None = None
    config: Path | None = None
    output: Path | None = None
    name: str | None = None
    force: bool = False
    device: str = "cpu"
    provider: str = "CPUExecutionProvider"


def build(request: BuildRequest, *, plan_only: bool, memory: str | None, quiet: bool, as_json: bool) -> int:
    """Makes a package folder, or prints the steps."""
    from edgeship import build as builds

    current = settings.resolve(memory=memory)
    order = _recipe_file(request)
    for remark in order.notes:
        note(f"{request.config}: {remark}")
    checkpoint = _open(request, order)
    require_template(checkpoint)
    name, output = _name_and_output(request, order, checkpoint)
    if plan_only:
        return _print_plan(builds.plan(checkpoint, order.recipe, current), as_json=as_json)
    from edgeship import package
    from edgeship.machine import usable_cores

    package.require_free(output)
    with telling(quiet=quiet) as progress:
        built = builds.build(checkpoint, order.recipe, current, progress, force_resources=request.force)
        progress("package", None)
        made = package.write_package(
            built, checkpoint, output, name=name, version=1, cores=current.threads or usable_cores()
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
    given = {
        "precision": request.precision,
        "block_size": request.block_size,
        "symmetric": False if request.asymmetric else None,
        "method": request.method,
    }
    options = {key: value for key, value in given.items() if value is not None}
    if request.config is None:
        return RecipeFile(recipe=make_recipe({"precision": "int4"} | options, where="command line"))
    order = read_recipe_file(request.config)
    merged = order.recipe.model_dump(mode="json") | options
    return order.model_copy(update={"recipe": make_recipe(merged, where="command line")})


def _open(request: BuildRequest, order: RecipeFile) -> Checkpoint:
    if request.both:
        raise UsageError("CHECKPOINT and --model_name_or_path are both given", hint="Give one of them.")
    source = request.checkpoint or order.checkpoint
    if source is None:
        raise UsageError("no checkpoint is given", hint="edgeship build CHECKPOINT --precision int4")
    return Source(
        source,
        request.adapter or order.adapter,
        request.revision,
        request.chat_template,
        request.allow_pickle,
    ).open()


def _name_and_output(request: BuildRequest, order: RecipeFile, checkpoint: Checkpoint) -> tuple[str, Path]:
    from edgeship.manifest import check_name

    output = request.output or order.output
    fallback = output.name if output else f"{checkpoint.name}-{order.recipe.precision.value}"
    name = check_name(request.name or fallback)
    return name, (output or Path("models") / name)


def _print_plan(plan: Any, *, as_json: bool) -> int:
    prediction = plan.prediction
    if as_json:
        steps = [
            {
                "name": step.name,
                "key": step.key,
                "done": step.done,
                "needs": step.needs,
                "detail": step.detail,
            }
            for step in plan.steps
        ]
        needs = {
            "size_bytes": prediction.size_bytes,
            "build_peak_memory_bytes": prediction.build_peak_memory_bytes,
            "disk_bytes": prediction.disk_bytes,
            "run_memory_bytes": prediction.run_memory_bytes,
        }
        print_json({"steps": steps, "prediction": needs})
        return 0
    rows = [[step.name, "done" if step.done else "to do", step.key[:12], step.detail] for step in plan.steps]
    print_table(["STEP", "STATE", "KEY", "WHAT"], rows)
    print(
        f"predicted: {megabytes(prediction.size_bytes)} of model, "
        f"{megabytes(prediction.build_peak_memory_bytes)} of memory at the most, "
        f"{megabytes(prediction.disk_bytes)} of disk"
    )
    return 0


@dataclass(frozen=True)
class ShipRequest:
    """What `ship` was asked for."""

    checkpoint: str
    adapter: Path | None
    revision: str | None
    chat_template: Path | None
    allow_pickle: bool
    eval_file: Path | None
    eval_limit: int | None
    name: str | None
    precisions: tuple[str, ...]
    block_size: int | None
    asymmetric: bool
    method: str | None
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
    from edgeship.manifest import check_name
    from edgeship.measure.compare import Thresholds
    from edgeship.ship import Order
    from edgeship.ship import ship as ship_order

    current = settings.resolve(cache_dir=cache_dir, threads=threads, memory=memory)
    if request.name is not None:
        check_name(request.name)
    checkpoint = Source(
        request.checkpoint, request.adapter, request.revision, request.chat_template, request.allow_pickle
    ).open()
    order = Order(
        checkpoint=checkpoint,
        name=request.name or checkpoint.name,
        recipes=tuple(_recipe(request, precision) for precision in request.precisions),
        thresholds=Thresholds(
            max_drop=request.max_drop,
            min_pass_rate=request.min_pass_rate,
            max_mean_kld_nats=request.max_mean_kld,
            min_top1_agreement=request.min_top1,
        ),
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


def _recipe(request: ShipRequest, precision: str) -> Recipe:
    values: dict[str, Any] = {"precision": precision}
    recipe = make_recipe(values, where="command line")
    if recipe.precision.quantized:
        values |= {"block_size": request.block_size} if request.block_size else {}
        values |= {"symmetric": False} if request.asymmetric else {}
        values |= {"method": request.method} if request.method else {}
    return make_recipe(values, where="command line")


def _shipped_dict(shipped: Any) -> dict[str, Any]:
    report = shipped.report
    return {
        "holds": report.choice.holds,
        "chosen": report.choice.chosen,
        "package": shipped.package.manifest.ref if shipped.package else None,
        "folder": str(shipped.package.folder) if shipped.package else None,
        "new": shipped.new,
        "verdict": report.choice.verdict(),
        "candidates": {candidate.precision.value: candidate.measurement.summary() for candidate in report.candidates},
        "report": {
            "html": str(shipped.paths.html),
            "json": str(shipped.paths.json),
            "markdown": str(shipped.paths.markdown),
        },
        "question": shipped.question,
        "answer": shipped.answer,
    }


def _print_shipped(shipped: Any) -> None:
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
