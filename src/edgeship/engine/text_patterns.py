"""What a JSON schema says of a text, as terminals of a grammar, for texts that are not written in JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgeship.engine import grammar

ANY = "/(?s:.*)/"
# What an expression is made of: escapes and sets of characters, which are passed over; brackets, bars and anchors.
_PARTS = re.compile(
    r"\\(?P<escape>.)|\[(?:\\.|[^\]\\])*+\]?|(?P<open>\()|(?P<close>\))|(?P<bar>\|)|(?P<anchor>[\^$])", re.DOTALL
)
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$/\-&~#]")

_OF_MONTHS = (
    "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8])"
)
_LEAP_YEARS = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = f"(?:[0-9]{{3}}[1-9]|[0-9]{{2}}[1-9]0|[0-9][1-9]00|[1-9]000)-(?:{_OF_MONTHS})|{_LEAP_YEARS}-02-29"
_HOUR_AND_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_HOUR_AND_MINUTE}:[0-5][0-9](?:\.[0-9]{{1,6}})?(?:Z|[+-]{_HOUR_AND_MINUTE})"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_GROUP = "[0-9A-Fa-f]{1,4}"
_WORD = "[A-Za-z0-9_+-]+"
_PERIOD = "(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"
_CLOCK = "(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_IN_URI = r"(?:[A-Za-z0-9._~:@!$&'()*+,;=/-]|%[0-9A-Fa-f]{2})"

_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"(?:{_DATE})T{_TIME}",
    "duration": f"P(?:{_PERIOD}(?:T{_CLOCK})?|T{_CLOCK}|[0-9]+W)",
    "email": rf"{_WORD}(?:\.{_WORD})*@{_LABEL}(?:\.{_LABEL})+",
    "hostname": rf"{_LABEL}(?:\.{_LABEL})*",
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
    "ipv6": f"(?:{_GROUP}:){{7}}{_GROUP}|(?:{_GROUP}:){{1,6}}:{_GROUP}|::{_GROUP}|::",
    "uuid": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "uri": rf"[A-Za-z][A-Za-z0-9+.-]*:{_IN_URI}+(?:\?(?:{_IN_URI}|\?)*)?(?:#(?:{_IN_URI}|\?)*)?",
}
"""Each matches only what is of its format; rare forms of some are left out."""


def content(schema: Mapping[str, Any], left_out: set[str]) -> list[str]:
    """The terminals that a text has to match, all of them. left_out: is told of keywords that are not kept."""
    found = list[str]()
    if "minLength" in schema or "maxLength" in schema:
        found.append(f"/(?s:.){{{schema.get('minLength', 0)},{schema.get('maxLength', '')}}}/")
    if "format" in schema:
        found.append(f"/{grammar.regex(_FORMATS[schema['format']])}/")
    if "pattern" in schema:
        if (whole := _whole(schema["pattern"])) is None:
            left_out.add("pattern")
        else:
            found.append(f"/{grammar.regex(whole)}/")
    return found


def without(mark: str) -> str:
    """The terminal that matches every text in which this mark does not stand, whose first character is in it once.

    A negation would say the same, and takes the library too long together with a length.
    """
    others = f"[^{_escaped(mark[0])}]*"
    after = ""
    for char in reversed(mark[1:]):
        after = f"([^{_escaped(mark[0])}{_escaped(char)}]{others}{'|' + _escaped(char) + after if after else ''})?"
    return f"/{others}({_escaped(mark[0])}{after})*/"


def _escaped(char: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", char).replace("\n", r"\n")


def _whole(pattern: str) -> str | None:
    """An expression for all of a text in which a pattern is to be found; None where its anchors cannot be followed."""
    anchors, bars, edges = 0, False, False
    depth = 0
    for found in _PARTS.finditer(pattern):
        depth += bool(found["open"]) - bool(found["close"])
        bars = bars or bool(found["bar"] and depth == 0)
        anchors += bool(found["anchor"])
        edges = edges or found["escape"] in ("b", "B")
    starts, ends = pattern.startswith("^"), _ends(pattern)
    if edges or anchors != starts + ends or (anchors and bars):
        return None
    inner = pattern[starts : len(pattern) - ends]
    return f"{'' if starts else '(?s:.*)'}({inner}){'' if ends else '(?s:.*)'}"


def _ends(pattern: str) -> bool:
    """Whether the last character is an anchor."""
    found = [*_PARTS.finditer(pattern)]
    return bool(found and found[-1]["anchor"] == "$" and found[-1].end() == len(pattern))
