"""Regular expressions that strangers write and answers are searched with: in a time that grows with the answer alone.

Python's own engine goes back and tries again, which for some patterns takes years, and nothing can end it meanwhile.
The one that comes with pydantic, Rust's, never goes back; so it has no look-around and no references to groups.
"""

from __future__ import annotations

import functools

from pydantic_core import SchemaError, SchemaValidator, core_schema

# The compiled form takes a quarter of what the engine grants at the most: with all of it, 50,000 characters took 22 s.
_ROOM = 4
_ON_ONE_LINE = ("error: ", "SchemaError: ")


def require_pattern(pattern: str) -> None:
    """Raises ValueError that says what of a pattern is not read."""
    _compiled(pattern, _ROOM)


def is_found(pattern: str, text: str) -> bool:
    """Whether a pattern is found anywhere in a text. Raises as `require_pattern`."""
    return _compiled(pattern).isinstance_python(text)


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str, times: int = 1) -> SchemaValidator:
    try:
        searched = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
        if times > 1:
            SchemaValidator(core_schema.str_schema(pattern=f"(?:{pattern}\n){{{times}}}", regex_engine="rust-regex"))
    except SchemaError as error:
        raise ValueError(_said(str(error))) from error
    return searched


def _said(message: str) -> str:
    if "size limit" in message:
        return "its repetitions make it too large: 4 times as much would take seconds to search for"
    said = message.strip().splitlines()[-1].strip()
    for mark in _ON_ONE_LINE:
        said = said.removeprefix(mark)
    if "look-around" in said or "backreferences" in said:
        said += ", since they may take for ever; not-regex says what must not be found"
    return said
