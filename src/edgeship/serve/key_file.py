"""The file that holds API keys: as TOML, with their hashes, names and limits; or as plain text, a key a line.

[[key]]
name = "reports"
sha256 = "9f86d081..."          # of the key, which is shown once, when it is made
requests_per_minute = 600       # each of the four can be left out
tokens_per_minute = 100000
concurrent = 8
priority = 1                    # higher goes first where requests wait; 0 by default
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgeship.errors import NotFound, UsageError
from edgeship.system import foreign, toml_file
from edgeship.system.fields import Fields
from edgeship.system.storage import disk_errors, write_file

MOST_PRIORITY = 1000
_MOST_BYTES = 1 << 22
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LEAST_CHARACTERS = 16
"""Of a key in a plain file: a shorter one can be guessed."""
_TABLE = re.compile(r"^\s*\[\[key\]\]", re.MULTILINE)


@dataclass(frozen=True)
class Key:
    """A key by its hash, and what it allows: None sets no limit. concurrent: requests at the same time."""

    name: str
    sha256: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    priority: int = 0


_KNOWN = {known.name for known in fields(Key)}


def hash_of(key: str) -> str:
    """What is kept of a key. It has 256 random bits, so that nothing slower is needed."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read(path: Path) -> tuple[Key, ...]:
    """The keys in a file, which may hold none. Raises UsageError that names the key and the field, or the line."""
    try:
        text = foreign.read_text(path, named=True, most_bytes=_MOST_BYTES)
        keys = _of_table(text, path) if _TABLE.search(text) else _of_lines(text, path)
    except FileNotFoundError as error:
        raise UsageError(
            "there is no file of keys", where=str(path), hint="`edgeship key add NAME --file FILE` makes one."
        ) from error
    except (OSError, ValueError) as error:
        raise _fault(path, f"cannot be read: {error}") from error
    names = [key.name for key in keys]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise _fault(path, f"names {twice!r} twice")
    return keys


def add(path: Path, key: Key) -> None:
    """Puts a key into a file, which only its user can read then. Raises UsageError, NotWritable, DiskShort."""
    if not _NAME.fullmatch(key.name):
        raise UsageError(f"{key.name!r} cannot name a key", hint="Take letters, digits, '.', '_', '-' and '@'.")
    if abs(key.priority) > MOST_PRIORITY:
        raise UsageError(f"the priority {key.priority} is not between {-MOST_PRIORITY} and {MOST_PRIORITY}")
    document = _document(path)
    if key.name in {known.name for known in (read(path) if path.exists() else ())}:
        raise UsageError(f"there is a key called {key.name!r}", where=str(path), hint="Take another name.")
    import tomlkit

    table = tomlkit.table()
    table.update({name: value for name, value in vars(key).items() if value not in (None, 0)})
    document.setdefault("key", tomlkit.aot()).append(table)
    _write(path, tomlkit.dumps(document))


def remove(path: Path, name: str) -> None:
    """Takes a key out of a file. Raises NotFound where there is none of that name, and what `add` raises."""
    import tomlkit

    if name not in {key.name for key in read(path)}:
        raise NotFound(f"there is no key called {name!r}", where=str(path), hint="`edgeship key ls` lists them.")
    document = _document(path)
    tables = document["key"]
    tables.pop(next(place for place, table in enumerate(tables) if table.get("name") == name))
    if not tables:
        del document["key"]  # tomlkit would write `key = []`, which is neither a table nor a key
    _write(path, tomlkit.dumps(document))


def new_key() -> str:
    """A key that nobody has."""
    return f"edgeship-{secrets.token_urlsafe(32)}"


def _of_table(text: str, path: Path) -> tuple[Key, ...]:
    document = Fields(toml_file.parse(text), lambda what: _fault(path, what))
    return tuple(_of_fields(part) for part in document.parts("key"))


def _of_fields(part: Fields) -> Key:
    strangers = sorted(set(part.values) - _KNOWN)
    if strangers:
        raise part.wrong(strangers[0], part.values[strangers[0]], f"known: {', '.join(sorted(_KNOWN))}")
    digest = part.required_text("sha256")
    if not _SHA256.fullmatch(digest):
        raise part.wrong("sha256", digest, "64 hexadecimal digits, as `edgeship key add` writes them")
    limits = {name: part.count(name) for name in ("requests_per_minute", "tokens_per_minute", "concurrent")}
    priority = part.count("priority", least=-MOST_PRIORITY, most=MOST_PRIORITY) or 0
    return Key(part.required_text("name"), digest, **limits, priority=priority)


def _of_lines(text: str, path: Path) -> tuple[Key, ...]:
    """A key a line; empty lines and those that begin with # say nothing."""
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    keys = [(number, line) for number, line in lines if line and not line.startswith("#")]
    for number, line in keys:
        if len(line) < _LEAST_CHARACTERS or not line.isascii() or " " in line:
            raise _fault(path, f"has no key in line {number}: it takes {_LEAST_CHARACTERS} characters without a space")
    return tuple(Key(f"line-{number}", hash_of(line)) for number, line in keys)


def _document(path: Path) -> Any:
    import tomlkit

    if not path.exists():
        return tomlkit.document()
    text = foreign.read_text(path, named=True, most_bytes=_MOST_BYTES)
    if not _TABLE.search(text) and _of_lines(text, path):
        raise UsageError("the file has a key a line", where=str(path), hint="Edit it, or take another file.")
    return tomlkit.parse(text)


def _write(path: Path, text: str) -> None:
    with disk_errors(path.parent, "name another file."):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text, private=True)


def _fault(path: Path, what: str) -> UsageError:
    return UsageError(f"{path.name} {what}", where=str(path), hint="Mend it, or make a new one: `edgeship key add`.")


def limits_of(key: Key) -> Mapping[str, int | None]:
    """What a key allows, by name."""
    return {name: value for name, value in vars(key).items() if name not in ("name", "sha256")}
