"""How results and progress look: tables or JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
import re
import sys
import textwrap
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeship.cli.streams import say, show
from edgeship.errors import UsageError
from edgeship.progress import Progress, silent
from edgeship.system.shell import as_typed
from edgeship.system.text import harmless

REPEAT_S = 10.0

# A text that is longer may be folded where a terminal is narrow; between two columns stand a rule's margins.
_LONG = 32
_BETWEEN = 3


def require_places(*paths: Path | None, reads: Iterable[str | Path | None] = ()) -> None:
    """That files can be written there and nothing is lost by it, before what they are to hold is measured.

    reads: what the command reads: files, and folders of which no file is to be overwritten; names that are no paths
    are passed over. Raises UsageError, NotWritable.
    """
    from edgeship.package import genai_config, manifest
    from edgeship.system.storage import is_stream, leads_to, may_write, require_writable

    marks = (manifest.MANIFEST_NAME, genai_config.FILE_NAME)
    read = [Path(one).resolve() for one in reads if one and _is_there(one)]
    taken: list[Path] = []
    for path in (path for path in paths if path is not None):
        if path.is_dir():
            raise _refused("that is a folder, and a file is to be written", path, "Name a file.")
        if is_stream(path):
            if not may_write(path):
                raise _refused("that cannot be written", path)
            continue
        place = _place_of(path)
        if any(_is_same(place, other) for other in taken):
            raise _refused("two outputs would be written to that file", path, "Name a file for each.")
        if any(_is_same(place, other) or (other in place.parents and place.exists()) for other in read):
            raise _refused("the command reads that file, and would overwrite it", path)
        if any((folder / mark).exists() for folder in place.parents for mark in marks):
            raise _refused("that lies in a package, which must stay as it was made", path)
        if leads_to(sys.stdout, place):
            raise _refused("stdout leads to that file, and what is printed would be lost", path)
        require_writable(place.parent, "name a file elsewhere.")
        taken.append(place)


def _refused(what: str, path: Path, hint: str = "Name a file elsewhere.") -> UsageError:
    return UsageError(what, where=str(path), hint=hint)


def _place_of(path: Path) -> Path:
    """Where it is once links are followed. Raises UsageError for links that lead to each other."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise _refused(f"that leads nowhere: {error}", path) from error


def _is_there(named: str | Path) -> bool:
    try:
        return Path(named).exists()
    except (OSError, ValueError):  # a URL, or JSON in the place of a file's name
        return False


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(other)
    except OSError:  # one of them is not there yet
        return False


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
    """A table on stdout; columns whose values are numbers are aligned to the right. On a terminal that is too narrow
    for it the columns stand in several tables, each with the first column: a number is never cut into two."""
    cells = [[harmless(cell) for cell in row] for row in rows]
    out = console()
    for part in _parts(header, cells, out.width):
        names, beside = [header[column] for column in part], [[row[column] for column in part] for row in cells]
        out.print(_table(names, beside, out.width))


def print_folded(header: Sequence[str], rows: Sequence[Sequence[str]], *, whole: Collection[str]) -> None:
    """A table on stdout whose rows stay together: where it is too wide, texts are folded between words and at hyphens.

    whole: the columns that are never folded.
    """
    from rich.table import Table
    from rich.text import Text

    cells = [[harmless(cell) for cell in row] for row in rows]
    out = console()
    widths = _folded_widths(header, cells, whole, out.width)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name, width in zip(header, widths, strict=True):
        table.add_column("\n".join(textwrap.wrap(name, width)), width=width, overflow="fold")
    for row in cells:
        folded = ("\n".join(textwrap.wrap(cell, width)) for cell, width in zip(row, widths, strict=True))
        table.add_row(*map(Text, folded))
    out.print(table)


def _folded_widths(
    header: Sequence[str], rows: Sequence[Sequence[str]], whole: Collection[str], width: int
) -> list[int]:
    """Of each column, besides a blank: the widest give way first, and none below its longest word."""
    widths = _widths(header, rows)
    least = [
        natural if name in whole else min(natural, max(map(len, re.split(r"(?<=-)|\s+", " ".join([name, *texts])))))
        for name, natural, *texts in zip(header, widths, *rows, strict=True)
    ]
    while sum(widths) + len(widths) > width:
        free = [column for column in range(len(widths)) if widths[column] > least[column]]
        if not free:
            break
        widths[max(free, key=lambda column: widths[column])] -= 1
    return widths


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    widths = _widths(header, rows)
    fits = _room(widths) <= width
    for column, name in enumerate(header):
        numeric = bool(rows) and all(_is_number(row[column]) for row in rows)
        whole = fits and widths[column] <= _LONG
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _parts(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Which columns stand beside each other: as many as there is room for. Only long texts can be folded."""
    widths = _widths(header, rows)
    parts = [[0]]
    for column in range(1, len(header)):
        if len(parts[-1]) > 1 and _room([widths[one] for one in (*parts[-1], column)]) > width:
            parts.append([0])
        parts[-1].append(column)
    return parts


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [max(cell_len(text) for text in (name, *(row[at] for row in rows))) for at, name in enumerate(header)]


def _room(widths: Sequence[int]) -> int:
    """What these columns take beside each other at least."""
    return sum(min(width, _LONG) + _BETWEEN for width in widths)


def _is_number(text: str) -> bool:
    return text in ("", "-") or text.lstrip("+-")[:1].isdigit()


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
