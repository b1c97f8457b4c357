"""YAML that a user brings: as the JSON that it stands for."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.system import foreign
from edgeship.system.fields import shown

if TYPE_CHECKING:
    from yaml import Node

MOST_BYTES = 1 << 16
"""A larger file is not read unless more is expected: a workflow takes a page."""
_DEEPEST = 100
_DIGITS = "0123456789"
_PLAIN = (
    ("null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)$|0x[0-9a-fA-F]+$", list(f"-+{_DIGITS}")),
    ("float", r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list(f"-+.{_DIGITS}")),
)
"""What YAML 1.2 takes for something else than a text, by its first character."""


def read_as_json(path: Path, *, most_bytes: int = MOST_BYTES, plainly: bool = False) -> str:
    """The JSON text of what a file holds that a user named. Raises OSError, and ValueError as `as_json`."""
    return as_json(foreign.read_text(path, named=True, most_bytes=most_bytes), plainly=plainly)


def as_json(text: str, *, plainly: bool = False) -> str:
    """The JSON text of what YAML says.

    plainly: as YAML 1.2 reads it, in which Yes and 12:30 are texts; in YAML 1.1 these are true and 750. A date is a
    text then, too.
    References to other parts of the text are refused: a few lines of them can stand for gigabytes.
    Raises ValueError that says where for what is no YAML, or YAML that JSON cannot say.
    """
    import yaml

    try:
        _require_plain(text)
        loader = _plain_loader()(text) if plainly else yaml.SafeLoader(text)
        document = loader.get_single_node()
        _require_no_repeats(document)
        return _dumped(lambda: loader.construct_document(document) if document else None)
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise ValueError(f"line {number}: the character U+{error.character:04X} is none of YAML's") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _dumped(construct: Callable[[], Any]) -> str:
    """The JSON text of what is constructed. Raises ValueError, and what the library raises with a place."""
    import yaml

    try:
        return json.dumps(construct(), allow_nan=False)
    except yaml.YAMLError:
        raise
    except ValueError as error:
        raise ValueError("it holds a number, or a value with a tag, that JSON has none for") from error
    except Exception as error:  # what the library makes of a value that is not what its tag says
        raise ValueError(f"it holds what JSON cannot: {error}") from error


@functools.cache
def _plain_loader() -> type[Any]:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as the library has it

    for kind, pattern, beginnings in _PLAIN:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(pattern), beginnings)
    return Loader


def _require_plain(text: str) -> None:
    """Raises ValueError for references and for depth, before either is followed."""
    import yaml

    depth = 0
    for event in yaml.parse(text):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"line {line} refers to another part, which is not read")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"line {line}: its values nest too deeply")


def _require_no_repeats(node: Node | None) -> None:
    """Raises ValueError for a key that is there twice: the library would take the last."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise ValueError(f"line {key.start_mark.line + 1}: {shown(key.value)} is there twice")
            seen.add((key.tag, str(key.value)))
            _require_no_repeats(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _require_no_repeats(value)
