"""Errors as the user sees them, and the log of those that are our own fault."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback
from pathlib import Path

from edgeship.errors import EdgeshipError, memory_ran_out
from edgeship.version import __version__

EXIT_INTERRUPTED = 130


def explain(error: Exception, *, as_json: bool) -> int:
    """Prints what happened, where, and what to try; returns the exit code."""
    import typer
    from typer.exceptions import TyperException

    if isinstance(error, MemoryError):
        error = memory_ran_out(error)
    if isinstance(error, EdgeshipError):
        return _print(error.to_dict(), as_json=as_json)
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, typer.Abort):
        return interrupted()
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)
            return 2
        command = context.command_path if context else "edgeship"
        return _print(_facts("usage", 2, error.format_message(), hint=f"See `{command} --help`."), as_json=as_json)
    log = _write_log(error)
    return _print(
        _facts(
            "internal",
            3,
            f"a fault in Edgeship itself: {type(error).__name__}: {error}",
            where=str(log),
            hint="Please report it with that file; it names versions and the call stack, none of your data.",
        ),
        as_json=as_json,
    )


def came_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether a `kind` is among the causes of `error`."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error is not None


def interrupted() -> int:
    """Says that nothing is lost; returns the exit code."""
    print("\ninterrupted; finished steps are kept, the same command goes on from there", file=sys.stderr)
    return EXIT_INTERRUPTED


def reader_gone() -> int:
    """The reader of our output closed it (`| head`): not a failure, and nothing more can be printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _facts(
    code: str, exit_code: int, what: str, *, where: str | None = None, hint: str | None = None
) -> dict[str, str | int | None]:
    return {"code": code, "exit_code": exit_code, "what": what, "where": where, "hint": hint}


def _print(facts: dict[str, str | int | None], *, as_json: bool) -> int:
    if as_json:
        from edgeship.cli.output import print_json

        print_json({"error": facts})
    print(f"error[{facts['code']}]: {facts['what']}", file=sys.stderr)
    if facts["where"]:
        print(f"  where: {facts['where']}", file=sys.stderr)
    if facts["hint"]:
        print(f"  try:   {facts['hint']}", file=sys.stderr)
    return int(facts["exit_code"] or 3)


def _write_log(error: Exception) -> Path:
    from edgeship.system.storage import write_file

    lines = [
        f"edgeship {__version__}, Python {platform.python_version()}, {platform.platform()}",
        *traceback.format_exception(error),
    ]
    path = Path(tempfile.gettempdir()) / f"edgeship-failure-{os.getpid()}.log"
    write_file(path, "\n".join(lines))
    return path
