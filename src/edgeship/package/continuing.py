"""A conversation whose answer was begun: the template writes it as ever, and is cut where the begun text ends."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from edgeship.errors import NotSupported
from edgeship.package.conversation import Conversation, Message, text_of


def rendered(conversation: Conversation, render: Callable[[Conversation], str]) -> str:
    """What the template writes up to the end of the last message's text. render: writes a whole conversation.

    A mark that nobody can guess stands behind that text while it is rendered, so that what a template puts there, or
    changes before it, is seen. Raises NotSupported where it does not show the text as it is, once.
    """
    end = f"edgeship{secrets.token_hex(8)}"
    *before, last = conversation.messages
    marked, said = _with_end(last, end)
    head, found, tail = render(replace(conversation, messages=[*before, marked])).partition(end)
    if not found or end in tail or not head.endswith(said.lstrip()):
        raise NotSupported(
            "the model's chat template does not show the last message as it is, and nothing can go on from it",
            hint="Let the last message be the user's.",
        )
    return head


def _with_end(message: Message, end: str) -> tuple[Message, str]:
    """The message with a mark behind its text, and the text that is right before it."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": content + end}, content
    last = content[-1]
    return {**message, "content": [*content[:-1], {**last, "text": last["text"] + end}]}, text_of([last])
