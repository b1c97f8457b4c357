"""What is told of a model's tokens: how texts and conversations become tokens, and how these are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgeship.package.conversation import Conversation, ToolUse


@dataclass(frozen=True)
class Prompt:
    """What the model reads, as token ids.

    tools: what its answer may call; None where calls are text like any other.
    continues: it is a text, or an answer that was begun, and what the model makes of it goes on with that: a space at
    its beginning is kept, and no thoughts are told apart. Otherwise it is a conversation, and what comes is an answer.
    """

    tokens: tuple[int, ...]
    tools: ToolUse | None = None
    continues: bool = False


@dataclass(frozen=True)
class Spelling:
    """How a token is written.

    in_bytes: what it adds to a text in UTF-8, and may be a part of a character. Joined they are the text of the tokens.
    special: texts leave it out, unless they are asked for with special tokens.
    """

    in_bytes: bytes
    special: bool = False

    @property
    def text(self) -> str:
        """The same as a text, with a sign for what is a part of a character."""
        return self.in_bytes.decode(errors="replace")


class Codec(Protocol):
    """A model's tokenizer and chat template. Any number of threads may ask it at the same time.

    template: the chat template; None where there is none.
    thinks: whether there are marks for what the model thinks before it answers.
    """

    @property
    def template(self) -> str | None: ...

    @property
    def thinks(self) -> bool: ...

    @property
    def config(self) -> Mapping[str, Any]:
        """What the package says of its tokenizer, without the template."""
        ...

    def render(self, conversation: Conversation) -> Prompt:
        """The prompt of a conversation that waits for an answer.

        Raises TemplateMissing, TemplateInvalid, NotSupported for an answer that cannot be continued, and PromptInvalid
        for a conversation without a message.
        """
        ...

    def encode(self, text: str, *, special: bool = True) -> Prompt:
        """The tokens of a text as it is, with no template around it.

        special: with the special tokens that the tokenizer puts around every text.
        """
        ...

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens; special tokens leave none unless `special` asks for theirs."""
        ...

    def spell(self, tokens: Sequence[int]) -> tuple[Spelling, ...]:
        """How each of these tokens is written where others stand before it; what is no token leaves nothing."""
        ...

    def places(self, tokens: Sequence[int], text: str) -> tuple[int, ...]:
        """Where each token of a text begins, in characters; all parts of a character begin where it does.

        text: as it was given. Special tokens that stand in it have a length, and those around it have none.
        """
        ...
