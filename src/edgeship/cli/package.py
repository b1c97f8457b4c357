"""How commands name a package."""

from __future__ import annotations

from pathlib import Path

from edgeship import cache


def package_folder(name: str, cache_dir: Path) -> Path:
    """A package's folder: a path that holds one, or a name in the cache. Raises NotFound."""
    path = Path(name)
    if (path / "genai_config.json").is_file():
        return path
    return cache.find(cache_dir, name).folder
