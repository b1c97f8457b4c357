"""Recipes from files: TOML as we write it, JSON and YAML as Olive does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeship.errors import RecipeInvalid
from edgeship.recipe import RecipeFile, explain, make_recipe, olive
from edgeship.system import foreign, toml_file, yaml_file
from edgeship.system.json_file import MOST_BYTES


def read_recipe_file(path: Path) -> RecipeFile:
    """A recipe from TOML (ours), or JSON or YAML (an Olive workflow). Raises RecipeInvalid naming the field."""
    kind = "YAML" if path.suffix.lower() in (".yaml", ".yml") else "TOML"
    try:
        if kind == "YAML":
            return olive.parse(yaml_file.read_as_json(path), where=str(path))
        if path.suffix.lower() == ".json":
            return olive.parse(foreign.read_text(path, named=True, most_bytes=MOST_BYTES), where=str(path))
        return _from_table(toml_file.read_table(path), where=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeInvalid(
            f"the recipe file cannot be read: {error}", where=str(path), hint="Check the path given to --config."
        ) from error
    except ValueError as error:
        raise RecipeInvalid(f"not valid {kind}: {error}", where=str(path), hint="Mend it there.") from error


def _from_table(values: dict[str, Any], *, where: str) -> RecipeFile:
    outer = {key: values.pop(key) for key in ("checkpoint", "adapter", "output") if key in values}
    recipe = make_recipe(values, where=where)
    try:
        return RecipeFile.model_validate({"recipe": recipe, **outer})
    except ValidationError as error:
        raise RecipeInvalid(explain(error), where=where, hint="checkpoint, adapter and output are texts.") from error
