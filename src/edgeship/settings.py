"""Where things live and what is allowed: flag > EDGESHIP_* > config file > default, resolved once."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from edgeship.errors import NotWritable, UsageError
from edgeship.system import foreign

CONFIG_KEYS = ("home", "cache_dir", "threads", "memory_bytes", "builds_limit", "foundry_app", "foundry_cache_dir")
FOUNDRY_APP = "edgeship"
BUILDS_LIMIT_BYTES = 20 * 10**9
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

    config_file = Path(
        os.environ.get("EDGESHIP_CONFIG") or Path(platformdirs.user_config_dir("edgeship")) / "config.toml"
    )
    config = read_config(config_file)
    home = Path(
        os.environ.get("EDGESHIP_HOME") or str(config.get("home") or platformdirs.user_data_dir("edgeship"))
    ).expanduser()
    cache = cache_dir or os.environ.get("EDGESHIP_CACHE_DIR") or config.get("cache_dir") or home / "models"
    threads_text = threads if threads is not None else _pick("threads", config)
    memory_text = memory if memory is not None else _pick("memory_bytes", config)
    limit_text = _pick("builds_limit", config)
    app = _app_name(str(foundry_app or _pick("foundry_app", config) or FOUNDRY_APP))
    foundry_cache = foundry_cache_dir or _pick("foundry_cache_dir", config) or _foundry_cache_dir(app)
    return Settings(
        home=home.absolute(),
        cache_dir=Path(str(cache)).expanduser().absolute(),
        config_file=config_file.absolute(),
        threads=_positive_int(threads_text, "threads"),
        memory_bytes=parse_bytes(str(memory_text)) if memory_text is not None else None,
        builds_limit_bytes=parse_bytes(str(limit_text)) if limit_text is not None else BUILDS_LIMIT_BYTES,
        foundry_app=app,
        foundry_cache_dir=Path(str(foundry_cache)).expanduser().absolute(),
    )


def _pick(key: str, config: dict[str, object]) -> object | None:
    return os.environ.get(f"EDGESHIP_{key.upper()}") or config.get(key)


def _foundry_cache_dir(app: str) -> Path:
    """Where the SDK has an application's models unless the application says otherwise."""
    return Path.home() / f".{app}" / "cache" / "models"


def _app_name(text: str) -> str:
    if not _APP.fullmatch(text) or ".." in text:
        raise UsageError(
            f"{text!r} is no name of a Foundry Local application",
            hint="Use letters, digits, '.', '_' and '-', as in the app_name that the application gives the SDK.",
        )
    return text


def _positive_int(value: object, name: str) -> int | None:
    if value is None:
        return None
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}")
    return number


def parse_bytes(text: str) -> int:
    """'8GB', '512 MiB' or '1000' in bytes. Raises UsageError."""
    stripped = text.strip().lower().removesuffix("b")
    digits = stripped.rstrip("kmgi ")
    unit = stripped[len(digits) :].strip()
    try:
        value = int(float(digits) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        value = 0
    if not 0 < value < 2**63:
        raise UsageError(f"{text!r} is no number of bytes", hint="Write it like 8GB, 512MiB or 8000000000.")
    return value


def read_config(path: Path) -> dict[str, object]:
    """The config file's values; empty where there is none. Raises UsageError on one that cannot be read."""
    try:
        config = tomllib.loads(foreign.read_text(path, named=True))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the config file cannot be read: {error}", where=str(path), hint="Mend it or remove it."
        ) from error
    unknown = sorted(set(config) - set(CONFIG_KEYS))
    if unknown:
        raise UsageError(
            f"the config file has unknown keys: {', '.join(unknown)}",
            where=str(path),
            hint=f"Known keys: {', '.join(CONFIG_KEYS)}.",
        )
    return config


def write_config(path: Path, key: str, value: str) -> None:
    """Sets one key of the config file and keeps everything else, comments too. Raises NotWritable, UsageError."""
    import tomlkit

    from edgeship.system.storage import write_file

    if key not in CONFIG_KEYS:
        raise ValueError(key)
    read_config(path)  # one that cannot be read is not written over
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        document = tomlkit.parse(foreign.read_text(path, named=True) if path.exists() else "")
        document[key] = value
        write_file(path, tomlkit.dumps(document))
    except OSError as error:
        raise NotWritable(f"the config file cannot be written: {error}", where=str(path)) from error
