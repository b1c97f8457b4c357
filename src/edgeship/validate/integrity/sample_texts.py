"""Texts that a tokenizer must give back: every script, and what has upset tokenizers."""

from __future__ import annotations

import unicodedata
from functools import cache

# Of the planes that hold all scripts but rare ideographs.
_CHARACTERS = range(0x21, 0x20000)
_OF_EACH = 8
_OTHERS = {
    "blanks": "a  b   c \t d\n\n\ne  \n\tf\r\ng",
    "code": 'def f(x):\n\treturn {"a": [x], "b": {}}  # {{ x }} {% if x %}\n\n    <b>&amp;</b> \\n "\\u00e9"',
    "digits": "Order 1234567890, 3.14159, 00001 and 2026-11-22 10:20:30; don't, WE'LL",
    "emoji joins": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea",
    "variants": "1\ufe0f\u20e3 \u2764\ufe0f \u2764\ufe0e",
    "accents": "Gr\u00fc\u00dfe, na\u00efve caf\u00e9, cafe\u0301, A\u030angstro\u0308m, \ufb01ne",
    "directions": "\u202babc\u202c \u200fabc\u200e \u2067x\u2069",
    "invisible": "a\u00adb\u2060c\u00a0d\u2003e\u3000f",
    "ideographs": "\u65e5\u672c\u8a9e\u3068\u4e2d\u6587\u3001\ud55c\uad6d\uc5b4 \U00020000\U0002a6d6",
    "private and last": "\ue000 \U0010fffd \ufffd",
    "long word": "a" * 100 + "=" * 50 + "-" * 50,
}


def sample_texts(every: int = 1) -> dict[str, str]:
    """Each text by what it has; every so many of the scripts that Unicode names, by its first characters."""
    scripts = _scripts()
    return _OTHERS | {name: scripts[name] for name in list(scripts)[::every]}


@cache
def _scripts() -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for code in _CHARACTERS:
        character = chr(code)
        if unicodedata.category(character)[0] in "LMNS":
            first = found.setdefault(unicodedata.name(character, "?").split()[0], [])
            if len(first) < _OF_EACH:
                first.append(character)
    return {name.lower(): f"{''.join(first)} {''.join(first)}" for name, first in found.items()}
