"""`/metrics`: what Prometheus reads, by the names that dashboards of vLLM know.

One place feeds it with the steps of all answers, whatever API they are for. Numbers of this moment are looked up when
somebody reads them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from edgeship.engine.api import Token, Usage
from edgeship.serve.bodies import Scope
from edgeship.serve.exchange import Exchange
from edgeship.serve.line import Line
from edgeship.serve.models import Loaded, Pool

CONTENT_TYPE = CONTENT_TYPE_LATEST
PREFIXES = {"edgeship": "edgeship_", "vllm": "vllm:"}
_FIRST_S = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_BETWEEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_WHOLE_S = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0, 300.0)
_OTHER = "other"
_MODEL = ["model_name"]
_FINISHES = {"cancelled": "abort"}
"""What vLLM calls the ends of answers, where it has another word."""


class Metrics:
    """All of one server's, in a registry of its own. names: whose prefix they have."""

    def __init__(self, names: Literal["edgeship", "vllm"], pool: Pool, line: Line) -> None:
        self._pool, self._line = pool, line
        self._registry = registry = CollectorRegistry()
        prefix = PREFIXES[names]
        registry.register(_OfPool(pool, prefix))

        def counter(name: str, what: str, labels: list[str] = _MODEL) -> Counter:
            return Counter(prefix + name, what, labels, registry=registry)

        def gauge(name: str, what: str) -> Gauge:
            return Gauge(prefix + name, what, _MODEL, registry=registry)

        def seconds(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(prefix + name, what, _MODEL, registry=registry, buckets=buckets)

        self.first_s = seconds("time_to_first_token_seconds", "From a request's arrival to its first token.", _FIRST_S)
        self.between_s = seconds("inter_token_latency_seconds", "From one token to the next.", _BETWEEN_S)
        self.whole_s = seconds("e2e_request_latency_seconds", "From a request's arrival to an answer's end.", _WHOLE_S)
        self.queue_s = seconds("request_queue_time_seconds", "Waiting for a place.", _FIRST_S)
        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts.")
        self.generation_tokens = counter("generation_tokens", "Tokens of answers.")
        self.cache_queries = counter("prefix_cache_queries", "Tokens of prompts that were looked for in the cache.")
        self.cache_hits = counter("prefix_cache_hits", "Tokens of prompts that were found in it.")
        self.ends = counter("request_success", "Answers by how they ended.", [*_MODEL, "finished_reason"])
        self.requests = counter("http_requests", "Requests by what answered them.", ["handler", "method", "status"])
        self.running = gauge("num_requests_running", "Requests that are being answered.")
        self.waiting = gauge("num_requests_waiting", "Requests that wait for a place.")
        self.slots_used = gauge("kv_cache_usage_perc", "Slots for answers that are in use; 1 is all of them.")
        self.cache_bytes = gauge("prefix_cache_bytes", "What the cache of prompts holds.")
        self.memory = gauge("model_memory_bytes", "What a model's process holds.")

    def follow(self, exchange: Exchange) -> Followed:
        """What is to be told each step of the answers to a request."""
        return Followed(self, exchange)

    def count_request(self, scope: Scope, status: int) -> None:
        """A request is over. It is known by its route, since strangers choose what paths they ask."""
        handler = getattr(scope.get("route"), "path", _OTHER)
        method = scope["method"] if handler != _OTHER else _OTHER
        self.requests.labels(handler, method, status).inc()

    async def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        loaded = self._pool.loaded()
        self._look(loaded)
        await asyncio.gather(*(self._ask(model) for model in loaded))
        return generate_latest(self._registry)

    def _look(self, loaded: tuple[Loaded, ...]) -> None:
        running, waiting = self._line.counts()
        for gauge in (self.running, self.waiting, self.slots_used, self.cache_bytes, self.memory):
            gauge.clear()
        for name in {*running, *waiting, *(model.card.id for model in loaded)}:
            self.running.labels(name).set(running[name])
            self.waiting.labels(name).set(waiting[name])
        for model in loaded:
            self.memory.labels(model.card.id).set(model.memory_bytes)

    async def _ask(self, model: Loaded) -> None:
        stats = await model.stats()
        if stats is not None:
            self.cache_bytes.labels(model.card.id).set(stats.cached_bytes)
            if stats.slots:
                self.slots_used.labels(model.card.id).set(min(1.0, stats.running / stats.slots))


class _OfPool(Collector):
    """What the pool of models counts itself."""

    def __init__(self, pool: Pool, prefix: str) -> None:
        self._pool, self._prefix = pool, prefix

    def collect(self) -> Iterator[CounterMetricFamily]:
        """See Collector."""
        pool, prefix = self._pool, self._prefix
        yield CounterMetricFamily(f"{prefix}model_loads", "Models that were loaded.", value=pool.loads)
        yield CounterMetricFamily(f"{prefix}model_evictions", "Models that made room for others.", value=pool.evictions)
        restarts = CounterMetricFamily(
            f"{prefix}model_restarts", "How often a loaded model's process was started again.", labels=_MODEL
        )
        for model in pool.loaded():
            restarts.add_metric([model.card.id], model.restarts)
        yield restarts


class Followed:
    """The answers to one request, as their steps come."""

    def __init__(self, metrics: Metrics, exchange: Exchange) -> None:
        self._metrics, self._exchange = metrics, exchange
        self._model = exchange.model or _OTHER
        self._first_s, self._between_s = (
            histogram.labels(self._model) for histogram in (metrics.first_s, metrics.between_s)
        )
        self._last_s: dict[int, float] = {}

    def take(self, number: int, step: Token | Exception) -> None:
        """A step of answer `number`, or what ended it."""
        if isinstance(step, Exception):
            self._metrics.ends.labels(self._model, "error").inc()
            return
        now_s = time.perf_counter()
        if step.id is not None or step.text or step.thinking:
            self._note_time(number, now_s)
        if step.usage is not None:
            self._note_end(step, step.usage)

    def _note_time(self, number: int, now_s: float) -> None:
        last_s = self._last_s.get(number)
        self._last_s[number] = now_s
        if last_s is not None:
            self._between_s.observe(now_s - last_s)
            return
        first_s = now_s - self._exchange.arrived_s
        self._first_s.observe(first_s)
        if self._exchange.first_s is None:
            self._exchange.first_s = first_s

    def _note_end(self, step: Token, usage: Usage) -> None:
        metrics, model = self._metrics, self._model
        finish = str(step.finish)
        self._exchange.add(usage, finish)
        metrics.ends.labels(model, _FINISHES.get(finish, finish)).inc()
        metrics.prompt_tokens.labels(model).inc(usage.prompt_tokens)
        metrics.cache_queries.labels(model).inc(usage.prompt_tokens)
        metrics.cache_hits.labels(model).inc(usage.cached_tokens)
        metrics.generation_tokens.labels(model).inc(usage.completion_tokens)
        metrics.queue_s.labels(model).observe(self._exchange.waited_s + usage.queue_s)
        metrics.whole_s.labels(model).observe(self._exchange.age_s())
