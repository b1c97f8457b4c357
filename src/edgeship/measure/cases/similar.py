"""How near texts are in meaning, by an embedding model that any server with an API like OpenAI's offers."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from edgeship.engine.remote import RemoteChat

# What is expected comes again with each answer, and answers come again with each repetition.
_MOST_KEPT = 10_000


class Embeddings:
    """Gives texts as vectors; see `assertions.Embed`. A text is asked for once.

    url: of the API, such as http://localhost:8080/v1. model: may be left out where the server has only one.
    Raises UsageError, RemoteFailed.
    """

    def __init__(self, url: str, model: str | None = None, api_key: str | None = None) -> None:
        self._server = RemoteChat(url, model, api_key)
        self._known: dict[str, list[float]] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text. Raises as `RemoteChat.embed`."""
        known = {text: self._known[text] for text in texts if text in self._known}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known |= zip(new, self._server.embed(new), strict=True)
            if len(self._known) + len(new) > _MOST_KEPT:
                self._known.clear()
            self._known |= known
        return [known[text] for text in texts]

    def close(self) -> None:
        """Ends the connection."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
