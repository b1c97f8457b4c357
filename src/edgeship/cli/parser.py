"""Every command and its options; each hands plain values to one function and returns its exit code."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edgeship.cli.foundry_parser import foundry_app
from edgeship.cli.options import (
    CANDIDATES,
    Adapter,
    AllowPickle,
    Asymmetric,
    Bits,
    BlockSize,
    Budget,
    Builder,
    CacheDir,
    Calibrate,
    ChatTemplate,
    CheckpointArgument,
    Force,
    Json,
    LogLevel,
    MaxTokens,
    Memory,
    Method,
    OptionalReference,
    PackageArgument,
    Prompt,
    RecipeName,
    Reference,
    ReferenceName,
    Revision,
    RunArgument,
    Schema,
    Stats,
    System,
    Temperature,
    Threads,
)
from edgeship.version import __version__

app = typer.Typer(
    name="edgeship",
    help="Takes a fine-tuned small language model from its checkpoint to a measured, packaged, running model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache_app = typer.Typer(no_args_is_help=True, help="The folder where packages live.")
model_app = typer.Typer(no_args_is_help=True, help="List, describe and run packages.")
app.add_typer(cache_app, name="cache")
app.add_typer(model_app, name="model")
app.add_typer(foundry_app, name="foundry")


def _text(choice: StrEnum | None) -> str | None:
    """A choice as plain text, None where there was none."""
    return choice.value if choice else None


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"edgeship {__version__}")
        raise typer.Exit


@app.command()
def doctor(as_json: Json = False, cache_dir: CacheDir = None, memory: Memory = None) -> int:
    """Check what this machine can build and run."""
    from edgeship.cli import look

    return look.doctor(cache_dir=cache_dir, memory=memory, as_json=as_json)


@app.command()
def inspect(
    checkpoint: CheckpointArgument,
    adapter: Adapter = None,
    revision: Revision = None,
    chat_template: ChatTemplate = None,
    allow_pickle: AllowPickle = False,
    memory: Memory = None,
    as_json: Json = False,
) -> int:
    """Describe a checkpoint, and predict what each precision will need."""
    from edgeship.cli import look

    source = look.Source(checkpoint, adapter, revision, chat_template, allow_pickle)
    return look.inspect(source, memory=memory, as_json=as_json)


@app.command()
def build(
    checkpoint: Annotated[
        str | None,
        typer.Argument(metavar="[CHECKPOINT]", help="A folder, or a Hub id: org/name or org/name@revision."),
    ] = None,
    model_name_or_path: Annotated[
        str | None, typer.Option("--model_name_or_path", help="The same as CHECKPOINT.", show_default=False)
    ] = None,
    precision: Annotated[
        RecipeName | None,
        typer.Option("--precision", "-p", help=f"A recipe: {', '.join(RecipeName)}.", show_default="int4"),
    ] = None,
    block_size: BlockSize = None,
    asymmetric: Asymmetric = False,
    method: Method = None,
    bits: Bits = None,
    budget: Budget = None,
    calibrate: Calibrate = None,
    builder: Builder = None,
    adapter: Adapter = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="A recipe in TOML, or an Olive workflow in JSON.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", "--output_path", help="The package folder to make.", show_default="models/NAME"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="The package's name.", show_default="the output folder's"),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the steps and what they need; build nothing.")] = False,
    revision: Revision = None,
    chat_template: ChatTemplate = None,
    allow_pickle: AllowPickle = False,
    force: Force = False,
    memory: Memory = None,
    device: Annotated[str, typer.Option("--device", help="Only cpu, for now.")] = "cpu",
    provider: Annotated[str, typer.Option("--provider", help="Only this one, for now.")] = "CPUExecutionProvider",
    use_model_builder: Annotated[
        bool, typer.Option("--use_model_builder", help="Accepted; it is what happens anyway.")
    ] = False,
    log_level: Annotated[
        LogLevel | None,
        typer.Option("--log_level", help="3 and above show no progress.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Convert and quantize a checkpoint into a package folder."""
    del use_model_builder
    from edgeship.cli import look, make

    return make.build(
        make.BuildRequest(
            source=look.Source(checkpoint or model_name_or_path, adapter, revision, chat_template, allow_pickle),
            both=checkpoint is not None and model_name_or_path is not None,
            precision=_text(precision),
            options=make.RecipeOptions(block_size, asymmetric, _text(method), bits, budget, calibrate, _text(builder)),
            config=config,
            output=output,
            name=name,
            force=force,
            device=device,
            provider=provider,
        ),
        plan_only=plan,
        memory=memory,
        quiet=log_level is not None and int(log_level.value) >= 3,
        as_json=as_json,
    )


