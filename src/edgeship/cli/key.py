"""`edgeship key ...`: the API keys of a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgeship.cli.options import Json, as_path, grouped
from edgeship.cli.output import note, print_facts, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="The API keys of a server.")

KeyFile = Annotated[
    Path, typer.Option("--file", help="The file of keys, as `serve --api-key-file` takes it.", parser=as_path)
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is: logs and metrics say so.")]


@dataclass(frozen=True)
class KeyLimits:
    """What a key allows."""

    requests_per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", min=1, help="Requests a minute.", show_default="no limit")
    ] = None
    tokens_per_minute: Annotated[
        int | None,
        typer.Option(
            "--tokens-per-minute", min=1, help="Tokens a minute, of prompts and answers.", show_default="no limit"
        ),
    ] = None
    concurrent: Annotated[
        int | None, typer.Option("--concurrent", min=1, help="Requests at the same time.", show_default="no limit")
    ] = None
    priority: Annotated[
        int,
        typer.Option(
            "--priority",
            help="Where requests wait, those with the higher priority go first.",
        ),
    ] = 0


@app.command()
@grouped
def add(*, name: Name, file: KeyFile, limits: KeyLimits, as_json: Json = False) -> int:
    """Make a key and print it, this once: the file keeps only its hash. A server that runs takes it at once."""
    from edgeship.serve import key_file

    key = key_file.new_key()
    key_file.add(file, key_file.Key(name, key_file.hash_of(key), **vars(limits)))
    note(f"note: this is the only time that the key of {name} is shown")
    return print_facts({"name": name, "key": key}, key, as_json=as_json)


@app.command()
def ls(file: KeyFile, as_json: Json = False) -> int:
    """List the keys by name, with what they allow."""
    from edgeship.serve import key_file

    keys = key_file.read(file)
    if as_json:
        print_json({"keys": [{"name": key.name, **key_file.limits_of(key)} for key in keys]})
        return 0
    header = ["NAME", "REQUESTS/MIN", "TOKENS/MIN", "CONCURRENT", "PRIORITY"]
    rows = [
        [key.name, *("-" if value is None else str(value) for value in key_file.limits_of(key).values())]
        for key in keys
    ]
    print_table(header, rows)
    return 0


@app.command()
def remove(name: Name, file: KeyFile, as_json: Json = False) -> int:
    """Take a key away. A server that runs refuses it at once."""
    from edgeship.serve import key_file

    key_file.remove(file, name)
    return print_facts({"removed": name}, f"removed the key of {name}", as_json=as_json)
