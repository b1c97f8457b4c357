"""Edgeship: from a fine-tuned checkpoint to a measured, packaged, running model on ordinary CPUs."""

import logging

from edgeship.version import __version__

# Silent unless a program, or the command line's --log-level, asks for more.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = ["__version__"]
