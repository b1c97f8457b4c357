"""OpenAI's chat completions, completions, embeddings and models, as its clients read them.

What nearly every server of the field leaves out where it has nothing to say (`logprobs`, `refusal`, a tool call's
index) may be missing; an error's code may be a number.
"""

from __future__ import annotations

from edgeship.validate.apis.shapes import (
    COUNT,
    NAME,
    NUMBER,
    TEXT,
    Schema,
    either,
    listed,
    maybe,
    only,
    thing,
)

_FINISH = only("stop", "length", "tool_calls", "content_filter", "function_call")
_CALL = thing({"id": NAME, "type": only("function"), "function": thing({"name": NAME, "arguments": TEXT})})
_CALL_PIECE = thing(
    {"index": COUNT}, {"id": TEXT, "type": only("function"), "function": thing({}, {"name": TEXT, "arguments": TEXT})}
)
_SPELLED = {"token": TEXT, "logprob": NUMBER}
_BYTES = {"bytes": maybe(listed(COUNT))}
_LOGPROB = thing({**_SPELLED, "top_logprobs": listed(thing(_SPELLED, _BYTES))}, _BYTES)
_LOGPROBS = thing({"content": maybe(listed(_LOGPROB))})

USAGE = thing(
    {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    {
        "prompt_tokens_details": maybe(thing({}, {"cached_tokens": COUNT})),
        "completion_tokens_details": maybe(thing({}, {"reasoning_tokens": COUNT})),
    },
)
_MESSAGE = thing(
    {"role": only("assistant"), "content": maybe(TEXT)},
    {"tool_calls": maybe(listed(_CALL)), "refusal": maybe(TEXT), "reasoning_content": maybe(TEXT)},
)
_DELTA = thing(
    {},
    {
        "role": maybe(only("assistant")),
        "content": maybe(TEXT),
        "tool_calls": maybe(listed(_CALL_PIECE)),
        "reasoning_content": maybe(TEXT),
    },
)


def _of(kind: str, choice: Schema, *, stream: bool) -> Schema:
    needs = {
        "id": NAME,
        "object": only(kind),
        "created": COUNT,
        "model": NAME,
        "choices": listed(choice, 0 if stream else 1),
    }
    return thing(needs, {"usage": maybe(USAGE)}) if stream else thing(needs | {"usage": USAGE})


CHAT = _of(
    "chat.completion",
    thing({"index": COUNT, "message": _MESSAGE, "finish_reason": _FINISH}, {"logprobs": maybe(_LOGPROBS)}),
    stream=False,
)
CHAT_CHUNK = _of(
    "chat.completion.chunk",
    thing({"index": COUNT, "delta": _DELTA, "finish_reason": maybe(_FINISH)}, {"logprobs": maybe(_LOGPROBS)}),
    stream=True,
)
CHAT_LOGPROBS = _of("chat.completion", thing({"logprobs": thing({"content": listed(_LOGPROB, 1)})}), stream=False)
"""Of an answer whose tokens were asked for."""
CHAT_CALL = _of(
    "chat.completion",
    thing({"message": thing({"tool_calls": listed(_CALL, 1)}), "finish_reason": only("tool_calls")}),
    stream=False,
)
"""Of an answer that must be a call."""
COMPLETION = _of(
    "text_completion", thing({"index": COUNT, "text": TEXT, "finish_reason": only("stop", "length")}), stream=False
)
COMPLETION_CHUNK = _of(
    "text_completion",
    thing({"index": COUNT, "text": TEXT}, {"finish_reason": maybe(only("stop", "length"))}),
    stream=True,
)
MODELS = thing(
    {"object": only("list"), "data": listed(thing({"id": NAME, "object": only("model")}, {"created": COUNT}))}
)
EMBEDDINGS = thing(
    {
        "object": only("list"),
        "data": listed(thing({"index": COUNT, "embedding": either(listed(NUMBER, 1), NAME)}), 1),
        "model": NAME,
        "usage": thing({"prompt_tokens": COUNT, "total_tokens": COUNT}),
    }
)
ERROR = thing(
    {"error": thing({"message": NAME, "type": NAME}, {"param": maybe(TEXT), "code": maybe(either(TEXT, COUNT))})}
)
