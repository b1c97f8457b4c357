"""The codec of an engine in another process: its tokenizer is loaded there, and none here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgeship.engine.codec import Prompt, Spelling
from edgeship.engine.wire import read_spellings
from edgeship.package.conversation import Conversation


class IsolatedCodec:
    """See Codec.

    ask: asks the other process, and waits for its answer: is given the kind of the call and its fields.
    """

    def __init__(self, ask: Callable[..., Mapping[str, Any]], template: str | None, *, thinks: bool) -> None:
        self._ask = ask
        self.template, self.thinks = template, thinks

    @property
    def config(self) -> Mapping[str, Any]:
        """See Codec."""
        found: Mapping[str, Any] = self._ask("config")["config"]
        return found

    def render(self, conversation: Conversation) -> Prompt:
        """See Codec."""
        found = self._ask("render", conversation=asdict(conversation))
        return Prompt(tuple(found["tokens"]), conversation.tool_use, conversation.continues)

    def encode(self, text: str, *, special: bool = True) -> Prompt:
        """See Codec."""
        return Prompt(tuple(self._ask("encode", text=text, special=special)["tokens"]), continues=True)

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """See Codec."""
        return str(self._ask("decode", tokens=list(tokens), special=special)["text"])

    def spell(self, tokens: Sequence[int]) -> tuple[Spelling, ...]:
        """See Codec."""
        return read_spellings(self._ask("spell", tokens=list(tokens))["spelled"])

    def places(self, tokens: Sequence[int], text: str) -> tuple[int, ...]:
        """See Codec."""
        return tuple(self._ask("places", tokens=list(tokens), text=text)["places"])
