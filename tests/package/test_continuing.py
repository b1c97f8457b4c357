"""Templates cut where an answer that was begun ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.errors import NotSupported
from edgeship.package import continuing, template
from edgeship.package.conversation import Conversation
from tests.chat_templates import FAMILIES, READ_PARTS

QUESTION = {"role": "user", "content": "hello"}


def written(text: str, tokens: dict[str, str], conversation: Conversation) -> str:
    return template.render(text, conversation.messages, special_tokens=tokens, add_generation_prompt=False)


def begun(content: Any) -> Conversation:
    return Conversation([QUESTION, {"role": "assistant", "content": content}], continues=True)


@pytest.mark.parametrize("name", FAMILIES)
@given(content=st.text("Good day.\n {}<>", min_size=1).filter(str.strip))
def test_the_text_that_was_begun_ends_the_prompt(name: str, content: str) -> None:
    family, conversation = FAMILIES[name], begun(content)
    found = continuing.rendered(conversation, lambda given: written(family.template, family.tokens, given))
    assert found.endswith(content.lstrip())
    # What the template itself would write of a whole turn goes on from there.
    if content == content.strip():
        assert written(family.template, family.tokens, conversation).startswith(found)


def test_the_last_of_several_parts_is_continued() -> None:
    [text, tokens] = READ_PARTS["llama3.2-vision"], FAMILIES["llama3"].tokens
    parts = [{"type": "text", "text": "Good"}, {"type": "text", "text": " day"}]
    assert continuing.rendered(begun(parts), lambda given: written(text, tokens, given)).endswith("Good day")


@pytest.mark.parametrize(
    "text",
    [
        "{{ messages[0].content }}",
        "{{ messages[-1].content | upper }}",
        "{{ messages[-1].content }} and {{ messages[-1].content }}",
        "{{ messages[-1].content | replace('day', 'night') }}",
    ],
)
def test_a_template_that_does_not_show_it_as_it_is(text: str) -> None:
    with pytest.raises(NotSupported, match="does not show the last message as it is"):
        continuing.rendered(begun("Good day"), lambda given: written(text, {}, given))
