"""The span that a request leaves."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from edgeship.serve import ServeOptions, tracing
from tests import waiting
from tests.packages import make_package
from tests.serve.serving import ANSWERS, bigram_app, scripted_app, serving

PATH = "/v1/chat/completions"
QUESTION: dict[str, Any] = {"model": "alias", "messages": [{"role": "user", "content": "what nobody may read"}]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextmanager
def traced(package: Path | None = None, **how: Any) -> Iterator[tuple[str, InMemorySpanExporter]]:
    """A server's URL, and where its spans come."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    options = ServeOptions(tracer_provider=provider)

    def make() -> FastAPI:
        return bigram_app(package, options) if package else scripted_app(ANSWERS, options, default="nor this", **how)

    with serving(make) as url:
        yield url, spans


def the_one(spans: InMemorySpanExporter) -> tuple[ReadableSpan, dict[str, Any]]:
    """The span, which may come when its answer is there already, and its attributes."""
    waiting.until(lambda: bool(spans.get_finished_spans()))
    [span] = spans.get_finished_spans()
    return span, dict(span.attributes or {})


def test_a_request_leaves_one_span_without_what_was_said() -> None:
    with traced() as (url, spans):
        headers = {"x-request-id": "mine", "traceparent": f"00-{TRACE}-{PARENT}-01"}
        usage = httpx2.post(url + PATH, json=QUESTION, headers=headers).json()["usage"]
        span, attributes = the_one(spans)
    assert (span.name, span.kind) == ("chat scripted", SpanKind.SERVER)
    assert attributes.pop("edgeship.waited_s") >= 0
    assert attributes == {
        "http.request.method": "POST",
        "http.route": PATH,
        "http.response.status_code": 200,
        "edgeship.request.id": "mine",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "edgeship",
        "gen_ai.request.model": "scripted",
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "gen_ai.response.finish_reasons": ("stop",),
    }
    [event] = span.events
    assert event.name == "gen_ai.first_token"
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time < event.timestamp < span.end_time
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert span.status.status_code is StatusCode.UNSET
    assert "nobody" not in span.to_json()
    assert "nor this" not in span.to_json()


def test_a_completion_is_called_so(tmp_path: Path) -> None:
    with traced(make_package(tmp_path / "bigram").folder) as (url, spans):
        assert httpx2.post(f"{url}/v1/completions", json={"model": "bigram", "prompt": "hello"}).status_code == 200
        span, _ = the_one(spans)
    assert span.name == "text_completion bigram"


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/messages", {"model": "scripted", "max_tokens": 9, "messages": QUESTION["messages"]}, "chat scripted"),
        ("/api/chat", {"model": "scripted", "messages": QUESTION["messages"]}, "chat scripted"),
        (PATH, QUESTION | {"stream": True, "n": 2}, "chat scripted"),
    ],
)
def test_each_api(path: str, body: dict[str, Any], name: str) -> None:
    with traced() as (url, spans):
        assert httpx2.post(url + path, json=body).status_code == 200
        span, attributes = the_one(spans)
    assert span.name == name
    assert set(attributes["gen_ai.response.finish_reasons"]) == {"stop"}
    assert len(attributes["gen_ai.response.finish_reasons"]) == body.get("n", 1)


@pytest.mark.parametrize(
    ("path", "name", "error"),
    [(PATH, f"POST {PATH}", "model-unknown"), ("/whatever/strangers/think/of", "POST", "not-found")],
)
def test_a_request_that_is_refused(path: str, name: str, error: str) -> None:
    with traced() as (url, spans):
        # What is no trace's parent begins a trace of its own.
        response = httpx2.post(url + path, json=QUESTION | {"model": "secret"}, headers={"traceparent": "rubbish"})
        span, attributes = the_one(spans)
    assert (span.name, span.parent, attributes["error.type"]) == (name, None, error)
    assert attributes["http.response.status_code"] == response.status_code
    assert span.status.status_code is StatusCode.UNSET
    assert "secret" not in span.to_json()
    assert "strangers" not in span.to_json()


def test_a_client_that_goes() -> None:
    with traced(delay_s=0.01) as (url, spans):
        with httpx2.stream("POST", url + PATH, json=QUESTION | {"stream": True}) as response:
            next(response.iter_lines())
        span, attributes = the_one(spans)
    assert span.name == "chat scripted"
    assert attributes["http.response.status_code"] == 200


def test_probes_leave_none_and_nothing_is_made_unasked() -> None:
    with traced() as (url, spans):
        for path in ("/health", "/health/live", "/ready", "/metrics"):
            httpx2.get(url + path)
        httpx2.get(f"{url}/v1/models")
        span, _ = the_one(spans)
    assert span.name == "GET /v1/models"
    for environment in ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_TRACES_EXPORTER": "none", "A": "b"}):
        with tracing.exporting(environment) as provider:
            assert provider is None


def test_spans_go_to_the_collector_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.put((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with (
            tracing.exporting(variables) as provider,
            serving(lambda: scripted_app(options=ServeOptions(tracer_provider=provider))) as url,
        ):
            httpx2.get(f"{url}/v1/models")
        collector.shutdown()
    path, body = sent.get(timeout=10)
    assert path == "/v1/traces"
    [of_resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    attributes = {each.key: each.value.string_value for each in of_resource.resource.attributes}
    assert attributes.items() >= {"service.name": "edgeship", "deployment.environment.name": "test"}.items()
    assert [span.name for span in of_resource.scope_spans[0].spans] == ["GET /v1/models"]
