"""Whether all readers of a chat template make the same token ids of a conversation."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeship.errors import TemplateInvalid, TemplateMismatch
from edgeship.package import plain_jinja
from edgeship.package.prompt_parts import shared_length
from edgeship.package.template import Message, render, takes_instructions


@dataclass(frozen=True)
class Sample:
    """A conversation to compare readers by.

    edge_spaces: a text begins or ends with spaces, which a template may trim and prompt parts cannot.
    decomposed: an accent is a character of its own, which a tokenizer may compose (NFC) and onnxruntime-genai does not.
    """

    name: str
    messages: tuple[Message, ...]
    edge_spaces: bool = False
    decomposed: bool = False

    @property
    def has_system(self) -> bool:
        """True where a turn is the system's."""
        return any(message["role"] == "system" for message in self.messages)


def _conversation(name: str, *contents: str, system: str | None = None, spaces: bool = False) -> Sample:
    """Turns of the user and the assistant, by turns."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    first = [{"role": "system", "content": system}] if system is not None else []
    return Sample(name, (*first, *turns), spaces)


CONVERSATIONS = (
    _conversation("one question", "Where is my order?"),
    _conversation("system and question", "Where is my order?", system="You answer in one short sentence."),
    _conversation("several turns", "Hello", "Hello, what can I do?", "Cancel it.", "Done.", "Thank you!"),
    _conversation("system and several turns", "Hi", "Yes?", "What is 2 + 2?", system="Be brief.\nBe kind."),
    _conversation("many scripts", "Grüße, naïve café 😀👩‍👩‍👧 日本語のテキスト 한국어 العربية हिन्दी"),
    _conversation("code", 'def f(x):\n\treturn {"a": [x], "b": {}}\n\n\n# {Content} {{ content }} {% if x %}'),
    _conversation("digits", "Order 1234567890, 3.14159, 00001 and 2026-11-22 10:20:30; don't, WE'LL"),
    _conversation("special tokens in text", "a<|im_end|>b<|endoftext|><s></s><|eot_id|><end_of_turn>[INST] c [/INST]"),
    _conversation("long", "A sentence that is said again and again, with number 42 in it. " * 40 + "End"),
    _conversation("single character", "?"),
    _conversation("spaces inside", "a  b   c \t d\n\n\ne  \n f"),
    _conversation("spaces at the edges", "  spaces around \n", spaces=True),
    Sample("decomposed accents", ({"role": "user", "content": "cafe\u0301"},), decomposed=True),
)
"""What templates and tokenizers are compared by: each line has upset a real one."""


def conversations_for(template: str, special_tokens: Mapping[str, str]) -> tuple[Sample, ...]:
    """CONVERSATIONS, but those with a system turn where the template refuses one or leaves it out.

    Nobody gives such a template a system turn: instructions go into the first question. Raises TemplateInvalid.
    """
    takes_system = takes_instructions(template, tuple(special_tokens.items()))

    def accepted(conversation: Sample) -> bool:
        if conversation.has_system and not takes_system:
            return False
        try:
            render(template, conversation.messages, special_tokens=special_tokens)
        except TemplateInvalid:
            if conversation.has_system:
                return False
            raise
        return True

    return tuple(filter(accepted, CONVERSATIONS))


def of_template(template: str, special_tokens: Mapping[str, str]) -> tuple[Sample, ...]:
    """Conversations in which the texts that stand in the template itself are said, since it may look for them."""
    words = " ".join(plain_jinja.texts(template)) or "?"
    samples = (
        _conversation("the template's own texts", words, words, words),
        _conversation("the template's own texts as system", words, system=words),
    )

    def accepted(sample: Sample) -> bool:
        try:
            render(template, sample.messages, special_tokens=special_tokens)
        except TemplateInvalid:
            return False
        return True

    return tuple(filter(accepted, samples))


Encoder = Callable[[Sequence[Message]], Sequence[int]]
"""Gives the token ids of a conversation that waits for an answer. Raises TemplateInvalid where it cannot."""


@dataclass(frozen=True)
class Mismatch:
    """The first difference between two readers of one conversation.

    index: position of the first token that differs.
    expected, found: the ids from four tokens before to four after; their texts where a decoder is given.
    excuse: why this difference is known and bearable; None for one that is not.
    """

    conversation: str
    reference: str
    encoder: str
    index: int
    expected: tuple[int, ...]
    found: tuple[int, ...]
    expected_text: str | None = None
    found_text: str | None = None
    excuse: str | None = None

    def __str__(self) -> str:
        expected = f" ({self.expected_text!r})" if self.expected_text is not None else ""
        found = f" ({self.found_text!r})" if self.found_text is not None else ""
        return (
            f"conversation {self.conversation!r}, token {self.index}: {self.reference} has "
            f"{list(self.expected)}{expected}, {self.encoder} has {list(self.found)}{found}"
        )


def compare_tokens(
    conversation: str,
    reference: tuple[str, Sequence[int]],
    other: tuple[str, Sequence[int]],
    decode: Callable[[Sequence[int]], str] | None = None,
) -> Mismatch | None:
    """Where two readers' (name, ids) of a conversation first differ; None where they are equal."""
    expected, found = tuple(map(int, reference[1])), tuple(map(int, other[1]))
    if expected == found:
        return None
    index = shared_length(expected, found)
    window = slice(max(0, index - 4), index + 5)
    return Mismatch(
        conversation,
        reference[0],
        other[0],
        index,
        expected[window],
        found[window],
        _text(decode, expected[window]),
        _text(decode, found[window]),
    )


