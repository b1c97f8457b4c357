"""Where things live and what is allowed: flag > EDGESHIP_* > config file > default, resolved once.

The config file belongs to the home: <home>/config.toml where EDGESHIP_HOME names one, else the user's own, which may
name a home. EDGESHIP_CONFIG names another file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from edgeship.errors import NotWritable, UsageError
from edgeship.system import duration, foreign, toml_file
from edgeship.system.fields import shown

Value = TypeVar("Value")

FOUNDRY_APP = "edgeship"
MOST_THREADS = 1024
"""More than this a system may not even grant."""
BUILDS_LIMIT_BYTES = 20 * 10**9
_CONFIG = "EDGESHIP_CONFIG"
_APP = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


@dataclass(frozen=True)
class Settings:
    """Resolved settings; nothing below the command line reads the environment again.

    home: holds `builds` (finished build steps), `reports`, and by default the cache.
    threads: cores an engine may use; None means all that the machine grants.
    memory_bytes: pretend the machine has no more memory than this; None means what it has.
    builds_limit_bytes: of finished build steps no more than this is kept, the least recently used go first.
    foundry_app: the application whose Foundry Local catalog is meant.
    foundry_cache_dir: Foundry Local's own model cache, which holds that catalog; the one that the application has
    where it says nothing else.
    """

    home: Path
    cache_dir: Path
    config_file: Path
    threads: int | None = None
    memory_bytes: int | None = None
    builds_limit_bytes: int = BUILDS_LIMIT_BYTES
    foundry_app: str = FOUNDRY_APP
    foundry_cache_dir: Path = field(default_factory=lambda: _foundry_cache_dir(FOUNDRY_APP))

    @property
    def builds_dir(self) -> Path:
        """Finished build steps, by content key."""
        return self.home / "builds"

    @property
    def reports_dir(self) -> Path:
        """Reports of earlier ships."""
        return self.home / "reports"


def resolve(
    *,
    cache_dir: Path | None = None,
    threads: int | None = None,
    memory: str | None = None,
    foundry_app: str | None = None,
    foundry_cache_dir: Path | None = None,
) -> Settings:
    """The settings in force; arguments are the command line's flags, None where not given.

    Raises UsageError where a value cannot be read, naming its source.
    """
    import platformdirs

    file = config_file()
    config = read_config(file)

    def value(key: str, flag: object, default: Any) -> Any:
        if flag is not None:
            return _read(_KINDS[key], flag, _OPTIONS[key])
        if stated := os.environ.get(variable(key)):
            return _read(_KINDS[key], stated, variable(key))
        if config.get(key) is not None:
            mend = f"Change it with `edgeship config set {key} VALUE`, or `edgeship config unset {key}`."
            return _read(_KINDS[key], config[key], f"{key} in the config file", where=str(file), hint=mend)
        return default

    home = value("home", None, Path(platformdirs.user_data_dir("edgeship")))
    app = value("foundry_app", foundry_app, FOUNDRY_APP)
    return Settings(
        home=home,
        cache_dir=value("cache_dir", cache_dir, home / "models"),
        config_file=file,
        threads=value("threads", threads, None),
        memory_bytes=value("memory_bytes", memory, None),
        builds_limit_bytes=value("builds_limit", None, BUILDS_LIMIT_BYTES),
        foundry_app=app,
        foundry_cache_dir=value("foundry_cache_dir", foundry_cache_dir, _foundry_cache_dir(app)),
    )


def failures_dir() -> Path:
    """Where faults of our own are written down; asked where anything may have failed, so no file is read for it."""
    import platformdirs

    home = os.environ.get(variable("home"))
    return Path(home or platformdirs.user_state_dir("edgeship")).expanduser().absolute() / "failures"


def config_file() -> Path:
    """The config file in force, whether it is there or not."""
    import platformdirs

    if named := os.environ.get(_CONFIG):
        return _read(_Kind(_path, "the path of a file"), named, _CONFIG)
    home = os.environ.get(variable("home"))
    folder = _read(_FOLDER, home, variable("home")) if home else Path(platformdirs.user_config_dir("edgeship"))
    return folder / "config.toml"


def variable(key: str) -> str:
    """The environment variable that a setting can be given by."""
    return f"EDGESHIP_{key.upper()}"


def described(settings: Settings) -> list[tuple[str, object, str]]:
    """Each setting by its key: its value, None where the machine decides, and where that comes from."""
    config = read_config(settings.config_file)
    return [(key, getattr(settings, _FIELDS.get(key, key)), _origin(key, config)) for key in CONFIG_KEYS]


def _origin(key: str, config: Mapping[str, object]) -> str:
    if os.environ.get(variable(key)):
        return variable(key)
    return "config file" if config.get(key) is not None else "default"


def _foundry_cache_dir(app: str) -> Path:
    """Where the SDK has an application's models unless the application says otherwise."""
    return Path.home() / f".{app}" / "cache" / "models"