@app.command()
def ship(
    checkpoint: CheckpointArgument,
    adapter: Adapter = None,
    eval_file: Annotated[
        Path | None,
        typer.Option("--eval", help="Questions with expected answers, as JSON Lines.", show_default=False),
    ] = None,
    eval_limit: Annotated[
        int | None, typer.Option("--eval-limit", min=1, help="Ask only N of them, taken evenly.", show_default=False)
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Packages are called NAME-RECIPE.", show_default="the checkpoint's"),
    ] = None,
    precision: Annotated[
        list[RecipeName] | None,
        typer.Option(
            "--precision",
            "-p",
            help=f"A candidate, one of {', '.join(RecipeName)}; repeat it for several.",
            show_default=", ".join(CANDIDATES),
        ),
    ] = None,
    block_size: BlockSize = None,
    asymmetric: Asymmetric = False,
    method: Method = None,
    bits: Bits = None,
    budget: Budget = None,
    calibrate: Calibrate = None,
    builder: Builder = None,
    reference: Annotated[
        ReferenceName,
        typer.Option(
            "--reference",
            help="What agreement is measured with: the checkpoint in transformers, or its FP32 build; "
            "auto takes transformers where it is installed.",
        ),
    ] = ReferenceName.AUTO,
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0, max=1, help="Largest loss of pass rate against FP32.")
    ] = 0.02,
    min_pass_rate: Annotated[
        float, typer.Option("--min-pass-rate", min=0, max=1, help="Smallest pass rate that ships.")
    ] = 0.8,
    max_kld: Annotated[
        float,
        typer.Option("--max-kld", min=0, help="Without --eval: largest mean KLD, in nats, from the reference."),
    ] = 0.1,
    min_top1: Annotated[
        float, typer.Option("--min-top1", min=0, max=1, help="Without --eval: smallest top-1 agreement.")
    ] = 0.9,
    ask: Annotated[
        str | None,
        typer.Option("--ask", help="What to ask the installed model.", show_default="the eval's first question"),
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Folder for the report.", show_default=False)] = None,
    revision: Revision = None,
    chat_template: ChatTemplate = None,
    allow_pickle: AllowPickle = False,
    force: Force = False,
    cache_dir: CacheDir = None,
    threads: Threads = None,
    memory: Memory = None,
    as_json: Json = False,
) -> int:
    """Build every candidate, measure them, choose one, install it and check it."""
    from edgeship.cli import look, make

    return make.ship(
        make.ShipRequest(
            source=look.Source(checkpoint, adapter, revision, chat_template, allow_pickle),
            eval_file=eval_file,
            eval_limit=eval_limit,
            name=name,
            precisions=tuple(choice.value for choice in precision or CANDIDATES),
            options=make.RecipeOptions(block_size, asymmetric, _text(method), bits, budget, calibrate, _text(builder)),
            reference=reference.value,
            max_drop=max_drop,
            min_pass_rate=min_pass_rate,
            max_mean_kld=max_kld,
            min_top1=min_top1,
            ask=ask,
            report=report,
            force=force,
        ),
        cache_dir=cache_dir,
        threads=threads,
        memory=memory,
        as_json=as_json,
    )


