"""Built-in questions, for a checkpoint to give its own answers to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.checkpoint.reading import conversation, encoder
from edgeship.engine.api import Message, Prompt
from edgeship.system import foreign

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

QUESTIONS = Path(__file__).with_name("questions.jsonl")
"""A conversation a line that waits for an answer; the first ones are a fair sample of all."""


def built_in() -> list[Sequence[Message]]:
    """The questions, each of them messages that wait for an answer."""
    return [json.loads(line)["messages"] for line in foreign.read_text(QUESTIONS, named=True).splitlines()]


def built_in_prompts(checkpoint: Checkpoint) -> list[Prompt]:
    """The questions as they are asked; in plain text where the checkpoint's chat template refuses one."""
    encode = encoder(checkpoint)
    return [Prompt(tuple(encode(conversation(messages, checkpoint)))) for messages in built_in()]
