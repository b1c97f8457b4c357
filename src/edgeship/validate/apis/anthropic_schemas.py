"""Anthropic's messages, whole and event by event."""

from __future__ import annotations

from edgeship.validate.apis.shapes import COUNT, NAME, OBJECT, TEXT, by_type, listed, maybe, only, thing

_STOP = only("end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal")
_BLOCK = by_type(
    {
        "text": thing({"text": TEXT}),
        "thinking": thing({"thinking": TEXT}),
        "tool_use": thing({"id": NAME, "name": NAME, "input": OBJECT}),
    },
    others=True,
)
_FACTS = {"id": NAME, "type": only("message"), "role": only("assistant"), "model": NAME, "content": listed(_BLOCK)}
_USAGE = thing({"input_tokens": COUNT, "output_tokens": COUNT})
MESSAGE = thing({**_FACTS, "stop_reason": _STOP, "stop_sequence": maybe(TEXT), "usage": _USAGE})
_DELTA = by_type(
    {
        "text_delta": thing({"text": TEXT}),
        "input_json_delta": thing({"partial_json": TEXT}),
        "thinking_delta": thing({"thinking": TEXT}),
    },
    others=True,
)
EVENT = by_type(
    {
        "message_start": thing({"message": thing({**_FACTS, "usage": _USAGE})}),
        "content_block_start": thing({"index": COUNT, "content_block": _BLOCK}),
        "content_block_delta": thing({"index": COUNT, "delta": _DELTA}),
        "content_block_stop": thing({"index": COUNT}),
        "message_delta": thing(
            {
                "delta": thing({"stop_reason": _STOP}, {"stop_sequence": maybe(TEXT)}),
                "usage": thing({"output_tokens": COUNT}),
            }
        ),
    },
    others=True,
)
ERROR = thing({"type": only("error"), "error": thing({"type": NAME, "message": NAME})})