@app.command()
def tune(
    name: PackageArgument,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Measure what is fastest on this machine for a package, and use it from now on."""
    from edgeship.cli import tune as tuning

    return tuning.tune(name, cache_dir=cache_dir, as_json=as_json)


@app.command("olive-config")
def olive_config(
    checkpoint: CheckpointArgument,
    adapter: Adapter = None,
    precision: Annotated[
        RecipeName, typer.Option("--precision", "-p", help=f"A recipe: {', '.join(RecipeName)}.")
    ] = RecipeName.INT4,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write.", show_default="printed"),
    ] = None,
    as_json: Json = False,
) -> int:
    """Write an Olive workflow (JSON) that builds the same, for `edgeship build --config` and for Olive itself."""
    from edgeship.cli import look, make

    return make.olive_config(look.Source(checkpoint, adapter), precision.value, output, as_json=as_json)


@cache_app.command("cd")
def cache_cd(path: Path, as_json: Json = False) -> int:
    """Use this folder as the cache from now on."""
    from edgeship.cli import shelf

    return shelf.cd(path, as_json=as_json)


@cache_app.command("location")
def cache_location(cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """Print the cache folder."""
    from edgeship.cli import shelf

    return shelf.location(cache_dir=cache_dir, as_json=as_json)


@cache_app.command("ls")
def cache_ls(cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """List the packages in the cache."""
    from edgeship.cli import shelf

    return shelf.ls(cache_dir=cache_dir, as_json=as_json)


@cache_app.command("add")
def cache_add(
    folder: Path,
    name: Annotated[str | None, typer.Option("--name", help="Install under this name.", show_default=False)] = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> int:
    """Install a package folder that `build` made."""
    from edgeship.cli import shelf

    return shelf.add(folder, name=name, cache_dir=cache_dir, as_json=as_json)


@cache_app.command("rm")
def cache_rm(name: Reference, cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """Remove a package: one version, or all of a name."""
    from edgeship.cli import shelf

    return shelf.rm(name, cache_dir=cache_dir, as_json=as_json)


@cache_app.command("verify")
def cache_verify(name: OptionalReference = None, cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """Compare packages with their manifests, byte for byte."""
    from edgeship.cli import shelf

    return shelf.verify(name, cache_dir=cache_dir, as_json=as_json)


@model_app.command("ls")
def model_ls(cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """List the models that can be run."""
    from edgeship.cli import shelf

    return shelf.ls(cache_dir=cache_dir, as_json=as_json)


@model_app.command("info")
def model_info(name: Reference, cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """Describe a package: what it is made of, how it measured, how it is prompted."""
    from edgeship.cli import shelf

    return shelf.info(name, cache_dir=cache_dir, as_json=as_json)


@model_app.command("run")
def model_run(
    name: RunArgument,
    prompt: Prompt = None,
    system: System = None,
    temperature: Temperature = None,
    top_p: Annotated[float | None, typer.Option("--top-p", show_default="the package's")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", show_default="the package's")] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option("--repetition-penalty", show_default="the package's")
    ] = None,
    min_p: Annotated[float | None, typer.Option("--min-p", show_default=False)] = None,
    presence_penalty: Annotated[float | None, typer.Option("--presence-penalty", show_default=False)] = None,
    frequency_penalty: Annotated[float | None, typer.Option("--frequency-penalty", show_default=False)] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="A text that ends the answer; may be given again.", show_default=False),
    ] = None,
    schema: Schema = None,
    regex: Annotated[
        str | None, typer.Option("--regex", help="A regular expression, likewise.", show_default=False)
    ] = None,
    grammar: Annotated[
        Path | None, typer.Option("--grammar", help="A grammar in Lark's notation, likewise.", show_default=False)
    ] = None,
    max_tokens: MaxTokens = None,
    seed: Annotated[int | None, typer.Option("--seed", show_default=False)] = None,
    stats: Stats = False,
    cache_dir: CacheDir = None,
    threads: Threads = None,
    as_json: Json = False,
) -> int:
    """Chat with a model, or ask it once."""
    from edgeship.cli import run
    from edgeship.engine.api import Sampling

    return run.run(
        run.RunRequest(
            name=name,
            prompt=prompt,
            system=system,
            sampling=Sampling(
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                presence_penalty=presence_penalty,
                frequency_penalty=frequency_penalty,
                max_tokens=max_tokens,
                seed=seed,
                stop=tuple(stop or ()),
                constraint=run.constraint(schema=schema, regex=regex, grammar=grammar),
            ),
        ),
        cache_dir=cache_dir,
        threads=threads,
        stats=stats,
        as_json=as_json,
    )
