"""Puts the application together: routes, what stands around them, and what begins and ends with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from edgeship.errors import EdgeshipError, MethodWrong, NotFound
from edgeship.serve import access, failures, fields, health, page, query
from edgeship.serve import exchange as exchanges
from edgeship.serve.access import Gate
from edgeship.serve.anthropic import messages
from edgeship.serve.bodies import Bodies, Scope
from edgeship.serve.catalog import Catalog
from edgeship.serve.journal import Journal, log_body
from edgeship.serve.keys import Keyring, Keys
from edgeship.serve.line import Admission
from edgeship.serve.models import Pool
from edgeship.serve.ollama import chat as ollama_chat
from edgeship.serve.ollama import models as ollama_models
from edgeship.serve.openai import chat, completions, models, responses, tokens
from edgeship.serve.options import ServeOptions
from edgeship.serve.server import Server
from edgeship.serve.tracing import Tracing
from edgeship.settings import resolve
from edgeship.system.text import meant
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
    ollama_models.refused,
    health.router,
    page.router,
)
_ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, Route)]

# FastAPI's own spans and logs hold what an exception says, which may be what was asked; see tracing.py.
_UNTOLD: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def make(names: Sequence[str], options: ServeOptions) -> FastAPI:
    """The application; see `edgeship.serve.create_app`."""
    settings = resolve(cache_dir=options.cache_dir, threads=options.threads)
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

    server = Server(pool, options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            server.load(ready)
            yield
        finally:
            await server.close()

    app = FastAPI(
        title="Edgeship",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=failures.DOCUMENTED,
        telemetry=_UNTOLD,
    )
    app.state.server = server
    for router in ROUTERS:
        # The page is opened from links, which have whatever others put into them.
        app.include_router(router, dependencies=[] if router is page.router else [Depends(query.check)])
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_such_thing)
    app.add_exception_handler(EdgeshipError, _failed)
    _surround(app, server, options)
    return app


def _surround(app: FastAPI, server: Server, options: ServeOptions) -> None:
    """Puts around the routes what every request passes, the innermost first. Raises UsageError for a file of keys."""
    ring = Keyring(options.api_key_file) if options.api_key_file else None
    app.add_middleware(
        Bodies,
        most_bytes=options.most_body_bytes,
        within_s=options.body_s,
        refuse=refused,
        heard=log_body if options.log_prompts else None,
    )
    app.add_middleware(Admission, line=server.line, refuse=refused)
    if ring:
        app.add_middleware(Keys, ring=ring, refuse=refused)
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    # What can be asked with a key alone need not care by what name it is asked.
    allowed = options.allowed_hosts or ([access.ANY] if ring else [])
    names = access.names_of(options.host, allowed)
    app.add_middleware(Gate, names=names, origins=options.cors_origins, refuse=refused)
    app.add_middleware(Journal, refuse=refused, count=server.metrics.count_request)
    if options.tracer_provider:
        app.add_middleware(Tracing, provider=options.tracer_provider)


def refused(scope: Scope, error: Exception) -> JSONResponse:
    """The answer to a request that failed, in the words of the API that it was for."""
    ours = failures.as_ours(error)
    exchanges.of(scope).error = ours.code
    return JSONResponse(
        failures.document(failures.api_path(scope), ours),
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
        allowed = ", ".join(_methods_at(path))
        answer = refused(request.scope, MethodWrong(f"{path} takes no {request.method}", hint=f"It takes {allowed}."))
        answer.headers["allow"] = allowed
        return answer
    known = [route.path for route in _ROUTES if route.include_in_schema]
    close = meant(path, known, least=0.8)
    hint = f"Did you mean {close}?" if close else "/openapi.json lists what there is."
    return refused(request.scope, NotFound(f"there is no {path}", hint=hint))


def _methods_at(path: str) -> list[str]:
    """What can be done there, whichever routes do it."""
    there = [route for route in _ROUTES if route.path_regex.match(path)]
    return sorted({method for route in there for method in route.methods or ()})
