"""How commands name a package."""

from __future__ import annotations

from pathlib import Path

from edgeship import cache
from edgeship.errors import PackageNotFound


def package_folder(name: str, cache_dir: Path) -> Path:
    """A package's folder: a path that holds one, or a name in the cache. Raises NameInvalid, PackageNotFound."""
    path = Path(name)
    if (path / "genai_config.json").is_file():
        return path
    if path.name != name:  # a path, which no name in the cache is
        raise PackageNotFound(
            f"no package lies there: {'genai_config.json is missing' if path.is_dir() else 'there is no such folder'}",
            where=name,
            hint="`edgeship cache ls` lists what is installed.",
        )
    return cache.find(cache_dir, name).folder
