"""What was saved beside the weights and decides conversations: tokenizer, chat template and generation settings.

What lies beside the adapter is the latest word, since it was saved after the training.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.checkpoint import generation as generations
from edgeship.checkpoint.dimensions import DAMAGED
from edgeship.errors import CheckpointInvalid
from edgeship.package import plain_jinja
from edgeship.package import template as templates
from edgeship.package import tokenizer as tokenizers
from edgeship.package.tokenizer import TokenizerFiles
from edgeship.system import json_file
from edgeship.system.fields import Fields

_TO_CONVERT = ("transformers", "sentencepiece", "protobuf")
_CONVERT = (
    "import sys; from transformers import AutoTokenizer as T; T.from_pretrained(f := sys.argv[1]).save_pretrained(f)"
)
_GIVE_A_TEMPLATE = "Give a Jinja file in UTF-8."


@dataclass(frozen=True)
class Saved:
    """template: None where there is none. template_names: of all that were found.

    notes: what is to be said of it.
    """

    tokenizer: TokenizerFiles
    generation: Fields
    template: str | None
    template_names: tuple[str, ...]
    notes: tuple[str, ...]


def read_saved(folder: Path, adapter: Path | None, given: Path | None, variables: Mapping[str, Any]) -> Saved:
    """What decides the conversations of a base in `folder` with the adapter in `adapter`.

    given: a template's file, or the name of one of several. variables: become part of the template.
    Raises CheckpointInvalid, TemplateInvalid.
    """
    places = (folder,) if adapter is None else (adapter, folder)
    generation = generations.read(places)
    tokenizer = _read_tokenizer(folder) if adapter is None else _read_tokenizer_over(folder, adapter)
    found = _find_templates(places)
    template = _read_template(given, found) if given else templates.the_one_meant(found)
    if template is not None and variables:
        template = plain_jinja.with_variables(template, variables)
    return Saved(tokenizer, generation, template, tuple(found), tuple(generations.notes(generation)))


def _read_tokenizer(folder: Path) -> TokenizerFiles:
    _require_tokenizer(folder)
    return tokenizers.read(folder, DAMAGED)


def _require_tokenizer(folder: Path) -> None:
    if not (folder / tokenizers.FILE_NAME).is_file():
        slow = (folder / "tokenizer.model").is_file() or (folder / "vocab.json").is_file()
        convert = (
            f"Make it with transformers: {shlex.join((sys.executable, '-m', 'pip', 'install', *_TO_CONVERT))}; "
            f"{shlex.join((sys.executable, '-c', _CONVERT, str(folder)))}"
        )
        raise CheckpointInvalid(
            f"there is no {tokenizers.FILE_NAME}",
            where=str(folder),
            hint=convert if slow else "Copy the tokenizer's files from the base model.",
        )


def _read_tokenizer_over(folder: Path, adapter: Path) -> TokenizerFiles:
    """The base's tokenizer as it was trained: what was saved with the adapter counts first."""
    if not (adapter / tokenizers.FILE_NAME).is_file():
        _require_tokenizer(folder)
    return tokenizers.read_over(folder, adapter, DAMAGED)


def _find_templates(places: Sequence[Path]) -> dict[str, str]:
    """The chat templates of the first folder that has any."""
    for place in places:
        config = json_file.read_optional(place / tokenizers.CONFIG_NAME, DAMAGED)
        found = templates.find_all(place, config)
        if found:
            return found
    return {}


def _read_template(given: Path, found: Mapping[str, str]) -> str:
    """The template in a file, or the one of this name among those that were found."""
    if str(given) in found and not given.is_file():
        return found[str(given)]
    return templates.read(given, _GIVE_A_TEMPLATE, named=True)
