"""The texts to calibrate with, a user's or the built-in ones, as token ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.checkpoint.reading import Text, conversation, encoder, in_template
from edgeship.errors import CalibrationInvalid
from edgeship.package.examples import array, unified
from edgeship.system import foreign, json_file

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

MAX_TOKENS = 256
"""Tokens of one sequence; a longer text becomes several."""
BUDGET_TOKENS = 16_384
"""Tokens in all; what follows is not read."""
BUILT_IN = Path(__file__).with_name("calibration_texts.jsonl")
"""A conversation or a text a line, in such an order that the first part of the file is a fair sample of it."""
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
    return _sequences(_built_in(checkpoint), checkpoint)


def _sequences(texts: Iterable[Text], checkpoint: Checkpoint) -> list[list[int]]:
    encode = encoder(checkpoint)
    sequences: list[list[int]] = []
    left = BUDGET_TOKENS
    for text in texts:
        tokens = encode(text)[:left]
        left -= len(tokens)
        sequences += [tokens[start : start + MAX_TOKENS] for start in range(0, len(tokens), MAX_TOKENS)]
        if left <= 0:
            break
    return [tokens for tokens in sequences if len(tokens) > 1]


def _built_in(checkpoint: Checkpoint) -> Iterator[Text]:
    for line in foreign.read_text(BUILT_IN, named=True).splitlines():
        entry = json.loads(line)
        yield (entry["text"], True) if "text" in entry else conversation(entry["messages"], checkpoint)


def _texts(path: Path, checkpoint: Checkpoint) -> Iterator[Text]:
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
            yield _rendered(entry, checkpoint, f"{path}:{number}")


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


def _rendered(entry: Mapping[str, Any], checkpoint: Checkpoint, where: str) -> Text:
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
    return in_template(fields, require_template(checkpoint), checkpoint)
