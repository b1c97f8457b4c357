"""How results and progress look: tables or JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeship.cli.streams import say, show
from edgeship.errors import UsageError
from edgeship.progress import Progress, silent
from edgeship.system.shell import as_typed
from edgeship.system.text import as_shown, harmless

REPEAT_S = 10.0


def require_places(*paths: Path | None) -> None:
    """That files can be written there, before what they are to hold is measured. Raises UsageError, NotWritable."""
    from edgeship.system.storage import require_writable

    for path in paths:
        if path is not None:
            if path.is_dir():
                raise UsageError("that is a folder, and a file is to be written", where=str(path), hint="Name a file.")
            require_writable(path.absolute().parent, "name a file elsewhere.")


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    show(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_facts(facts: dict[str, Any], text: str, *, as_json: bool) -> int:
    """The same result as JSON or as text; returns the exit code of success."""
    if as_json:
        print_json(facts)
    else:
        show(text)
    return 0


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; columns whose values are numbers are aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column, name in enumerate(header):
        numeric = all(row[column][:1].isdigit() or row[column] in ("", "-") for row in rows)
        table.add_column(name, justify="right" if numeric and rows else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(as_shown(cell, sys.stdout)) for cell in row))
    console().print(table)


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns on stdout."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        show(f"{name:<{width}}  {value}")


def console(*, stderr: bool = False) -> Any:
    """A rich console; when stdout is a pipe or a file, lines are not cut at 80 columns."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 160, soft_wrap=False)


def note(text: str) -> None:
    """A line for the reader, on stderr so that results stay clean; its commands work as they are printed."""
    say(as_typed(text))


@contextmanager
def telling(*, quiet: bool = False) -> Iterator[Progress]:
    """Progress on stderr: one live line on a terminal, elsewhere a line for each new step and now and then."""
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _live() as progress:
            yield progress
    else:
        yield _lines()


@contextmanager
def _live() -> Iterator[Progress]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn())
    with Bar(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        last = ""

        def tell(message: str, fraction: float | None = None) -> None:
            nonlocal last
            if _kind(message) != _kind(last):
                if last:
                    bar.console.print(f"[dim]  {_escape(_past(last))}[/dim]")
                bar.reset(task, total=None)
            last = message
            bar.update(task, description=_escape(message))
            if fraction is not None:
                bar.update(task, total=1.0, completed=fraction)

        yield tell


def _kind(message: str) -> str:
    """What a message is about, up to its first number: counting on is no news. "int4" is a name and no number."""
    return re.split(r"(?<![\w-])\d", message, maxsplit=1)[0]


def _past(message: str) -> str:
    """The last message of a step once it is over: no time is left."""
    return re.sub(r", [^,]* left$", "", message)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(harmless(text))


def _lines() -> Progress:
    started = shown = time.monotonic()
    last = ""

    def tell(message: str, fraction: float | None = None) -> None:  # noqa: ARG001 - lines show no bar
        nonlocal last, shown
        now = time.monotonic()
        if _kind(message) != _kind(last) or now - shown >= REPEAT_S:
            last, shown = message, now
            say(f"[{now - started:6.1f} s] {message}")

    return tell