def parse_bytes(text: str, source: str) -> int:
    """'8GB', '512 MiB' or '1000' in bytes. source: what gave it. Raises UsageError, which names that."""
    return _read(_AMOUNT, text, source)


def parse_seconds(text: str, source: str) -> float:
    """'5m', '1h30m' or '300' in seconds. source: what gave it. Raises UsageError, which names that."""
    return _read(_DURATION, text, source)


@dataclass(frozen=True)
class _Kind(Generic[Value]):
    """A kind of value: what reads it, with a ValueError for what it cannot be, and what it must be in words."""

    read: Callable[[object], Value]
    rule: str


def _read(
    kind: _Kind[Value], stated: object, source: str, *, where: str | None = None, hint: str | None = None
) -> Value:
    """The value that `source` states: an option, a variable or a key. Raises UsageError."""
    try:
        return kind.read(stated)
    except ValueError as error:
        raise UsageError(
            f"{source} is {shown(str(stated) if isinstance(stated, Path) else stated)}; it must be {kind.rule}",
            where=where,
            hint=hint or "Give it such a value, or leave it out.",
        ) from error


def _app_name(stated: object) -> str:
    text = str(stated)
    if not _APP.fullmatch(text) or ".." in text:
        raise ValueError(text)
    return text


def _seconds(stated: object) -> float:
    found = duration.seconds_in(str(stated))
    if found < 0:
        raise ValueError(found)
    return found


def _threads(stated: object) -> int:
    number = int(str(stated))
    if not 1 <= number <= MOST_THREADS:
        raise ValueError(number)
    return number


def _path(stated: object) -> Path:
    return foreign.named_path(stated).absolute()


def _folder(stated: object) -> Path:
    """A path where a folder is, or may come to be."""
    path = _path(stated)
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            raise ValueError(stated)
    except (FileNotFoundError, PermissionError):
        return path  # to be made, or what is wrong is told when it is used
    except OSError as error:  # a file on the way, a name too long
        raise ValueError(f"{stated}: {error}") from error
    return path


def _bytes(stated: object) -> int:
    stripped = str(stated).strip().lower().removesuffix("b")
    digits = stripped.rstrip("kmgi ")
    unit = stripped[len(digits) :].strip()
    try:
        value = int(float(digits) * _UNITS[unit])
    except (LookupError, OverflowError) as error:
        raise ValueError(stated) from error
    if not 0 < value < 2**63:
        raise ValueError(stated)
    return value


_FOLDER = _Kind(_folder, "the path of a folder; . is the working folder")
_DURATION = _Kind(_seconds, "seconds, or a duration like 90s, 5m or 1h30m")
_AMOUNT = _Kind(_bytes, "a number of bytes, like 8GB, 512MiB or 8000000000")
_KINDS: dict[str, _Kind[Any]] = {
    "home": _FOLDER,
    "cache_dir": _FOLDER,
    "threads": _Kind(_threads, f"a whole number from 1 to {MOST_THREADS}"),
    "memory_bytes": _AMOUNT,
    "builds_limit": _AMOUNT,
    "foundry_app": _Kind(_app_name, "letters, digits, '.', '_' and '-', as the app_name that an application gives"),
    "foundry_cache_dir": _FOLDER,
}
CONFIG_KEYS = tuple(_KINDS)
_FIELDS = {"builds_limit": "builds_limit_bytes"}
_OPTIONS = {
    "cache_dir": "--cache-dir",
    "threads": "--threads",
    "memory_bytes": "--memory",
    "foundry_app": "--app",
    "foundry_cache_dir": "--foundry-cache-dir",
}


def read_config(path: Path) -> dict[str, object]:
    """The config file's values; empty where there is none. Raises UsageError on one that cannot be read."""
    try:
        config = toml_file.read_table(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the config file cannot be read: {error}", where=str(path), hint="Mend it or remove it."
        ) from error
    unknown = sorted(set(config) - set(CONFIG_KEYS))
    if unknown:
        raise UsageError(
            f"the config file has unknown keys: {', '.join(map(shown, unknown))}",
            where=str(path),
            hint=f"Known keys: {', '.join(CONFIG_KEYS)}.",
        )
    return config


def write_config(path: Path, key: str, value: str | None) -> None:
    """Sets one key of the config file, or takes it out for None, and keeps everything else, comments too.

    Raises NotWritable, and UsageError for an unknown key or a value that cannot be read.
    """
    import tomlkit

    from edgeship.system.storage import write_file

    if key not in CONFIG_KEYS:
        raise UsageError(f"there is no setting {key!r}", hint=f"Settings: {', '.join(CONFIG_KEYS)}.")
    read = None if value is None else _read(_KINDS[key], value, key)
    read_config(path)  # one that cannot be read is not written over
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = tomlkit.parse(foreign.read_text(path, named=True) if path.exists() else "")
        if value is None:
            document.pop(key, None)
        else:
            document[key] = str(read) if isinstance(read, Path) else value
        write_file(path, tomlkit.dumps(document))
    except OSError as error:
        raise NotWritable(f"the config file cannot be written: {error}", where=str(path)) from error
