"""The texts to calibrate with, a user's or the built-in ones, as token ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.checkpoint.reading import Text, conversation, encoder, in_template
from edgeship.errors import CalibrationInvalid
from edgeship.package import example_entries
from edgeship.package.example_entries import FORMATS, Entry
from edgeship.package.example_files import Kind
from edgeship.system import foreign

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint

MAX_TOKENS = 256
"""Tokens of one sequence; a longer text becomes several."""
BUDGET_TOKENS = 16_384
"""Tokens in all; what follows is not read."""
BUILT_IN = Path(__file__).with_name("calibration_texts.jsonl")
"""A conversation or a text a line, in such an order that the first part of the file is a fair sample of it."""
LEAST_TOKENS = 2_048
"""Of fewer there is no telling what is so by chance in them.

Of SmolLM2 with INT4, texts of the same kind came out nearer with 1,024 tokens and built-in texts than with these alone
(mean KLD 0.134 and 0.138 nats), with 4,096 without them (0.102 and 0.124).
"""
_PART_CHARACTERS = 1 << 16
"""A text is read a part at a time: one may be as large as a file, and what is beyond the budget is not wanted."""
_FILE = Kind(CalibrationInvalid, "calibration", "--calibrate", "text, or question and answer", once=False)


def built_in_digest() -> str:
    """SHA-256 of the built-in texts."""
    return hashlib.sha256(foreign.read_bytes(BUILT_IN)).hexdigest()


def read_sequences(path: Path, checkpoint: Checkpoint) -> list[list[int]]:
    """Token ids, at most MAX_TOKENS each and BUDGET_TOKENS in all.

    Built-in texts follow where the file says too little. Raises CalibrationInvalid naming the line, TemplateInvalid.
    """
    own = _own(path, checkpoint)
    different = _different(own)
    count = _count(different)
    if count >= LEAST_TOKENS:
        return own
    return different + _sequences(_built_in(checkpoint), checkpoint, BUDGET_TOKENS - count)


def remark(path: Path, checkpoint: Checkpoint) -> str | None:
    """What its owner should know of the file beforehand. Raises what `read_sequences` raises."""
    count = _count(_different(_own(path, checkpoint)))
    if count >= LEAST_TOKENS:
        return None
    return (
        f"the calibration texts have {count:,} tokens without repetitions, and fewer than {LEAST_TOKENS:,} say too "
        "little, so built-in texts are read too"
    )


def default_sequences(checkpoint: Checkpoint) -> list[list[int]]:
    """As `read_sequences`, of the built-in texts.

    Their conversations are plain text where the checkpoint has no chat template, or one that refuses them.
    """
    return _sequences(_built_in(checkpoint), checkpoint, BUDGET_TOKENS)


def _own(path: Path, checkpoint: Checkpoint) -> list[list[int]]:
    texts = (_text(entry, checkpoint) for entry in read_entries(path))
    sequences = _sequences(texts, checkpoint, BUDGET_TOKENS)
    if not sequences:
        raise CalibrationInvalid(
            "the calibration file holds no text of two tokens or more", where=str(path), hint=FORMATS
        )
    return sequences


def _different(sequences: Iterable[Sequence[int]]) -> list[list[int]]:
    return [list(tokens) for tokens in dict.fromkeys(map(tuple, sequences))]


def _count(sequences: Iterable[Sequence[int]]) -> int:
    return sum(map(len, sequences))


def _sequences(texts: Iterable[Text], checkpoint: Checkpoint, budget: int) -> list[list[int]]:
    sequences: list[list[int]] = []
    for tokens in _encoded(texts, checkpoint):
        tokens = tokens[:budget]
        budget -= len(tokens)
        sequences += [tokens[start : start + MAX_TOKENS] for start in range(0, len(tokens), MAX_TOKENS)]
        if budget <= 0:
            break
    return [tokens for tokens in sequences if len(tokens) > 1]


def _encoded(texts: Iterable[Text], checkpoint: Checkpoint) -> Iterator[list[int]]:
    """The tokens of each text, a part at a time where it is long."""
    encode = encoder(checkpoint)
    for text, special in texts:
        if not text.strip():
            continue
        for start in range(0, len(text), _PART_CHARACTERS):
            yield encode((text[start : start + _PART_CHARACTERS], special and start == 0))


def _built_in(checkpoint: Checkpoint) -> Iterator[Text]:
    for line in foreign.read_text(BUILT_IN, named=True).splitlines():
        entry = json.loads(line)
        yield (entry["text"], True) if "text" in entry else conversation(entry["messages"], checkpoint)


def read_entries(path: Path) -> Iterator[Entry]:
    """What the file holds, one after the other as it is asked for. Raises CalibrationInvalid naming the line."""
    return example_entries.read_entries(path, _FILE)


def _text(entry: Entry, checkpoint: Checkpoint) -> Text:
    from edgeship.checkpoint import require_template

    if isinstance(entry.content, str):
        return entry.content, True
    turns, expected = entry.content["messages"], entry.content.get("expected")
    if expected is not None:
        answer = expected if isinstance(expected, str) else json.dumps(expected, ensure_ascii=False)
        turns = [*turns, {"role": "assistant", "content": answer}]
    return in_template(turns, require_template(checkpoint), checkpoint)
