"""Edgeship: from a fine-tuned checkpoint to a measured, packaged, running model on ordinary CPUs."""

from edgeship.version import __version__

__all__ = ["__version__"]
