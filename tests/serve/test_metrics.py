"""What Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgeship.engine.api import Limits
from edgeship.serve import ServeOptions
from tests import waiting
from tests.serve.serving import ANSWERS, scripted_app, serving

QUESTION: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
MODEL = {"model_name": "scripted"}


@pytest.fixture
def url() -> Iterator[str]:
    with serving(lambda: scripted_app(delay_s=0.001, limits=Limits(kv_bytes=1 << 20))) as url:
        yield url


def ask(url: str, **body: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/chat/completions", json=QUESTION | body)


def read(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = httpx2.get(f"{url}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_what_an_answer_leaves(url: str) -> None:
    usages = [
        ask(url).json()["usage"],
        ask(url, n=2, stream=False).json()["usage"],
        ask(url, max_tokens=3).json()["usage"],
    ]
    found = read(url)
    tokens = sum(usage["completion_tokens"] for usage in usages)
    assert value(found, "edgeship_generation_tokens_total", **MODEL) == tokens
    prompt = usages[0]["prompt_tokens"]
    assert value(found, "edgeship_prompt_tokens_total", **MODEL) == 4 * prompt
    assert value(found, "edgeship_prefix_cache_queries_total", **MODEL) == 4 * prompt
    assert 0 < value(found, "edgeship_prefix_cache_hits_total", **MODEL) < 4 * prompt
    assert value(found, "edgeship_request_success_total", finished_reason="stop", **MODEL) == 3
    assert value(found, "edgeship_request_success_total", finished_reason="length", **MODEL) == 1
    assert value(found, "edgeship_time_to_first_token_seconds_count", **MODEL) == 4
    assert value(found, "edgeship_e2e_request_latency_seconds_count", **MODEL) == 4
    assert value(found, "edgeship_request_queue_time_seconds_count", **MODEL) == 4
    assert value(found, "edgeship_inter_token_latency_seconds_count", **MODEL) == tokens - 4
    assert value(found, "edgeship_num_requests_running", **MODEL) == 0
    assert value(found, "edgeship_num_requests_waiting", **MODEL) == 0
    assert value(found, "edgeship_model_loads_total") == 1
    assert value(found, "edgeship_kv_cache_usage_perc", **MODEL) == 0


def test_what_runs_and_what_was_given_up() -> None:
    answers = ANSWERS | {"hello": "x" * 100_000}
    with serving(lambda: scripted_app(answers, delay_s=0.01, context_tokens=200_000)) as url:
        with httpx2.stream("POST", f"{url}/v1/chat/completions", json=QUESTION | {"stream": True}) as response:
            lines = response.iter_lines()
            next(lines)
            assert value(read(url), "edgeship_num_requests_running", **MODEL) == 1
        # A client that goes ends its answer, which is counted although nobody takes its last step.
        key = ("edgeship_request_success_total", frozenset({"finished_reason": "abort", **MODEL}.items()))
        waiting.until(lambda: key in read(url))
        assert value(read(url), "edgeship_num_requests_running", **MODEL) == 0


def test_requests_by_route_and_status(url: str) -> None:
    ask(url)
    ask(url, model="other")
    httpx2.get(f"{url}/whatever/strangers/think/of")
    found = read(url)
    route = {"handler": "/v1/chat/completions", "method": "POST"}
    assert value(found, "edgeship_http_requests_total", status="200", **route) == 1
    assert value(found, "edgeship_http_requests_total", status="404", **route) == 1
    assert value(found, "edgeship_http_requests_total", handler="other", method="other", status="404") == 1


def test_the_names_that_dashboards_of_vllm_read() -> None:
    with serving(lambda: scripted_app(options=ServeOptions(metrics_names="vllm"))) as url:
        ask(url)
        found = httpx2.get(f"{url}/metrics").text
    for name in ("time_to_first_token_seconds_bucket", "generation_tokens_total", "num_requests_running"):
        assert f"vllm:{name}{{" in found


def test_head_is_answered_too(url: str) -> None:
    assert httpx2.head(f"{url}/metrics").status_code == 200
