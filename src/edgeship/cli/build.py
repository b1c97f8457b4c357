"""`edgeship build`: from a checkpoint to a package folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgeship import settings
from edgeship.cli.options import (
    CheckpointOptions,
    ForceResources,
    Json,
    Memory,
    RecipeName,
    RecipeOptions,
    as_path,
    grouped,
)
from edgeship.cli.output import note, print_json, print_table, telling
from edgeship.cli.streams import show
from edgeship.errors import PrecisionUnsupported, UsageError
from edgeship.system.shell import our_command

if TYPE_CHECKING:
    from edgeship.builder import Build, Plan
    from edgeship.package.manifest import Package
    from edgeship.recipe import RecipeFile


OptionalCheckpoint = Annotated[
    str | None,
    typer.Argument(metavar="[CHECKPOINT]", help="A folder, or a Hub id: org/name or org/name@revision."),
]
Precision = Annotated[
    RecipeName | None,
    typer.Option("--precision", "-p", help=f"A recipe: {', '.join(RecipeName)}.", show_default="int4"),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", help="A recipe in TOML, or an Olive workflow in JSON or YAML.", show_default=False, parser=as_path
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        "--output_path",
        help="The package folder to make.",
        show_default="models/NAME",
        parser=as_path,
    ),
]
Name = Annotated[str | None, typer.Option("--name", help="The package's name.", show_default="the output folder's")]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Print the steps and what they need; build nothing.")]


@dataclass(frozen=True)
class OliveOptions:
    """Options that Olive and onnxruntime-genai's builder have, so that their command lines work here as they are."""

    model_name_or_path: Annotated[
        str | None, typer.Option("--model_name_or_path", "-m", help="The same as CHECKPOINT.", show_default=False)
    ] = None
    device: Annotated[str, typer.Option("--device", help="Only cpu, for now.")] = "cpu"
    provider: Annotated[str, typer.Option("--provider", help="Only this one, for now.")] = "CPUExecutionProvider"
    use_model_builder: Annotated[
        bool, typer.Option("--use_model_builder", "--use_ort_genai", help="Accepted; it is what happens anyway.")
    ] = False
    log_level: Annotated[
        Literal["0", "1", "2", "3", "4"] | None,
        typer.Option("--log_level", help="3 and above show no progress.", show_default=False),
    ] = None

    def require_cpu(self) -> None:
        """Raises PrecisionUnsupported for any other device or provider."""
        if self.device.lower() != "cpu" or self.provider != "CPUExecutionProvider":
            raise PrecisionUnsupported(
                f"device {self.device!r} with {self.provider!r} cannot be built for yet",
                hint="Leave --device and --provider out, or say cpu and CPUExecutionProvider.",
            )

    @property
    def quiet(self) -> bool:
        """Whether no progress is wanted."""
        return self.log_level is not None and int(self.log_level) >= 3


@grouped
def build(
    *,
    checkpoint: OptionalCheckpoint = None,
    precision: Precision = None,
    changes: RecipeOptions,
    config: Config = None,
    output: Output = None,
    name: Name = None,
    plan: PlanOnly = False,
    reading: CheckpointOptions,
    force_resources: ForceResources = False,
    memory: Memory = None,
    olive: OliveOptions,
    as_json: Json = False,
) -> int:
    """Convert and quantize a checkpoint into a package folder."""
    from edgeship import builder as builds
    from edgeship import readers
    from edgeship.builder import packaging
    from edgeship.package.names import check_name, of_folder
    from edgeship.store import packages

    current = settings.resolve(memory=memory)
    olive.require_cpu()
    file = _recipe_file(config, precision, changes)
    for remark in file.notes:
        note(f"{config}: {remark}")
    source = _the_one_given(checkpoint, olive.model_name_or_path) or file.checkpoint
    if source is None:
        raise UsageError("no checkpoint is given", hint="Give a folder or a Hub id; see --help.")
    opened = replace(reading, adapter=reading.adapter or file.adapter).open(source)
    lacking = packaging.require_packable(opened)
    output = output or file.output
    name = check_name(name or (of_folder(output)[0] if output else f"{opened.name}-{file.recipe.label}"))
    output = output or Path("models") / name
    planned = builds.plan(opened, file.recipe, current)
    spelling = readers.spell(opened)
    planned = replace(planned, notes=(*planned.notes, *lacking, *readers.notes(spelling)))
    if plan:
        return _print_plan(planned, as_json=as_json)
    for remark in planned.notes:
        note(f"note: {remark}")
    packaging.require_free(output)
    packages.require_not_installed(output, current.cache_dir)
    with telling(quiet=olive.quiet) as progress:
        built = builds.carry_out(planned, current, progress, force_resources=force_resources)
        progress("package", None)
        made = readers.write_package(built, opened, output, spelling)
    _print_built(built, made, name, output, as_json=as_json)
    return 0


