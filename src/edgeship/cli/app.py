"""Every command under the name that it is typed by."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeship.cli import (
    bench,
    build,
    cache,
    compare,
    config,
    doctor,
    elsewhere,
    foundry,
    inspect,
    key,
    model,
    olive_config,
    ps,
    report,
    serve,
    ship,
    stop,
    tune,
    validate,
)
from edgeship.cli import eval as evaluation
from edgeship.cli.streams import show
from edgeship.system import log
from edgeship.system.log import Level
from edgeship.version import __version__

app = typer.Typer(
    name="edgeship",
    help="Takes a fine-tuned small language model from its checkpoint to a measured, packaged, running model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    log_level: Annotated[
        Level | None,
        typer.Option(
            "--log-level",
            envvar="EDGESHIP_LOG_LEVEL",
            help="Log to stderr what is done, never what is asked or answered.",
            show_default=False,
        ),
    ] = None,
) -> None:
    if version:
        show(f"edgeship {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")
    if log_level:
        log.show(log_level)


app.command()(doctor.doctor)
app.command()(inspect.inspect)
app.command()(build.build)
app.command()(ship.ship)
app.command()(compare.compare)
app.command()(report.report)
app.command()(serve.serve)
app.command()(ps.ps)
app.command()(stop.stop)
app.command()(tune.tune)
app.command()(bench.bench)
app.command("eval")(evaluation.evaluate)
app.command()(validate.validate)
app.command("olive-config")(olive_config.olive_config)
app.add_typer(cache.app, name="cache")
app.add_typer(model.app, name="model")
app.add_typer(foundry.app, name="foundry")
app.add_typer(key.app, name="key")
app.add_typer(config.app, name="config")
elsewhere.add_to(app, model.app, cache.app, foundry.app, config.app)
