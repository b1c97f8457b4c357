"""Packages on disk by name:version. One lock per name, a temporary folder, one rename: a listed package is a whole one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
