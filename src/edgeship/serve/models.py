"""The models that a server answers for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeship.engine.api import Chat
from edgeship.engine.text import TextCodec
from edgeship.errors import ModelUnknown
from edgeship.targets import Target


@dataclass(frozen=True)
class ModelCard:
    id: str
    target: Target
    aliases: tuple[str, ...]
    created: int
    size_bytes: int | None
    folder: Path | None


@dataclass
class Opened:
    card: ModelCard
    chat: Chat
    codec: TextCodec | None


class Pool:
    """Stands here until the real one comes: one chat each, opened once."""

    def __init__(self, cards: Sequence[ModelCard], *, open_chat: Callable[[ModelCard], Chat]) -> None:
        self._cards, self._open_chat = tuple(cards), open_chat
        self._opened: dict[str, Opened] = {}

    def cards(self) -> tuple[ModelCard, ...]:
        return self._cards

    def find(self, name: str | None) -> ModelCard:
        for card in self._cards:
            if not name or name == card.id or name in card.aliases:
                return card
        raise ModelUnknown(f"no model is called {name!r}")

    @asynccontextmanager
    async def use(self, name: str | None, *, keep_alive_s: float | None = None) -> AsyncIterator[Opened]:  # noqa: ARG002
        card = self.find(name)
        if card.id not in self._opened:
            codec = TextCodec(card.folder) if card.folder else None
            self._opened[card.id] = Opened(card, self._open_chat(card), codec)
        yield self._opened[card.id]

    async def warm(self) -> None:
        pass

    async def close(self) -> None:
        for opened in self._opened.values():
            opened.chat.close()
