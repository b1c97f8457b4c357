"""YAML that a user brings: as the JSON that it stands for."""

from __future__ import annotations

import json
from pathlib import Path

from edgeship.system import foreign

MOST_BYTES = 1 << 20
"""A larger file is not read: a workflow takes a page."""


def read_as_json(path: Path) -> str:
    """The JSON text of what a file holds that a user named.

    References to other parts of the file are refused: a few lines of them can stand for gigabytes.
    Raises OSError, and ValueError that says where for what is no YAML, or YAML that JSON cannot say.
    """
    import yaml

    text = foreign.read_text(path, named=True, most_bytes=MOST_BYTES)
    try:
        reference = next((token for token in yaml.scan(text) if isinstance(token, yaml.AliasToken)), None)
        if reference is not None:
            raise ValueError(f"line {reference.start_mark.line + 1} refers to another part, which is not read")
        return json.dumps(yaml.safe_load(text), ensure_ascii=False, allow_nan=False)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (TypeError, RecursionError) as error:
        raise ValueError(f"it holds what JSON cannot: {error}") from error
