"""The child of `genai_reader.py`."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeship.engine.decoders.genai import GenaiTokenizer
from edgeship.package import DAMAGED, genai_config
from edgeship.system import memory, worker

MOST_BYTES = 1 << 31
"""What a tokenizer and its prompts may take; the largest in use take a tenth of it."""


def main() -> None:
    """Answers one message after another until the parent is gone."""
    messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    parent = worker.Parent(messages.put)
    memory.limit_growth(MOST_BYTES)
    reader = _Reader()
    while True:
        message = messages.get()
        try:
            answer = reader.take(message)
        except BaseException as error:
            answer = worker.failure(error)
        parent.send(answer)


class _Reader:
    _tokenizer: GenaiTokenizer

    def take(self, message: Mapping[str, Any]) -> dict[str, Any]:
        [(kind, given)] = message.items()
        if kind == "open":
            self._tokenizer = GenaiTokenizer(genai_config.read(Path(given), DAMAGED))
            return {}
        read = self._tokenizer.chat if kind == "chat" else self._tokenizer.encode
        return {"ids": read(given)}


if __name__ == "__main__":
    main()
