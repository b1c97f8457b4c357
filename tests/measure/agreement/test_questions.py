"""The built-in questions, as a checkpoint is asked them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.measure.agreement.questions import QUESTIONS, built_in_prompts

TURNS = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
ONE_TASK = "{{ raise_exception('a source language is missing') }}"


def shown(checkpoint: Checkpoint) -> list[str]:
    tokenizer = checkpoint.tokenizer.load()
    return [tokenizer.decode(prompt.tokens, special=True) for prompt in built_in_prompts(checkpoint)]


def test_each_waits_for_the_answer(tiny: Path) -> None:
    found = shown(replace(open_checkpoint(str(tiny)), chat_template=TURNS))
    assert len(found) == len(QUESTIONS.read_text(encoding="utf-8").splitlines())
    assert all(text.endswith("</s><assistant>") for text in found)


@pytest.mark.parametrize("chat_template", [None, ONE_TASK])
def test_they_are_plain_text_where_no_template_takes_them(tiny: Path, chat_template: str | None) -> None:
    found = shown(replace(open_checkpoint(str(tiny)), chat_template=chat_template))
    assert all(text.endswith("\n\nAssistant:") for text in found)
