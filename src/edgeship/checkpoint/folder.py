"""The files of a checkpoint's or adapter's folder that anything here, or a library that we drive, reads or copies."""

from __future__ import annotations

from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from edgeship.system import foreign
from edgeship.system.json_file import Complaint

PATTERNS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt", "README.md", "LICENSE*")
PICKLE_PATTERNS = ("pytorch_model*.bin",)


def require_readable(folder: Path, complaint: Complaint) -> None:
    """That each is a regular file of this very folder, so that whoever opens it later can neither wait nor lead out.

    Raises the complaint's error.
    """
    for path in sorted(folder.iterdir()):
        if path.is_dir() or not any(fnmatch(path.name, pattern) for pattern in (*PATTERNS, *PICKLE_PATTERNS)):
            continue
        try:
            with suppress(FileNotFoundError):  # a link to nothing
                foreign.require_readable(path)
        except OSError as error:
            raise complaint.about(path, f"cannot be read: {error}") from error
