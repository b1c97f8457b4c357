"""`edgeship model ...`: list, describe and run packages."""

from __future__ import annotations

import typer

from edgeship.cli import cache, model_info, model_run
from edgeship.cli.options import CacheDir, Json

app = typer.Typer(no_args_is_help=True, help="List, describe and run packages.")


@app.command()
def ls(cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """List the models that can be run."""
    return cache.ls(cache_dir=cache_dir, as_json=as_json)


app.command("info")(model_info.info)
app.command("run")(model_run.run)
