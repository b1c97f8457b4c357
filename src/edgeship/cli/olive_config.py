"""`edgeship olive-config`: a recipe as a workflow that Olive runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeship.cli.options import Adapter, CheckpointArgument, Json, RecipeName, as_path
from edgeship.cli.output import print_facts
from edgeship.cli.streams import show
from edgeship.errors import NotWritable, UsageError
from edgeship.system.shell import our_command

Precision = Annotated[RecipeName, typer.Option("--precision", "-p", help=f"A recipe: {', '.join(RecipeName)}.")]


def olive_config(
    checkpoint: CheckpointArgument,
    adapter: Adapter = None,
    precision: Annotated[
        RecipeName, typer.Option("--precision", "-p", help=f"A recipe: {', '.join(RecipeName)}.")
    ] = RecipeName.INT4_FAST,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write.", show_default="printed", parser=as_path),
    ] = None,
    as_json: Json = False,
) -> int:
    """Write an Olive workflow (JSON) that builds the same, for `edgeship build --config` and for Olive itself."""
    from edgeship.checkpoint import open_checkpoint
    from edgeship.recipe import named_recipe, olive
    from edgeship.system.storage import write_file

    if output is not None and output.is_dir():  # also "" and ".", which mean the working directory
        raise UsageError("the output is a folder", where=str(output), hint="Name the file to write in it.")
    recipe = named_recipe(str(precision), {}, where="command line")
    built = f"models/{open_checkpoint(checkpoint, adapter=adapter).name}-{recipe.label}"
    text = olive.render(recipe, checkpoint, adapter, built)
    if output is None:
        show(text.rstrip("\n"))
        return 0
    try:
        write_file(output, text)
    except OSError as error:
        raise NotWritable(f"the workflow cannot be written: {error.strerror or error}", where=str(output)) from error
    said = f"wrote {output}\nbuild: {our_command('build', '--config', str(output))}"
    return print_facts({"workflow": str(output)}, said, as_json=as_json)
