"""Puts the application together: routes, what stands around them, and what begins and ends with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from edgeship.errors import EdgeshipError, MethodWrong, NotFound
from edgeship.serve import failures, fields
from edgeship.serve.anthropic import messages
from edgeship.serve.bodies import Bodies, Scope
from edgeship.serve.catalog import Catalog
from edgeship.serve.models import Pool
from edgeship.serve.ollama import chat as ollama_chat
from edgeship.serve.ollama import models as ollama_models
from edgeship.serve.openai import chat, completions, models, responses, tokens
from edgeship.serve.options import ServeOptions
from edgeship.serve.server import Server
from edgeship.settings import resolve
from edgeship.version import __version__

ROUTERS = (
    chat.router,
    completions.router,
    responses.router,
    models.router,
    tokens.router,
    messages.router,
    ollama_chat.router,
    ollama_models.router,
)


def make(names: Sequence[str], options: ServeOptions) -> FastAPI:
    """The application; see `edgeship.serve.create_app`."""
    settings = resolve()
    pool = Pool(
        Catalog(names, settings=settings, aliases=options.aliases).cards,
        settings=settings,
        limits=options.limits,
        memory_bytes=options.memory_bytes,
        idle_timeout_s=options.idle_timeout_s,
    )
    return over(pool, options, ready=[card.id for card in pool.cards()] if names else None)


def over(pool: Pool, options: ServeOptions, *, ready: Sequence[str] | None = None) -> FastAPI:
    """An application that answers from this pool, and closes it when it ends. ready: see Pool.warm."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server = app.state.server = Server(pool, options)
        await pool.warm(ready)
        try:
            yield
        finally:
            await server.close()

    app = FastAPI(title="Edgeship", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_such_thing)
    app.add_exception_handler(EdgeshipError, _failed)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(
        Bodies,
        most_bytes=options.most_body_bytes,
        within_s=options.body_s,
        refuse=refused,
    )
    return app


def refused(scope: Scope, error: Exception) -> JSONResponse:
    """The answer to a request that failed, in the words of the API that it was for."""
    ours = failures.as_ours(error)
    param = getattr(ours, "param", None)
    return JSONResponse(
        failures.document(failures.api_path(scope), ours, param),
        status_code=ours.http_status,
        headers=failures.headers(ours),
    )


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return refused(request.scope, error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return refused(request.scope, fields.refusal(error.errors(), error.body))


async def _no_such_thing(request: Request, error: Exception) -> JSONResponse:
    """A path that there is not, or a method that a path does not take."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 405:
        return refused(request.scope, MethodWrong(f"{path} takes no {request.method}"))
    return refused(request.scope, NotFound(f"there is no {path}", hint="docs/serve.md lists what there is."))
