"""The command line: thin commands over the verbs, and the one error handler."""

from __future__ import annotations

import sys
from collections.abc import Sequence

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; every failure ends here as one message."""
    from edgeship.cli import failure

    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        from edgeship.cli.parser import app

        result = app(args=given, prog_name="edgeship", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        print("\ninterrupted; finished steps are kept, the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return failure.reader_gone()
    except Exception as error:
        return failure.explain(error, as_json=as_json)


def entry() -> None:
    """The console script."""
    sys.exit(main())
