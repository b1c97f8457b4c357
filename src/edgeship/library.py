"""`load`, `build` and `ship` as a program calls them: with names, paths and plain values.

Settings come from where the command line has them: the environment, the config file, defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from edgeship import settings, targets
from edgeship.engine.api import DEFAULT_LIMITS, Limits
from edgeship.errors import UsageError
from edgeship.model import Model, held_to
from edgeship.package.names import check_name
from edgeship.progress import Progress, silent
from edgeship.recipe import Recipe, named_recipe
from edgeship.system import foreign
from edgeship.system.fields import shown

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint
    from edgeship.measure.choice.choose import Thresholds, Undecided
    from edgeship.package.manifest import Package
    from edgeship.preflight import ReferenceName
    from edgeship.release_gate import Effort as GateEffort
    from edgeship.shipping import Shipped


def load(
    target: str | Path,
    *,
    model: str | None = None,
    api_key: str | None = None,
    threads: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    cache_dir: str | Path | None = None,
) -> Model:
    """The model that a name, a folder, foundry:NAME or a URL means, ready to answer (docs/targets.md).

    model, api_key: for a URL, which of its models and the key that it wants. threads: by default what `edgeship tune`
    measured, or all cores. limits: how many answers at once, how long, and how much memory.
    Raises NameInvalid, PackageNotFound, EngineFailed; for Foundry Local also RegistrationNotFound, FoundryFailed,
    DependencyMissing.
    """
    if not isinstance(target, str | Path):
        raise _unfit("target", target, "a text or a Path", "Name a package, a folder or a URL.")
    for name, given in (("model", model), ("api_key", api_key)):
        if not isinstance(given, str | None):
            raise _unfit(name, given, "a text", f"Leave {name} out, or write a text.")
    current = settings.resolve(cache_dir=_optional_path("cache_dir", cache_dir), threads=threads)
    return Model(targets.resolve(target, current).open(limits=limits, model=model, api_key=api_key))


def build(
    checkpoint: str | Path | Checkpoint,
    recipe: str | Recipe = "int4",
    *,
    output: str | Path,
    adapter: str | Path | None = None,
    variables: Mapping[str, Any] | None = None,
    force_resources: bool = False,
    progress: Progress = silent,
) -> Package:
    """Makes the package folder `output` of a checkpoint; a package that lies there is replaced.

    checkpoint: a folder, a Hub id, or what `open_checkpoint` gave. recipe: a recipe, or the name of one.
    variables: for the chat template, where a conversation brings no others.
    force_resources: begin even where memory or disk look too small.
    Raises what `open_checkpoint` raises, RecipeInvalid, TemplateMissing, TemplateMismatch, MemoryShort, DiskShort,
    BuilderFailed, UsageError where `output` is something else than a package.
    """
    from edgeship import builder, readers
    from edgeship.builder import packaging
    from edgeship.store import packages

    opened, folder = _opened(checkpoint, adapter, variables), _path("output", output)
    current = settings.resolve()
    packaging.require_free(folder)
    packages.require_not_installed(folder, current.cache_dir)
    spelling = readers.spell(opened)
    lacking = packaging.require_packable(opened)
    planned = builder.plan(opened, _recipe(recipe), current)
    for remark in (*planned.notes, *lacking, *readers.notes(spelling)):
        progress(f"note: {remark}", None)
    built = builder.carry_out(planned, current, progress, force_resources=force_resources)
    return readers.write_package(built, opened, folder, spelling)


def ship(
    checkpoint: str | Path | Checkpoint,
    *,
    eval: str | Path | None = None,  # noqa: A002 - what the command line calls it too
    eval_limit: int | None = None,
    schema: Mapping[str, Any] | str | type[Any] | None = None,
    name: str | None = None,
    recipes: str | Recipe | Sequence[str | Recipe] | None = None,
    adapter: str | Path | None = None,
    variables: Mapping[str, Any] | None = None,
    thresholds: Thresholds | None = None,
    undecided: Undecided = "take",
    reference: Literal["auto"] | ReferenceName = "auto",
    report: str | Path | None = None,
    escalate: bool = False,
    gate: str | Path | None = None,
    gate_effort: GateEffort = "quick",
    force: bool = False,
    force_resources: bool = False,
    cache_dir: str | Path | None = None,
    progress: Progress = silent,
) -> Shipped:
    """Builds every candidate, measures them, and installs the smallest that is good enough and passes the release gate.

    checkpoint: a folder, a Hub id, or what `open_checkpoint` gave. eval: questions with expected answers, as JSON
    Lines; without one it is decided by how closely the candidates follow the checkpoint's own answers. schema: what
    answers to the questions are held to, as `Model.ask` takes it. name: packages are called NAME-RECIPE.
    recipes: the candidates, by default fp32, fp16, int8 and int4; fp32 among them is the baseline.
    variables: for the chat template, where a conversation brings no others.
    undecided: whether a candidate may ship that too few cases leave undecided, where what was measured lies within the
    thresholds ("take"), or only one that is shown to hold ("refuse").
    escalate: give INT4 more bits where it is not good enough, until it is.
    gate: a gate file, as `edgeship validate` takes it. gate_effort: how closely the gate looks; "off" leaves it out.
    report: the folder for the report. force: install what fails the release gate all the same, marked as failed.
    force_resources: begin even where memory or disk look too small.
    That no candidate holds, or that the gate refuses it, is a result, whose `package` is None. Raises what the stages
    raise.
    """
    from edgeship import preflight, release_gate, shipping
    from edgeship.measure.choice.choose import Thresholds, Undecided

    limits = thresholds or shipping.DEFAULT_THRESHOLDS
    references = ("auto", *get_args(preflight.ReferenceName))
    if eval_limit is not None and not (type(eval_limit) is int and eval_limit > 0):
        raise _unfit("eval_limit", eval_limit, "a whole number of at least 1", "Leave it out for all cases.")
    if not isinstance(limits, Thresholds):
        raise _unfit("thresholds", limits, "edgeship.Thresholds", "Leave them out for the usual ones.")
    if undecided not in get_args(Undecided):
        raise _unfit("undecided", undecided, "'take' or 'refuse'", "Leave it out to take what looks as if it held.")
    if reference not in references:
        raise _unfit("reference", reference, f"one of {', '.join(references)}", "Leave it out for the best there is.")
    efforts = get_args(release_gate.Effort)
    if gate_effort not in efforts:
        raise _unfit("gate_effort", gate_effort, f"one of {', '.join(efforts)}", "Leave it out for a quick look.")
    return shipping.ship(
        _opened(checkpoint, adapter, variables),
        settings=settings.resolve(cache_dir=_optional_path("cache_dir", cache_dir)),
        name=name if name is None else _name(name),
        recipes=_recipes(shipping.CANDIDATES if recipes is None else recipes),
        thresholds=limits,
        undecided=undecided,
        reference=reference,
        eval_file=_optional_path("eval", eval),
        eval_limit=eval_limit,
        constraint=None if schema is None else held_to(schema),
        report_dir=_optional_path("report", report),
        escalate=escalate,
        gate=release_gate.opened(_optional_path("gate", gate), gate_effort, force=force),
        force_resources=force_resources,
        progress=progress,
    )


def _opened(
    checkpoint: str | Path | Checkpoint, adapter: str | Path | None, variables: Mapping[str, Any] | None
) -> Checkpoint:
    from edgeship.checkpoint import Checkpoint, open_checkpoint

    if isinstance(checkpoint, str | Path):
        return open_checkpoint(str(checkpoint), adapter=_optional_path("adapter", adapter), variables=variables or {})
    if not isinstance(checkpoint, Checkpoint):
        raise _unfit("checkpoint", checkpoint, "a folder, a Hub id or what open_checkpoint gave", "Name a folder.")
    for what, given in (("an adapter is", adapter), ("template variables are", variables)):
        if given is not None:
            raise UsageError(f"the checkpoint is open already, and {what} given", hint="Give it to `open_checkpoint`.")
    return checkpoint


def _recipes(given: str | Recipe | Sequence[str | Recipe]) -> tuple[Recipe, ...]:
    several = given if isinstance(given, list | tuple) else (given,)
    if not several:
        raise UsageError("there is no candidate to ship", hint="Name at least one recipe, or leave `recipes` out.")
    return tuple(map(_recipe, several))


def _recipe(recipe: str | Recipe) -> Recipe:
    if not isinstance(recipe, str | Recipe):
        raise _unfit("recipe", recipe, "a Recipe, or the name of one", 'Write "int4".')
    return recipe if isinstance(recipe, Recipe) else named_recipe(recipe, {}, where="recipe")


def _name(given: str) -> str:
    if not isinstance(given, str):
        raise _unfit("name", given, "a text", "Leave it out for the checkpoint's.")
    return check_name(given)


def _optional_path(name: str, given: str | Path | None) -> Path | None:
    return None if given is None else _path(name, given)


def _path(name: str, given: str | Path) -> Path:
    try:
        return foreign.named_path(given)
    except ValueError as error:
        wanted = f"the path of a file or a folder, and {error}"
        raise _unfit(name, given, wanted, f"Leave {name} out, or name a path.") from error


def _unfit(name: str, given: object, wanted: str, hint: str) -> UsageError:
    return UsageError(f"{name} is {shown(given)}; it must be {wanted}", hint=hint)
