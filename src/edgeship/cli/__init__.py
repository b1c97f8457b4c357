"""The command line: one module a command, called like it, and the one error handler."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; every failure ends here as one message."""
    from edgeship.cli import failure, streams

    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except streams.OutputLost as error:
        return failure.output_lost(error)


def _run(given: list[str]) -> int:
    from edgeship.cli import failure, streams
    from edgeship.errors import came_from

    words = given[2:] if given[:1] == ["--log-level"] else given
    command = next((word for word in words if not word.startswith("-")), "")
    try:
        import typer.main

        from edgeship.cli.app import app

        # Not through typer's own main, which would end some failures by itself.
        ours = typer.main.get_command(app)
        with ours.make_context("edgeship", given) as context:
            result = ours.invoke(context)
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return failure.interrupted(command)
    except (SystemExit, streams.OutputLost):
        raise
    except BaseException as error:  # a panic in a library written in Rust is no Exception
        # Native modules that are interrupted while they start say that they failed.
        if came_from(error, KeyboardInterrupt):
            return failure.interrupted(command)
        return failure.explain(error, as_json="--json" in given, log_json="--log-json" in given, command=command)


def entry() -> None:
    """The console script."""
    try:
        from edgeship.cli import streams

        streams.prepare()
        code = main()
    except KeyboardInterrupt:  # while the modules are imported that would say so, or once more while they do
        sys.stderr.write("\ninterrupted\n")  # a text of ours, which needs no filter
        code = 130
    sys.exit(code)
