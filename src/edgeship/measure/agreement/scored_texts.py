"""The texts that fidelity is measured over, a user's or answers to built-in questions, as a reference takes them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeship.checkpoint import require_template
from edgeship.checkpoint.reading import conversation, encoder
from edgeship.engine.api import Conversation, Message, Prompt
from edgeship.engine.text import TextCodec
from edgeship.errors import TemplateInvalid, TextsInvalid
from edgeship.measure.agreement import questions
from edgeship.measure.agreement.reference import PlainText, ScoredText, Text
from edgeship.measure.cases.evalset import take_evenly
from edgeship.package import template
from edgeship.package.example_entries import FORMATS, read_entries
from edgeship.package.example_files import Kind

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

WINDOW_TOKENS = 512
"""A text without a conversation is scored in pieces so long."""
LIMIT = 48
"""Texts at the most, where nobody says otherwise: enough for a steady mean."""
_MOST_CHARACTERS = 1 << 22
"""Of a plain text, from its beginning."""
_FILE = Kind(TextsInvalid, "texts", "--texts", "text, or question and answer")


class Reader(Protocol):
    """How a model's tokenizer and chat template read."""

    def encode(self, text: str, *, special: bool) -> Sequence[int]:
        """The ids of a text; special: with what the tokenizer puts around every text."""
        ...

    def ask(self, messages: Sequence[Message]) -> Sequence[int]:
        """The ids of a conversation that waits for an answer. Raises TemplateInvalid, TemplateMissing."""
        ...

    def readable(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages as the template takes them. Raises TemplateMissing."""
        ...


class CheckpointReader:
    """A Reader: the checkpoint's own files."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint, self._encode = checkpoint, encoder(checkpoint)

    def encode(self, text: str, *, special: bool) -> Sequence[int]:
        """See Reader."""
        return self._encode((text, special))

    def ask(self, messages: Sequence[Message]) -> Sequence[int]:
        """See Reader; plain text where the template refuses it."""
        return self._encode(conversation(messages, self._checkpoint))

    def readable(self, messages: Sequence[Message]) -> Sequence[Message]:
        """See Reader."""
        return template.readable(require_template(self._checkpoint), messages, self._checkpoint.special_tokens)


class PackageReader:
    """A Reader: the files of a package."""

    def __init__(self, folder: Path) -> None:
        self.codec = TextCodec(folder)

    def encode(self, text: str, *, special: bool) -> Sequence[int]:
        """See Reader."""
        return self.codec.encode(text, special=special).tokens

    def ask(self, messages: Sequence[Message]) -> Sequence[int]:
        """See Reader."""
        return self.codec.render(Conversation(messages)).tokens

    def readable(self, messages: Sequence[Message]) -> Sequence[Message]:
        """See Reader."""
        if self.codec.template is None:
            self.ask(messages)  # which tells that
        return self.codec.readable(messages)


def own_answers(reader: Reader) -> list[Text]:
    """The built-in questions, for the reference to answer; those that the chat template refuses are left out."""
    found: list[Text] = []
    for messages in questions.built_in():
        with contextlib.suppress(TemplateInvalid):
            found.append(Prompt(tuple(reader.ask(messages))))
    return found


def read_texts(path: Path, reader: Reader, limit: int = LIMIT) -> list[Text]:
    """The texts of a file, `limit` at the most, taken evenly.

    A conversation with an answer is scored at the tokens of that answer. To one that waits for an answer the reference
    gives its own. A text is cut into windows of WINDOW_TOKENS, each of which counts as a text.
    Raises TextsInvalid naming the line, TemplateInvalid, TemplateMissing.
    """
    texts = [text for entry in read_entries(path, _FILE) for text in _texts(entry.content, reader)]
    if not texts:
        raise TextsInvalid("the texts file holds no text of two tokens or more", where=str(path), hint=FORMATS)
    return list(take_evenly(texts, limit))


def _texts(content: str | Mapping[str, Any], reader: Reader) -> Iterator[Text]:
    if isinstance(content, str):
        yield from _windows(content, reader)
    elif (expected := content.get("expected")) is None:
        yield Prompt(tuple(reader.ask(content["messages"])))
    else:
        yield ScoredText(reader.readable(content["messages"]), _answer(expected, content.get("match")))


def _answer(expected: Any, match: Any) -> str:
    """The expected answer as a model would write it, the first where several are right."""
    if isinstance(expected, list) and expected and match in ("exact", "contains"):
        expected = expected[0]
    return expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)


def _windows(text: str, reader: Reader) -> Iterator[PlainText]:
    """Each with what the tokenizer puts before every text, as the model has seen texts in training."""
    ids, around = (list(reader.encode(text[:_MOST_CHARACTERS], special=special)) for special in (False, True))
    before = around[: len(around) - len(ids)] if around[len(around) - len(ids) :] == ids else []
    step = WINDOW_TOKENS - len(before)
    for start in range(0, len(ids), step):
        tokens = before + ids[start : start + step]
        if len(tokens) > 1:
            yield PlainText(tokens)
