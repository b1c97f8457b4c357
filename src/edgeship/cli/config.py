"""`edgeship config`: every setting, where it comes from, and how to change it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from edgeship import settings
from edgeship.cli import streams
from edgeship.cli.options import Json
from edgeship.cli.output import note, print_facts, print_json, print_table

Key = Annotated[str, typer.Argument(metavar="KEY", help=f"One of {', '.join(settings.CONFIG_KEYS)}.")]

app = typer.Typer(help="Show the settings, and change what a new command finds.")


@app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: Json = False) -> int:
    """Show each setting with its value and where it comes from; `set` and `unset` change the config file."""
    if context.invoked_subcommand is not None:
        return 0
    current = settings.resolve()
    found = settings.described(current)
    if as_json:
        values = {key: {"value": value, "from": origin} for key, value, origin in found}
        print_json({"config_file": str(current.config_file), "settings": values})
        return 0
    print_table(["SETTING", "VALUE", "FROM"], [[key, _shown(value), origin] for key, value, origin in found])
    streams.show(f"config file: {current.config_file}")
    return 0


@app.command("set", context_settings={"ignore_unknown_options": True})
def set_value(
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="A folder, a number, or an amount like 8GB.")],
    as_json: Json = False,
) -> int:
    """Write a setting into the config file."""
    file = settings.config_file()
    settings.write_config(file, key, value)
    tell_if_overridden(key)
    return print_facts({"set": key, "value": value, "config_file": str(file)}, f"{key} is {value} now", as_json=as_json)


@app.command()
def unset(key: Key, as_json: Json = False) -> int:
    """Take a setting out of the config file."""
    file = settings.config_file()
    settings.write_config(file, key, None)
    tell_if_overridden(key)
    return print_facts({"unset": key, "config_file": str(file)}, f"{key} has its default again", as_json=as_json)


def tell_if_overridden(key: str) -> None:
    """Says it where the environment has the last word."""
    variable = settings.variable(key)
    if os.environ.get(variable):
        note(f"note: {variable} is set to {os.environ[variable]}, and goes before the config file")


def _shown(value: object) -> str:
    if value is None:
        return "what the machine has"
    return f"{value:,}" if isinstance(value, int) else str(value)
