"""Whether what came of a request is what must come of it."""

from __future__ import annotations

from edgeship.validate.edges.row import Expect, Heard, Look, Seen

_SAID = 300


def wrong_with(expect: Expect, heard: Heard, looks: tuple[Look, ...] = (), seen: Seen | None = None) -> str | None:
    """What is wrong, in words; None where nothing is. seen: what looks have to go by."""
    if heard.end == "late":
        return f"it came to no end within {heard.took_s:.0f} s"
    if heard.end == "unreachable":
        return "no connection could be made"
    status = heard.status
    if status is None:
        told = heard.end == "left" or expect.closed
        return None if told else "the connection was closed without an answer"
    if status in expect.also:
        return None
    if status >= 500:
        return f"it failed with {status}: {_quoted(heard)}"
    if status >= 300:
        return _wrong_refusal(expect, heard, status)
    return _wrong_answer(expect, heard, looks, seen)


def _wrong_refusal(expect: Expect, heard: Heard, status: int) -> str | None:
    fits = expect.refused and status >= 400 and (not expect.statuses or status in expect.statuses)
    if not fits:
        return f"it was refused with {status}: {_quoted(heard)}"
    return f"it was refused with {status}, and {heard.fault}: {_quoted(heard)}" if heard.fault else None


def _wrong_answer(expect: Expect, heard: Heard, looks: tuple[Look, ...], seen: Seen | None) -> str | None:
    if not expect.answered:
        return f"it was answered: {_quoted(heard)}"
    if heard.end == "left":
        return None
    if heard.end == "cut":
        return f"its answer broke off: {_quoted(heard)}"
    if heard.fault:
        return f"it was answered, and {heard.fault}: {_quoted(heard)}"
    if seen is None:
        return None
    return next((wrong for look in looks if (wrong := look(seen)) is not None), None)


def _quoted(heard: Heard) -> str:
    said = heard.refused_as or heard.said or heard.text or "nothing"
    return said if len(said) <= _SAID else f"{said[:_SAID]}..."
