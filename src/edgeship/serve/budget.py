"""The memory that all models of a server may hold together, and what one of them gets of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeship.engine.api import Limits
from edgeship.errors import MemoryShort
from edgeship.serve import footprint
from edgeship.serve.catalog import ModelCard
from edgeship.serve.footprint import ENGINE_BYTES, Footprint
from edgeship.settings import Settings
from edgeship.system import machine

RESERVE = 8
"""Of the memory that a machine has available, this part is left to others where no budget is given."""


@dataclass(frozen=True)
class Need:
    """What one model will hold at most, with its engine limited so."""

    size_bytes: int
    limits: Limits


class Budget:
    """So many bytes, or what the machine has available but for a reserve.

    limits: of each model's engine; keys and values that these leave to the machine get their part of the budget.
    """

    def __init__(self, settings: Settings, limits: Limits, memory_bytes: int | None) -> None:
        self._settings, self._limits, self._given = settings, limits, memory_bytes is not None
        self.most_bytes = memory_bytes or self._available_bytes()

    def usable_bytes(self, resident_bytes: int) -> int:
        """What models may hold now: a budget that was not given shrinks where other programs take memory.

        resident_bytes: what the models hold at present.
        """
        return self.most_bytes if self._given else min(self.most_bytes, self._available_bytes() + resident_bytes)

    def footprint(self, card: ModelCard) -> Footprint:
        """Of a model by its files. Raises EngineFailed, PackageRefused."""
        if card.folder is None:
            return Footprint(card.size_bytes or 0)
        return footprint.of_package(card.folder, card.size_bytes or 0, self._limits, self._settings.home)

    def need(self, card: ModelCard, found: Footprint, served: Sequence[ModelCard]) -> Need:
        """What a model needs among others that are served. Raises MemoryShort where it is more than there ever is."""
        limits = self._limits
        if limits.kv_bytes is None and found.token_bytes:
            sizes = [other.size_bytes + ENGINE_BYTES for other in served if other.size_bytes is not None]
            share_bytes = (self.most_bytes - sum(sizes)) // max(1, len(sizes))
            limits = replace(limits, kv_bytes=found.kv_bytes(self.most_bytes, share_bytes))
        size_bytes = found.fixed_bytes + (limits.kv_bytes or 0 if found.token_bytes else 0)
        if size_bytes > self.most_bytes:
            raise MemoryShort(
                f"{card.id} needs about {in_units(size_bytes)} of memory, and all models together may have "
                f"{in_units(self.most_bytes)}",
                hint="A shorter --context and fewer slots need less; a smaller recipe does too.",
            )
        return Need(size_bytes, limits)

    def _available_bytes(self) -> int:
        available = machine.memory_bytes(self._settings.memory_bytes)[1]
        return available - available // RESERVE


def in_units(amount_bytes: int) -> str:
    """An amount of memory in words."""
    return f"{amount_bytes / 1e9:.2f} GB" if amount_bytes >= 1e8 else f"{amount_bytes / 1e6:.1f} MB"
