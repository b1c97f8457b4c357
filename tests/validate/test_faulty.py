"""The servers with faults: each has its own, and the one without has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.validate.faulty import MODEL, faulty, faulty_process

CHAT = "/v1/chat/completions"


def ask(url: str, text: str = "hello", **settings: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **settings}
    found: dict[str, Any] = httpx2.post(url + CHAT, json=body, timeout=30).json()
    return found


def stream(url: str, text: str = "hello", **settings: Any) -> bytes:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": True, **settings}
    return httpx2.post(url + CHAT, json=body, timeout=30).content


def text_of(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def test_without_a_fault_it_is_the_server_as_it_is() -> None:
    with faulty("none") as url:
        answer = ask(url)
        assert text_of(answer) == "Good day to you."
        assert answer["usage"]["completion_tokens"] == 17
        assert stream(url).endswith(b"data: [DONE]\n\n")
        assert text_of(ask(url, max_tokens=4)) == "Good"
        assert text_of(ask(url, stop="y to")) == "Good da"
        assert "error" not in ask(url, "")


def test_faults_of_the_chat() -> None:
    with faulty("ignores-max-tokens") as url:
        assert text_of(ask(url, max_tokens=4)) == "Good day to you."
    with faulty("lies-about-usage") as url:
        assert ask(url)["usage"]["completion_tokens"] == 9
    with faulty("leaks-stops") as url:
        assert text_of(ask(url, stop="y to")) == "Good day "
    with faulty("fails-on-empty") as url:
        assert ask(url, "")["error"]["type"] == "server_error"
        assert text_of(ask(url)) == "Good day to you."


def test_faults_around_the_application() -> None:
    with faulty("leaves-out-the-end") as url:
        assert b"DONE" not in stream(url)
    with faulty("leaves-out-finish") as url:
        assert ask(url)["choices"][0]["finish_reason"] is None
    with faulty("tells-other-types") as url:
        assert isinstance(ask(url)["usage"]["total_tokens"], str)
    with faulty("replaces-characters") as url:
        assert "\ufffd" in stream(url, "héllo").decode()
    with faulty("cuts-characters") as url:
        events = stream(url, "héllo").split(b"\n\n")
        assert sum("\ufffd" in event.decode(errors="replace") for event in events) > 1
    with faulty("says-another-length") as url, pytest.raises((httpx2.HTTPError, json.JSONDecodeError)):
        ask(url)
    with faulty("never-ends") as url, httpx2.Client(timeout=1.0) as client:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": True}
        with client.stream("POST", url + CHAT, json=body) as response, pytest.raises(httpx2.ReadTimeout):
            response.read()


def test_a_process_has_the_fault_too(tmp_path: Path) -> None:
    with faulty_process("lies-about-usage", tmp_path) as (url, _):
        assert ask(url)["usage"]["completion_tokens"] == 9