def _recipe_file(config: Path | None, precision: RecipeName | None, options: RecipeOptions) -> RecipeFile:
    """What the config file says, where there is one, with the options that were given on top."""
    from edgeship.recipe import RECIPES, RecipeFile, make_recipe, named_recipe
    from edgeship.recipe.file import read_recipe_file

    where = "command line"
    changes = options.changes()
    if config is None:
        return RecipeFile(recipe=named_recipe(str(precision or RecipeName.INT4), changes, where=where))
    file = read_recipe_file(config)
    named = {"name": str(precision), **RECIPES[precision]} if precision else {}
    merged = file.recipe.model_dump() | named | changes
    return file.model_copy(update={"recipe": make_recipe(merged, where=where)})


def _the_one_given(checkpoint: str | None, model_name_or_path: str | None) -> str | None:
    if checkpoint is not None and model_name_or_path is not None:
        raise UsageError("CHECKPOINT and --model_name_or_path are both given", hint="Give one of them.")
    return checkpoint or model_name_or_path


def _print_plan(plan: Plan, *, as_json: bool) -> int:
    from edgeship.system.storage import megabytes

    needs = plan.prediction
    if as_json:
        shown = ("name", "key", "done", "needs", "detail")
        steps = [{key: getattr(step, key) for key in shown} for step in plan.steps]
        print_json({"steps": steps, "prediction": asdict(needs), "notes": plan.notes})
        return 0
    rows = [[step.name, "done" if step.done else "to do", step.key[:12], step.detail] for step in plan.steps]
    print_table(["STEP", "STATE", "KEY", "WHAT"], rows)
    show(
        f"predicted: {'at most ' if plan.recipe.budgeted else ''}{megabytes(needs.size_bytes)} of model, "
        f"{megabytes(needs.build_peak_memory_bytes)} of memory at the most, "
        f"{megabytes(needs.disk_bytes)} of disk" + (f", about {needs.time_s:.0f} s" if needs.time_s else "")
    )
    for remark in plan.notes:
        show(f"note: {remark}")
    return 0


def _print_built(built: Build, made: Package, name: str, output: Path, *, as_json: bool) -> None:
    from edgeship.package.names import of_folder
    from edgeship.system.storage import megabytes

    if as_json:
        facts: dict[str, Any] = {
            "package": name,
            "folder": str(made.folder),
            "digest": made.digest,
            "size_bytes": made.manifest.size_bytes,
            "recipe": built.recipe.to_key(),
            "builder": built.builder,
            "wall_s": built.wall_s,
            "peak_memory_bytes": built.peak_memory_bytes,
        }
        print_json(facts)
        return
    # A package holds no name: where its folder has another, the name is given when it is installed.
    named = () if of_folder(output)[0] == name else ("--name", name)
    show(f"built {name} ({megabytes(made.manifest.size_bytes)}) in {output}")
    show(f"install: {our_command('cache', 'add', str(output), *named)}")
    show(f'try:     {our_command("model", "run", str(output))} "..."')
