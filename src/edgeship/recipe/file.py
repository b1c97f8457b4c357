"""Recipes from files: TOML as we write it, JSON as Olive does."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from edgeship.errors import RecipeInvalid
from edgeship.recipe import RecipeFile, explain, make_recipe, olive
from edgeship.system import foreign


def read_recipe_file(path: Path) -> RecipeFile:
    """A recipe from TOML (ours) or JSON (an Olive workflow). Raises RecipeInvalid naming the field."""
    try:
        text = foreign.read_text(path, named=True)
    except (OSError, ValueError) as error:
        raise RecipeInvalid(
            f"the recipe file cannot be read: {error}", where=str(path), hint="Check the path given to --config."
        ) from error
    if path.suffix.lower() == ".json":
        return olive.parse(text, where=str(path))
    return _parse_toml(text, where=str(path))


def _parse_toml(text: str, *, where: str) -> RecipeFile:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeInvalid(f"not valid TOML: {error}", where=where) from error
    outer = {key: values.pop(key) for key in ("checkpoint", "adapter", "output") if key in values}
    recipe = make_recipe(values, where=where)
    try:
        return RecipeFile.model_validate({"recipe": recipe, **outer})
    except ValidationError as error:
        raise RecipeInvalid(explain(error), where=where, hint="checkpoint, adapter and output are texts.") from error
