"""What may not stand in an answer's text: control tokens, a repetition loop at its end, another script. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

from edgeship.engine.thinking import MARKS
from edgeship.package.tool_formats import FORMATS

_TURN_MARKS = (
    *(
        "<|im_start|>",
        "<|im_end|>",
        "<|im_sep|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    *("<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    *("<|start|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>", "<start_of_turn>", "<end_of_turn>", "<bos>"),
    *("<eos>", "<pad>", "<unk>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
    *("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<|begin|>", "<|eos|>"),
    *("<|turn>", "<turn|>", "<|start_of_role|>", "<|end_of_role|>", "[|assistant|]", "[|user|]", "[|endofturn|]"),
)
FAMILIES_MARKS = frozenset(
    (
        *_TURN_MARKS,
        *(mark for begin, end, _ in MARKS for mark in (begin, end)),
        *(mark for each in FORMATS for mark in (each.mark, each.end) if mark),
    )
)
"""What chat templates and models of all families write around turns, thoughts and calls."""
# Where control tokens leave no text, the name of the role is all that shows of a turn.
_ROLE = re.compile(r"\A\s*(system|user|assistant|model)[ \t]*\n", re.IGNORECASE)
_MOST_READ = 20_000
_FEWEST_ROUNDS, _FEWEST_CHARACTERS = 3, 24

_LETTERS = ("Lu", "Ll", "Lt", "Lo")
_KANA = ("HIRAGANA", "KATAKANA")
# What is only blanks, a word or one sign is part of ordinary texts.
_TELLING = re.compile(r"(?=.*[^\w\s]).{2,}", re.DOTALL)


def is_telling(mark: str) -> bool:
    """Whether a control token's text cannot be taken for a word."""
    return bool(_TELLING.fullmatch(mark))


def leaked(text: str, marks: Iterable[str], *, allowed: str = "") -> str | None:
    """The first mark in an answer that belongs to the template and not to a text. allowed: where it stands too.

    A role's name on a line of its own at the beginning is one.
    """
    found = [(text.find(mark), -len(mark), mark) for mark in marks if mark in text and mark not in allowed]
    if found:
        return min(found)[2]
    role = _ROLE.match(text)
    return role.group(1) if role and not _ROLE.match(allowed) else None


def loop_share(text: str) -> float:
    """The part of a text that, at its end, says the same over and over: three times at least, and 24 characters.

    1 for a text that is nothing else. A loop is found whatever the length of what it repeats.
    """
    backwards = text.strip()[::-1][:_MOST_READ]
    longest, borders = 0, [0] * len(backwards)
    for place in range(1, len(backwards)):
        border = borders[place - 1]
        while border and backwards[place] != backwards[border]:
            border = borders[border - 1]
        borders[place] = border + (backwards[place] == backwards[border])
        # What is so long has its smallest period there.
        length = place + 1
        if length >= _FEWEST_ROUNDS * (length - borders[place]):
            longest = length
    return longest / len(backwards) if longest >= _FEWEST_CHARACTERS else 0.0


def scripts(text: str) -> Counter[str]:
    """How many letters of each script a text has, by the first word of their names: LATIN, CYRILLIC, CJK.

    Letters of another width or style are those that they stand for. Marks that lengthen or repeat a letter belong to
    several scripts, and are not counted. Both Japanese syllabaries are KANA: no text is meant to keep to one of them.
    """
    plain = unicodedata.normalize("NFKC", text)
    names = (
        unicodedata.name(character, "").partition(" ")[0]
        for character in plain
        if unicodedata.category(character) in _LETTERS
    )
    return Counter("KANA" if name in _KANA else name for name in names if name)


def strange_share(text: str, known: Collection[str]) -> float:
    """The part of a text's letters that belong to other scripts than the known ones; 0 without letters."""
    found = scripts(text)
    total = found.total()
    return sum(count for name, count in found.items() if name not in known) / total if total else 0.0
