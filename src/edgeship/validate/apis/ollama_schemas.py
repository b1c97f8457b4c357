"""Ollama's chat, generate, tags and show. What an answer says at its end is said on the last line of a stream too."""

from __future__ import annotations

from edgeship.validate.apis.shapes import COUNT, FLAG, NAME, OBJECT, TEXT, Schema, listed, only, thing

_AT_END = {
    "done_reason": only("stop", "length", "load", "unload"),
    "prompt_eval_count": COUNT,
    "eval_count": COUNT,
    "total_duration": COUNT,
}
_CALL = thing({"function": thing({"name": NAME, "arguments": OBJECT})})
_MESSAGE = thing({"role": only("assistant"), "content": TEXT}, {"thinking": TEXT, "tool_calls": listed(_CALL)})


def _answer(needs: dict[str, Schema]) -> tuple[Schema, Schema]:
    """Whole, and each line of a stream."""
    facts = {"model": NAME, "created_at": NAME, "done": FLAG, **needs}
    ended = {"if": {"properties": {"done": only(True)}}, "then": thing(_AT_END)}
    return thing({**facts, "done": only(True), **_AT_END}), {**thing(facts), **ended}


CHAT, CHAT_LINE = _answer({"message": _MESSAGE})
GENERATE, GENERATE_LINE = _answer({"response": TEXT})
TAGS = thing(
    {"models": listed(thing({"name": NAME, "model": NAME, "modified_at": NAME, "size": COUNT, "digest": TEXT}))}
)
SHOW = thing({"details": OBJECT, "model_info": OBJECT}, {"capabilities": listed(NAME), "template": TEXT})
ERROR = thing({"error": NAME})
