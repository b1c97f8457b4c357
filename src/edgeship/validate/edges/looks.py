"""What is looked at in answers that came: each function says in words what is wrong with one, or None."""

from __future__ import annotations

import json

from edgeship.package.conversation import text_of
from edgeship.validate.edges.row import Look, Seen

TIMES = 16
"""So often a control token stands in the texts by which it is counted."""
_LONG_TEXT = 24
_BROKEN = "\ufffd"
_CUT = ("length", "max_tokens")


def at_most(tokens: int) -> Look:
    """The answer has no more tokens than that, by the server's count, and is not as long as one without the limit."""

    def look(seen: Seen) -> str | None:
        made, text = seen.heard.made_tokens, seen.heard.text or ""
        if made is not None and made > tokens:
            return f"the answer has {made} tokens, and {tokens} were allowed"
        if len(seen.known.plain) > _LONG_TEXT * tokens and text == seen.known.plain:
            return f"{tokens} tokens were allowed, and the answer is as long as without a limit"
        return None

    return look


def stops_before(seen: Seen) -> str | None:
    """Nothing of the text that ends the answer is part of it."""
    stop = seen.body["stop"]
    stop = stop if isinstance(stop, str) else stop[-1]
    before = seen.known.plain.split(stop)[0]
    text = seen.heard.text or ""
    if text.startswith(before) and len(text) > len(before):
        return f"the answer goes on with {text[len(before) :]!r}, where {stop!r} was to end it"
    return None


def is_json(seen: Seen) -> str | None:
    """An answer that ended by itself is the JSON to which it was held, which other servers do not promise."""
    try:
        json.loads(seen.heard.text or "")
    except ValueError as error:
        return None if not seen.ours or seen.heard.finish in _CUT else f"the answer is no JSON: {error}"
    return None


def is_value(value: str) -> Look:
    """The answer, which is held to one value, is that, and no character of it is broken."""

    def look(seen: Seen) -> str | None:
        answer, told = seen.heard.text or "", json.dumps(value, ensure_ascii=False)
        if _BROKEN in answer:
            return f"the answer has broken characters: {answer!r}"
        if not seen.ours or seen.heard.finish in _CUT or _value_of(answer) == value:
            return None
        return f"the answer is {answer!r} and could only be {told}"

    return look


def _value_of(answer: str) -> object:
    try:
        return json.loads(answer)
    except ValueError:
        return None


def stays_text(seen: Seen) -> str | None:
    """No control token that stands in a message is one in the prompt."""
    if seen.heard.prompt is None or seen.first.prompt is None:
        return None
    own = _control_count(seen.first.prompt, seen.control_ids)
    found = _control_count(seen.heard.prompt, seen.control_ids)
    return (
        None if found <= own else f"the prompt has {found} control tokens, and without those in the text it has {own}"
    )


def _control_count(tokens: tuple[int, ...], control_ids: frozenset[int]) -> int:
    return sum(token in control_ids for token in tokens)


def counts_as_text(seen: Seen) -> str | None:
    """A control token that is typed many times takes more tokens of the prompt than one each."""
    if (wrong := stays_text(seen)) is not None:
        return wrong
    asked, first = seen.heard.prompt_tokens, seen.first.prompt_tokens
    if not asked or not first:
        return None
    added = asked - first
    typed = text_of(seen.body["messages"][-1]["content"])
    if added > TIMES:
        return None
    return f"{TIMES} times {typed[: len(typed) // TIMES]!r} made {added} tokens: it became a control token"


def is_shown_as_typed(seen: Seen) -> str | None:
    """The template shows what was typed as it is, and does not run it."""
    if seen.heard.prompt is None or seen.shown is None:
        return None
    typed = text_of(seen.body["messages"][-1]["content"]).strip()
    return None if typed in seen.shown(seen.heard.prompt) else f"the prompt does not hold {typed!r}"
