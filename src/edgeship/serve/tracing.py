"""A span for each request, by OpenTelemetry: which model answered, with how many tokens, when, and how it ended.

The names are those of its conventions for generative AI. What was asked and answered is never in a span. Sending spans
needs the extra `edgeship[otel]`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers

from edgeship.errors import DependencyMissing
from edgeship.serve import exchange as exchanges
from edgeship.serve.bodies import Application, Message, Receive, Scope, Send
from edgeship.serve.exchange import Exchange
from edgeship.serve.journal import PROBES
from edgeship.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider as SdkProvider
    from opentelemetry.trace import Span
    from opentelemetry.trace import TracerProvider as TracerProvider

_NAME = "edgeship"
_COLLECTOR = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_LAST_S = 3.0
"""What is left of the spans has so long to be sent when the server ends."""
_OPERATIONS = {"/v1/completions": "text_completion", "/api/generate": "text_completion"}
"""What each route is called in the conventions, where it is no chat."""


class Tracing:
    """Wraps an application, outside the journal. provider: makes the spans. Probes leave none."""

    def __init__(self, app: Application, *, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._tracer = provider.get_tracer(_NAME, __version__)
        self._context_in = TraceContextTextMapPropagator().extract

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(PROBES):
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind

        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began_ns = time.time_ns()
        parent = self._context_in(dict(Headers(scope=scope)))
        span = self._tracer.start_span(scope["method"], parent, SpanKind.SERVER, start_time=began_ns)
        try:
            await self._app(scope, receive, send_on)
        finally:
            _tell(span, scope, status, began_ns)
            span.end()


def _tell(span: Span, scope: Scope, status: int, began_ns: int) -> None:
    """Says what became of the request: by its route, since strangers choose what paths they ask."""
    from opentelemetry.trace import StatusCode

    exchange = exchanges.of(scope)
    route = getattr(scope.get("route"), "path", None)
    told: dict[str, Any] = {
        "http.request.method": scope["method"],
        "http.route": route,
        "http.response.status_code": status or None,
        "error.type": exchange.error,
        "edgeship.request.id": exchange.id,
        "edgeship.key": exchange.key,
    }
    if route:
        span.update_name(f"{scope['method']} {route}")
    if exchange.model:
        told |= _of_answers(exchange, _OPERATIONS.get(str(route), "chat"))
        span.update_name(f"{told['gen_ai.operation.name']} {exchange.model}")
    span.set_attributes({name: value for name, value in told.items() if value is not None})
    if exchange.first_s is not None:
        span.add_event("gen_ai.first_token", timestamp=began_ns + int(exchange.first_s * 1e9))
    if exchange.error and not 400 <= status < 500:  # those are the client's
        span.set_status(StatusCode.ERROR)


def _of_answers(exchange: Exchange, operation: str) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _NAME,
        "gen_ai.request.model": exchange.model,
        "gen_ai.usage.input_tokens": exchange.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": exchange.cached_tokens,
        "gen_ai.usage.output_tokens": exchange.completion_tokens,
        "gen_ai.response.finish_reasons": exchange.finishes,
        "edgeship.waited_s": exchange.waited_s,
    }


@contextmanager
def exporting(environment: Mapping[str, str]) -> Iterator[TracerProvider | None]:
    """Makes spans for the collector that OpenTelemetry's own variables name; None where they name none.

    What is left of them is sent when this ends. Raises DependencyMissing without the extra `edgeship[otel]`.
    """
    named = any(environment.get(name) for name in _COLLECTOR)
    if not named or environment.get("OTEL_TRACES_EXPORTER") == "none":
        yield None
        return
    provider = _exporter()
    try:
        yield provider
    finally:
        # It tries for longer where nobody listens, and whoever wants the server to end is not kept waiting for that.
        last = threading.Thread(target=provider.shutdown, name="edgeship spans", daemon=True)
        last.start()
        last.join(_LAST_S)


def _exporter() -> SdkProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and sending spans needs {error.name}, which is not installed",
            hint="Install edgeship[otel], or set OTEL_TRACES_EXPORTER=none.",
        ) from error

    ours = Resource.create({"service.name": _NAME, "service.version": __version__})
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    for handler in logging.getLogger("edgeship").handlers:  # its complaints go where ours go
        logging.getLogger("opentelemetry").addHandler(handler)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
