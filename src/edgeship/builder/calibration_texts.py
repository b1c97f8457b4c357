"""The texts to calibrate with, a user's or the built-in ones, as token ids."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.errors import CalibrationInvalid, TemplateInvalid
from edgeship.package import template
from edgeship.package.examples import array, unified
from edgeship.system import foreign, json_file

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

_Text = tuple[str, bool]
"""And whether the tokenizer puts its special tokens around it; a template has written them already."""

MAX_TOKENS = 256
"""Tokens of one sequence; a longer text becomes several."""
BUDGET_TOKENS = 16_384
"""Tokens in all; what follows is not read."""
BUILT_IN = Path(__file__).with_name("calibration_texts.jsonl")
"""A conversation or a text a line, in such an order that the first part of the file is a fair sample of it."""
QUESTIONS = Path(__file__).with_name("calibration_questions.jsonl")
"""A conversation a line that waits for an answer."""
_FORMATS = (
    'Each line is a JSON object with "messages" (and the answer as "expected"), or with "text"; '
    "any other file is plain text."
)


def built_in_digest() -> str:
    """SHA-256 of the built-in texts."""
    return hashlib.sha256(foreign.read_bytes(BUILT_IN)).hexdigest()


def read_sequences(path: Path, checkpoint: Checkpoint) -> list[list[int]]:
    """Token ids, at most MAX_TOKENS each and BUDGET_TOKENS in all.

    Raises CalibrationInvalid naming the line, TemplateInvalid.
    """
    sequences = _sequences(_texts(path, checkpoint), checkpoint)
    if not sequences:
        raise CalibrationInvalid("the calibration file holds no text", where=str(path), hint=_FORMATS)
    return sequences


def default_sequences(checkpoint: Checkpoint) -> list[list[int]]:
    """As `read_sequences`, of the built-in texts.

    Their conversations are plain text where the checkpoint has no chat template, or one that refuses them.
    """
    return _sequences(_built_in(BUILT_IN, checkpoint), checkpoint)


def default_prompts(checkpoint: Checkpoint) -> list[list[int]]:
    """The token ids of the built-in questions, each as it is asked, for the checkpoint to give its own answers to."""
    encode = _encoder(checkpoint)
    return [encode(text, special) for text, special in _built_in(QUESTIONS, checkpoint)]


def _sequences(texts: Iterable[_Text], checkpoint: Checkpoint) -> list[list[int]]:
    encode = _encoder(checkpoint)
    sequences: list[list[int]] = []
    left = BUDGET_TOKENS
    for text, special in texts:
        tokens = encode(text, special)[:left]
        left -= len(tokens)
        sequences += [tokens[start : start + MAX_TOKENS] for start in range(0, len(tokens), MAX_TOKENS)]
        if left <= 0:
            break
    return [tokens for tokens in sequences if len(tokens) > 1]


def _encoder(checkpoint: Checkpoint) -> Any:
    loaded = checkpoint.tokenizer.load()
    # Ids outside the model, as a resized tokenizer can have, would be another model's.
    return lambda text, special: [
        number for number in loaded.encode(text, special=special) if number < checkpoint.vocab_size
    ]


def _built_in(path: Path, checkpoint: Checkpoint) -> Iterator[_Text]:
    for line in foreign.read_text(path, named=True).splitlines():
        entry = json.loads(line)
        yield (entry["text"], True) if "text" in entry else _conversation(entry["messages"], checkpoint)


def _conversation(messages: Sequence[template.Message], checkpoint: Checkpoint) -> _Text:
    if checkpoint.chat_template is not None:
        with contextlib.suppress(TemplateInvalid):  # as those of models for one task do
            return _in_template(messages, checkpoint.chat_template, checkpoint), False
    turns = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
    return "\n\n".join(turns if _is_answered(messages) else [*turns, "Assistant:"]), True


def _texts(path: Path, checkpoint: Checkpoint) -> Iterator[_Text]:
    try:
        content = foreign.read_text(path, named=True)
    except (OSError, ValueError) as error:
        raise CalibrationInvalid(f"the calibration file cannot be read: {error}", where=str(path)) from error
    items = array(content)
    if items is None and not content.lstrip().startswith("{"):
        yield content, True
        return
    # Not splitlines(): JSON strings may hold U+2028 and its like as they are.
    lines = content.split("\n") if items is None else map(json.dumps, items)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = _parse(line, f"{path}:{number}")
        if isinstance(entry.get("text"), str):
            yield entry["text"], True
        else:
            yield _rendered(entry, checkpoint, f"{path}:{number}"), False


def _parse(line: str, where: str) -> Mapping[str, Any]:
    try:
        entry = json_file.parse(line)
    except ValueError as error:
        raise CalibrationInvalid(f"a line is not valid JSON: {error}", where=where, hint=_FORMATS) from error
    if isinstance(entry, dict):
        entry = unified(entry)
    if not isinstance(entry, dict) or not ("messages" in entry or isinstance(entry.get("text"), str)):
        raise CalibrationInvalid('a line has neither "messages" nor "text"', where=where, hint=_FORMATS)
    return entry


def _rendered(entry: Mapping[str, Any], checkpoint: Checkpoint, where: str) -> str:
    from edgeship.checkpoint import require_template

    messages = entry["messages"]
    fields = messages if isinstance(messages, list) else []
    if not fields or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in fields
    ):
        raise CalibrationInvalid('"messages" is no list of {"role", "content"}', where=where, hint=_FORMATS)
    expected = entry.get("expected")
    if expected is not None:
        answer = expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)
        fields = [*fields, {"role": "assistant", "content": answer}]
    return _in_template(fields, require_template(checkpoint), checkpoint)


def _in_template(messages: Sequence[template.Message], chat_template: str, checkpoint: Checkpoint) -> str:
    special_tokens = checkpoint.special_tokens
    return template.render(
        chat_template,
        template.readable(chat_template, messages, special_tokens),
        special_tokens=special_tokens,
        add_generation_prompt=not _is_answered(messages),
    )


def _is_answered(messages: Sequence[template.Message]) -> bool:
    return bool(messages[-1]["role"] == "assistant")
