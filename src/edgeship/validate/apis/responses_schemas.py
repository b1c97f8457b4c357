"""The Responses API, whole and event by event."""

from __future__ import annotations

from edgeship.validate.apis.shapes import (
    COUNT,
    NAME,
    NUMBER,
    OBJECT,
    TEXT,
    Schema,
    by_type,
    listed,
    maybe,
    only,
    thing,
)

_STATUS = only("in_progress", "completed", "incomplete")
_PART = by_type({"output_text": thing({"text": TEXT, "annotations": listed(OBJECT)})}, others=True)
_ITEM = by_type(
    {
        "message": thing({"id": NAME, "role": only("assistant"), "status": _STATUS, "content": listed(_PART)}),
        "function_call": thing({"call_id": NAME, "name": NAME, "arguments": TEXT}),
    },
    others=True,
)
USAGE = thing({"input_tokens": COUNT, "output_tokens": COUNT, "total_tokens": COUNT})
_FACTS = {"id": NAME, "object": only("response"), "created_at": NUMBER, "model": NAME, "output": listed(_ITEM)}
RESPONSE = thing(
    {**_FACTS, "status": only("completed", "incomplete"), "usage": USAGE},
    {"incomplete_details": maybe(thing({"reason": only("max_output_tokens", "content_filter")}))},
)


def _event(needs: dict[str, Schema]) -> Schema:
    return thing({"sequence_number": COUNT, **needs})


_OF_ITEM = {"output_index": COUNT}
_OF_PART = {**_OF_ITEM, "item_id": NAME, "content_index": COUNT}
_BEGUN = _event({"response": thing({**_FACTS, "status": only("in_progress", "queued")})})
EVENT = by_type(
    {
        "response.created": _BEGUN,
        "response.in_progress": _BEGUN,
        "response.output_item.added": _event({**_OF_ITEM, "item": _ITEM}),
        "response.output_item.done": _event({**_OF_ITEM, "item": _ITEM}),
        "response.content_part.added": _event({**_OF_PART, "part": _PART}),
        "response.content_part.done": _event({**_OF_PART, "part": _PART}),
        "response.output_text.delta": _event({**_OF_PART, "delta": TEXT}),
        "response.output_text.done": _event({**_OF_PART, "text": TEXT}),
        "response.completed": _event({"response": RESPONSE}),
        "response.incomplete": _event({"response": RESPONSE}),
    },
    others=True,
)
