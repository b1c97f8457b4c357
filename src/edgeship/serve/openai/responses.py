"""`/v1/responses`, as OpenAI and the Open Responses specification have it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from edgeship.engine.api import Token
from edgeship.errors import EdgeshipError, NotFound, RequestInvalid
from edgeship.serve import exchange as exchanges
from edgeship.serve import streams
from edgeship.serve.answering import Answers
from edgeship.serve.logprobs import Spelled, spell
from edgeship.serve.models import Opened
from edgeship.serve.openai.response_items import Item, new_id, read_items
from edgeship.serve.openai.response_output import Event, Output
from edgeship.serve.openai.response_request import ResponseRequest
from edgeship.serve.openai.stored import StoredResponse
from edgeship.serve.server import Server, server_of

router = APIRouter()


@router.post("/v1/responses", responses=streams.DOCUMENTED)
async def create_response(body: ResponseRequest, request: Request) -> Response:
    """The answer to a text or to items, whole or as a stream of events."""
    server = server_of(request)
    items = [*_before(request, body), *read_items(body.input)]
    opened = await server.open(request, body.model)
    answers = await server.converse(request, opened, body.conversation(items, opened), [body.sampling()])
    begun = {"id": new_id("resp"), "object": "response", "created_at": int(time.time()), "model": opened.card.id}
    output = Output(begun | body.told(opened.chat.defaults))
    told = _told(server, opened, answers)
    keep = partial(_keep, request, body, items, output)
    if body.stream:
        return streams.events(_events(told, output, keep), request, partial(_failed, output))
    async for step, how in told:
        output.take(step, how)
    keep()
    return JSONResponse(output.response)


def _before(request: Request, body: ResponseRequest) -> list[Item]:
    """The items that this request goes on from."""
    if body.previous_response_id is None:
        return []
    try:
        previous = _find(body.previous_response_id, request)
    except NotFound as error:
        raise RequestInvalid(
            f"previous_response_id: {error.what}", param="previous_response_id", hint=error.hint
        ) from error
    return [*previous.read_items(), *(item for item in previous.read_output() if not _is_half_a_call(item))]


def _is_half_a_call(item: Item) -> bool:
    """Whether a call was cut: its arguments are no JSON, and nobody could make it."""
    return bool(item["type"] == "function_call" and item["status"] == "incomplete")


def _keep(request: Request, body: ResponseRequest, items: list[Item], output: Output) -> None:
    if body.store:
        server_of(request).stored.keep(output.response, items, _owner(request))


def _find(name: str, request: Request) -> StoredResponse:
    """The response of that id, where who asks has made it. Raises NotFound."""
    return server_of(request).stored.find(name, _owner(request))


def _owner(request: Request) -> str:
    """The name of the key that a request has; the same for all where none are asked for."""
    return exchanges.of(request.scope).key or ""


async def _told(server: Server, opened: Opened, answers: Answers) -> AsyncIterator[tuple[Token, Spelled]]:
    """The steps of the only answer, each with how the tokens are written that it tells log-probabilities of."""
    async for _, step in answers:
        yield step, await spell(server, opened.chat.codec, [step])


async def _events(
    told: AsyncIterator[tuple[Token, Spelled]], output: Output, keep: Callable[[], None]
) -> AsyncIterator[str]:
    for event in output.begin():
        yield _sent(event)
    async for step, how in told:
        events = output.take(step, how)
        if step.finish is not None:
            keep()  # before a client hears of it, and asks for it
        for event in events:
            yield _sent(event)
    yield streams.DONE


def _failed(output: Output, path: str, error: EdgeshipError) -> str:  # noqa: ARG001 - as streams.events has it
    return _sent(output.failed(error)) + streams.DONE


def _sent(event: Event) -> str:
    return streams.event(json.dumps(event), event["type"])


@router.get("/v1/responses/{name}")
async def retrieve_response(name: str, request: Request, stream: Literal["false"] = "false") -> Response:  # noqa: ARG001 - taken for that value alone
    """A response that was stored, as it was: whole, with what was asked for when it was made."""
    return Response(_find(name, request).response, media_type="application/json")


@router.delete("/v1/responses/{name}")
async def delete_response(name: str, request: Request) -> dict[str, Any]:
    """Forgets a response."""
    server_of(request).stored.forget(name, _owner(request))
    return {"id": name, "object": "response", "deleted": True}


@router.get("/v1/responses/{name}/input_items")
async def list_input_items(
    name: str,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> dict[str, Any]:
    """What a response answers, with what came before. after: the id of the item before the first."""
    items = _find(name, request).read_items()
    if order == "desc":
        items.reverse()
    if after is not None:
        items = items[_place(items, after) + 1 :]
    page = items[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"object": "list", "data": page, "has_more": len(items) > len(page), **ends}


def _place(items: list[Item], name: str) -> int:
    for place, item in enumerate(items):
        if item["id"] == name:
            return place
    raise RequestInvalid(f"after: there is no item {name!r}", param="after")


@router.post("/v1/responses/{name}/cancel")
async def cancel_response(name: str, request: Request) -> None:
    """Is refused: a response that is not made in the background ends with its request."""
    _find(name, request)
    raise RequestInvalid(
        "only what is made in the background can be cancelled, and background is not supported here",
        param="background",
        hint="Close the request: its answer ends at once.",
    )


@router.post("/v1/responses/{name}")
async def not_there(name: str) -> None:
    """Is refused: what else OpenAI has here, such as `compact`."""
    raise NotFound(f"there is no /v1/responses/{name}", hint="docs/serve.md lists what there is.")
