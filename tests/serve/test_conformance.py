"""What strict testers of the APIs say of a server whose model can call tools."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.serve.serving import scripted_app, serving

# What needs a model that sees. It is told so with a 400, which test_images_are_refused looks at.
IMAGES = {"openai-chat": "chat-image-input", "open-responses": "image-input", "anthropic": "anth-image-input"}
# A model's name tells the tester whether it thinks.
THINKING = {
    "openai-chat": "chat-reasoning-summary",
    "open-responses": "reasoning-summary",
    "anthropic": "anth-thinking-display",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(scripted_app) as url:
        yield url


@pytest.mark.parametrize("api", IMAGES)
def test_llm_comply_finds_nothing_but_images(url: str, api: str) -> None:
    results = {result["id"]: result for result in comply(url, api)}
    assert len(results) > 8
    assert {name for name, result in results.items() if result["status"] == "skipped"} == {THINKING[api]}
    failed = {name: result["errors"] for name, result in results.items() if result["status"] == "failed"}
    assert list(failed) == [IMAGES[api]], failed
    assert "HTTP 400 (expected [200])" in failed[IMAGES[api]]


def comply(url: str, api: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "llm_comply.cli", "-u", f"{url}/v1", "-k", "any", "-m", "scripted", "--json"]
    done = subprocess.run([*command, "--format", api], capture_output=True, text=True, check=False, timeout=60)
    results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return results


@pytest.mark.parametrize(
    ("path", "field", "part"),
    [
        ("chat/completions", "messages", {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}),
        ("responses", "input", {"type": "input_image", "image_url": "data:image/png;base64,AA=="}),
    ],
)
def test_images_are_refused(url: str, path: str, field: str, part: dict[str, Any]) -> None:
    body = {"model": "scripted", field: [{"role": "user", "content": [part]}]}
    response = httpx2.post(f"{url}/v1/{path}", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == f"{field}[0].content[0].type"
    assert f"is {part['type']!r}" in error["message"]
    assert error["message"].endswith("Models here read texts.")
