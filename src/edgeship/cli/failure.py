"""Errors as the user sees them, and the log of those that are our own fault."""

from __future__ import annotations

import errno
import logging
import platform
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgeship.cli.streams import OutputLost, give_up_output, say
from edgeship.errors import EdgeshipError, NotWritable, UsageError, in_words
from edgeship.system import log
from edgeship.system.shell import as_typed
from edgeship.system.shortage import ran_out
from edgeship.version import __version__

EXIT_INTERRUPTED = 130
_log = logging.getLogger("edgeship.cli")
_REPORT = (
    "Please report it with that file. It holds versions and the call stack, and may hold names and values from your "
    "files: read it before you send it."
)
_BUILD = ("build", "ship", "compare")
_MEASURE = ("bench", "eval", "validate")
_KEPT_LOGS, _LOG_HALF, _MOST_CHARACTERS = 20, 1 << 17, 1000


def explain(error: BaseException, *, as_json: bool, log_json: bool = False, command: str = "") -> int:
    """Prints what happened, where, and what to try; returns the exit code.

    log_json: whoever reads stderr expects lines of JSON there, and gets one.
    """
    import typer
    from typer.exceptions import TyperException

    tell = partial(_print, as_json=as_json, log_json=log_json)
    error = ran_out(error) or error
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        error = UsageError("a name is longer than this system allows", hint="Give a shorter one.")
    if isinstance(error, EdgeshipError):
        return tell(error.to_dict())
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, typer.Abort):
        return interrupted(command)
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            say(error.format_message())
            return 2
        command = context.command_path if context else "edgeship"
        hint = f"See `{command} --help`."
        if meant := _meant_by(getattr(error, "option_name", ""), command):
            hint = f"{meant} {hint}"
        return tell(_facts("usage", 2, error.format_message(), hint=hint))
    said = "".join(traceback.format_exception(error))
    facts = _facts("internal", 3, _shortened(f"a fault in Edgeship itself: {type(error).__name__}: {error}"))
    try:
        facts |= {"where": str(_write_log(said)), "hint": _REPORT}
    except OSError as unwritten:
        say(said)
        facts |= {"hint": f"Please report it with what stands above, which could not be kept in a file: {unwritten}."}
    return tell(facts)


def _meant_by(option: str, command: str) -> str | None:
    from edgeship.cli import elsewhere

    return elsewhere.meant_by(option, command.rpartition(" ")[2])


def interrupted(command: str = "") -> int:
    """Says what is left of that command's work; returns the exit code."""
    left = "; what was built is kept, and the same command goes on from there" if command in _BUILD else ""
    anew = "; the same command begins anew" if command in _MEASURE else ""
    say(f"\ninterrupted{left or anew}")
    return EXIT_INTERRUPTED


def output_lost(error: OutputLost) -> int:
    """Says that stdout cannot be written to; returns the exit code."""
    give_up_output()
    if error.had_enough:
        return 0
    lost = NotWritable(
        f"stdout cannot be written to: {error.__cause__}", hint="See where it leads, and whether it has room."
    )
    return _print(lost.to_dict(), as_json=False)


def _facts(
    code: str, exit_code: int, what: str, *, where: str | None = None, hint: str | None = None
) -> dict[str, str | int | None]:
    return {"code": code, "exit_code": exit_code, "what": what, "where": where, "hint": hint}


def _print(facts: Mapping[str, Any], *, as_json: bool, log_json: bool = False) -> int:
    facts = {key: as_typed(value) if isinstance(value, str) else value for key, value in facts.items()}
    if as_json:
        from edgeship.cli.output import print_json

        try:
            print_json({"error": facts})
        except OutputLost:  # the error stays one, with its exit code
            give_up_output()
    if log_json:
        log.show(log.Level.INFO, as_json=True)
        rest = {name: value for name, value in facts.items() if name != "what"}
        _log.error("%s", facts["what"], extra={"facts": {"message": facts["what"], **rest}})
    else:
        say(f"error[{facts['code']}]: {in_words(facts['what'], facts['where'], facts['hint'])}")
    return int(facts["exit_code"])


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ..."


def _write_log(said: str) -> Path:
    from edgeship.settings import failures_dir
    from edgeship.system.storage import write_private

    about = f"edgeship {__version__}, Python {platform.python_version()}, {platform.platform()}"
    kept = said if len(said) <= 2 * _LOG_HALF else f"{said[:_LOG_HALF]}\n...\n{said[-_LOG_HALF:]}"
    return write_private(failures_dir(), f"{about}\n{kept}", most=_KEPT_LOGS)