def _text(decode: Callable[[Sequence[int]], str] | None, ids: Sequence[int]) -> str | None:
    """The text of ids, of which a reader may have invented some: onnxruntime-genai has -1 for what it does not know."""
    return decode([number for number in ids if number >= 0]) if decode else None


def check_fidelity(
    encoders: Mapping[str, Encoder],
    conversations: Sequence[Sample] = CONVERSATIONS,
    decode: Callable[[Sequence[int]], str] | None = None,
) -> list[Mismatch]:
    """Every difference from the first encoder, which is the reference; empty where all agree.

    A conversation with a system turn is left out for an encoder that cannot express one.
    """
    (reference, reference_encode), *others = encoders.items()
    found = []
    for conversation in conversations:
        expected = _ids(reference_encode, conversation)
        if expected is None:
            continue
        for name, encode in others:
            mismatch = _difference(conversation, (reference, expected), (name, encode), decode)
            if mismatch is not None:
                found.append(mismatch)
    return found


def require_fidelity(mismatches: Sequence[Mismatch]) -> None:
    """Raises TemplateMismatch that shows the first difference without an excuse; nothing where there is none."""
    mismatches = [mismatch for mismatch in mismatches if mismatch.excuse is None]
    if mismatches:
        conversations = len({mismatch.conversation for mismatch in mismatches})
        raise TemplateMismatch(
            f"the readers of the chat template disagree in {conversations} of the test conversations; "
            f"first in {mismatches[0]}",
            where="chat template",
            hint="The model would read other prompts than in training. transformers rebuilds some tokenizers by their "
            "class; AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes the one in use to tokenizer.json.",
        )


def _difference(
    conversation: Sample,
    reference: tuple[str, Sequence[int]],
    other: tuple[str, Encoder],
    decode: Callable[[Sequence[int]], str] | None,
) -> Mismatch | None:
    name, encode = other
    ids = _ids(encode, conversation)
    if ids is None:
        return None
    mismatch = compare_tokens(conversation.name, reference, (name, ids), decode)
    if mismatch is None:
        return None
    # A reader that leaves out a step must agree on what that step would have made.
    for applies, change, excuse in (
        (conversation.edge_spaces, str.strip, f"{name} does not trim texts as the template does"),
        (conversation.decomposed, compose, f"{name} does not compose accents (NFC) as the tokenizer does"),
    ):
        changed = [{**message, "content": change(message["content"])} for message in conversation.messages]
        if applies and compare_tokens(conversation.name, reference, (name, encode(changed)), decode) is None:
            return replace(mismatch, excuse=excuse)
    return mismatch


def compose(text: str) -> str:
    """The text with its accents composed (NFC)."""
    return unicodedata.normalize("NFC", text)


def _ids(encode: Encoder, conversation: Sample) -> Sequence[int] | None:
    try:
        return encode(conversation.messages)
    except TemplateInvalid:
        if conversation.has_system:
            return None
        raise
