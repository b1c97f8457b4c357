"""The command line: one module a command, called like it, and the one error handler."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; every failure ends here as one message."""
    from edgeship.cli import failure

    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        import typer.main

        from edgeship.cli.app import app

        # Not through typer's own main, which would end some failures by itself.
        command = typer.main.get_command(app)
        with command.make_context("edgeship", given) as context:
            result = command.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return failure.interrupted()
    except BrokenPipeError:
        return failure.reader_gone()
    except Exception as error:
        # Native modules that are interrupted while they start say that they failed.
        if failure.came_from(error, KeyboardInterrupt):
            return failure.interrupted()
        return failure.explain(error, as_json=as_json)


def entry() -> None:
    """The console script."""
    # A pipe's encoding may be an old code page, on Windows above all; JSON and answers are UTF-8 everywhere.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    sys.exit(main())
