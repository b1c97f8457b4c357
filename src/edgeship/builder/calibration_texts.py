"""The texts that a user calibrates with, as token ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.errors import CalibrationInvalid
from edgeship.package import template
from edgeship.package.examples import array, unified
from edgeship.system import foreign, json_file

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

MAX_TOKENS = 256
"""Tokens of one sequence; a longer text becomes several."""
BUDGET_TOKENS = 16_384
"""Tokens in all; what follows is not read."""
_SENTENCES = (
    "Our order of 12 valves (ref. 4711-B) arrived on Tuesday, but two of them leak. What should we do now?",
    "Please send photos of both valves and the delivery note. We will replace them within three working days.",
    "Summarise: the press stopped at 14:05 because the oil was too hot; after cooling down it ran again at 14:40.",
    'The press stood still for 35 minutes because of hot oil. {"start": "14:05", "end": "14:40", "cause": "oil"}',
    "Write a function that returns the mean of a list of numbers, and explain it in one sentence.",
    "def mean(values):\n    return sum(values) / len(values)\n\nIt divides the sum of the values by their number.",
    "Wie ändere ich das Passwort? Et comment puis-je supprimer mon compte ?",
    "Unter Einstellungen, Konto, Passwort. Le compte se supprime au même endroit, sous « Fermer le compte ».",
)
"""Questions and answers in turns."""
_FORMATS = (
    'Each line is a JSON object with "messages" (and the answer as "expected"), or with "text"; '
    "any other file is plain text."
)


def read_sequences(path: Path, checkpoint: Checkpoint) -> list[list[int]]:
    """Token ids, at most MAX_TOKENS each and BUDGET_TOKENS in all.

    Raises CalibrationInvalid naming the line, TemplateInvalid.
    """
    encode = _encoder(checkpoint)
    sequences: list[list[int]] = []
    left = BUDGET_TOKENS
    for text, special in _texts(path, checkpoint):
        tokens = encode(text, special)[:left]
        left -= len(tokens)
        sequences += [tokens[start : start + MAX_TOKENS] for start in range(0, len(tokens), MAX_TOKENS)]
        if left <= 0:
            break
    sequences = [tokens for tokens in sequences if len(tokens) > 1]
    if not sequences:
        raise CalibrationInvalid("the calibration file holds no text", where=str(path), hint=_FORMATS)
    return sequences


def default_sequences(checkpoint: Checkpoint) -> list[list[int]]:
    """A few conversations in the checkpoint's own template, for measurements that need some text but no certain one."""
    encode = _encoder(checkpoint)
    if checkpoint.chat_template is None:
        return [encode(text, True) for text in _SENTENCES]
    found = []
    for question, answer in zip(_SENTENCES[::2], _SENTENCES[1::2], strict=True):
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        text = template.render(
            checkpoint.chat_template, turns, special_tokens=checkpoint.special_tokens, add_generation_prompt=False
        )
        found.append(encode(text, False))
    return found


def _encoder(checkpoint: Checkpoint) -> Any:
    loaded = checkpoint.tokenizer.load()
    # Ids outside the model, as a resized tokenizer can have, would be another model's.
    return lambda text, special: [
        number for number in loaded.encode(text, special=special) if number < checkpoint.vocab_size
    ]


def _texts(path: Path, checkpoint: Checkpoint) -> Iterator[tuple[str, bool]]:
    """Each text, and whether the tokenizer puts its special tokens around it; a template has written them already."""
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
    return template.render(
        require_template(checkpoint),
        fields,
        special_tokens=checkpoint.special_tokens,
        add_generation_prompt=False,
    )
