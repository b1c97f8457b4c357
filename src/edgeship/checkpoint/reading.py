"""How a checkpoint reads texts and conversations: in its chat template or as plain text, and as token ids."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgeship.errors import TemplateInvalid
from edgeship.package import template

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

Text = tuple[str, bool]
"""And whether the tokenizer puts its special tokens around it; a template has written them already."""


def encoder(checkpoint: Checkpoint) -> Callable[[Text], list[int]]:
    """Gives a text's token ids, without those outside the model, as a resized tokenizer can have."""
    loaded = checkpoint.tokenizer.load()

    def encode(text: Text) -> list[int]:
        content, special = text
        return [number for number in loaded.encode(content, special=special) if number < checkpoint.vocab_size]

    return encode


def conversation(messages: Sequence[template.Message], checkpoint: Checkpoint) -> Text:
    """A conversation; plain text where the checkpoint has no chat template, or one that refuses it."""
    if checkpoint.chat_template is not None:
        with contextlib.suppress(TemplateInvalid):  # as those of models for one task do
            return in_template(messages, checkpoint.chat_template, checkpoint)
    turns = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
    return "\n\n".join(turns if _is_answered(messages) else [*turns, "Assistant:"]), True


def in_template(messages: Sequence[template.Message], chat_template: str, checkpoint: Checkpoint) -> Text:
    """A conversation in a chat template, where instructions stand where it takes them. Raises TemplateInvalid."""
    special_tokens = checkpoint.special_tokens
    rendered = template.render(
        chat_template,
        template.readable(chat_template, messages, special_tokens),
        special_tokens=special_tokens,
        add_generation_prompt=not _is_answered(messages),
    )
    return rendered, False


def _is_answered(messages: Sequence[template.Message]) -> bool:
    return bool(messages[-1]["role"] == "assistant")
