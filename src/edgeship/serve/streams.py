"""Answers that are sent as they are made: server-sent events, and lines of JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from edgeship.errors import EdgeshipError
from edgeship.serve import exchange as exchanges
from edgeship.serve import failures

LINES = "application/x-ndjson"
DOCUMENTED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}, LINES: {}}}}
"""For the OpenAPI document, of routes that answer in a stream where they are asked to."""
DONE = "data: [DONE]\n\n"
"""What ends a stream of OpenAI's completions."""


def event(data: str, name: str | None = None) -> str:
    """A server-sent event."""
    return f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n"


def error_event(path: str, error: EdgeshipError) -> str:
    """What a stream of OpenAI's completions ends with where the answer cannot be completed."""
    return event(json.dumps(failures.document(path, error))) + DONE


def events(
    chunks: AsyncIterator[str],
    request: Request,
    failed: Callable[[str, EdgeshipError], str] = error_event,
    *,
    media_type: str = "text/event-stream",
) -> StreamingResponse:
    """A response of these chunks. failed: makes the last one of an error that comes when the answer has begun."""

    async def sent() -> AsyncIterator[str]:
        try:
            async for chunk in chunks:
                yield chunk
        except Exception as error:
            ours = failures.as_ours(error)
            exchanges.of(request.scope).error = ours.code
            yield failed(request.url.path, ours)

    # A proxy that collects what it passes on would make an answer come at once at its end.
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(sent(), media_type=media_type, headers=headers)
