"""Edgeship: from a fine-tuned checkpoint to a measured, packaged, running model on ordinary CPUs.

What is named here is the public API; docs/python.md shows it. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

from edgeship.version import __version__

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint as Checkpoint
    from edgeship.checkpoint import open_checkpoint as open_checkpoint
    from edgeship.engine.answer import Answer as Answer
    from edgeship.engine.api import Limits as Limits
    from edgeship.engine.api import Message as Message
    from edgeship.engine.api import Sampling as Sampling
    from edgeship.engine.api import Token as Token
    from edgeship.errors import EdgeshipError as EdgeshipError
    from edgeship.library import build as build
    from edgeship.library import load as load
    from edgeship.library import ship as ship
    from edgeship.measure.choice.choose import Thresholds as Thresholds
    from edgeship.model import Model as Model
    from edgeship.package.manifest import Package as Package
    from edgeship.recipe import Recipe as Recipe

# Silent unless a program, or the command line's --log-level, asks for more.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "Answer": "engine.answer",
    "Checkpoint": "checkpoint",
    "EdgeshipError": "errors",
    "Limits": "engine.api",
    "Message": "engine.api",
    "Model": "model",
    "Package": "package.manifest",
    "Recipe": "recipe",
    "Sampling": "engine.api",
    "Thresholds": "measure.choice.choose",
    "Token": "engine.api",
    "build": "library",
    "load": "library",
    "open_checkpoint": "checkpoint",
    "ship": "library",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeship' has no attribute {name!r}")
    return getattr(importlib.import_module(f"edgeship.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
