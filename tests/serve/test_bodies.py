"""What comes as a request's body, and clients that go."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx2
import pytest

from edgeship.serve import ServeOptions, bodies
from tests.serve.serving import connected, posted, scripted_app, serving

PATH = "/v1/chat/completions"
QUESTION = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    options = ServeOptions(most_body_bytes=10_000, body_s=0.5)
    with serving(lambda: scripted_app(options=options, delay_s=0.005)) as url:
        yield url


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b'{"messages": 1, "messages": 2}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"temperature": NaN}',
    ],
)
def test_what_is_no_json_by_every_reading_is_refused(url: str, body: bytes) -> None:
    response = httpx2.post(url + PATH, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "body_invalid"


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "latin-1"]
)
def test_json_is_utf_8(url: str, encoding: str) -> None:
    content = json.dumps(QUESTION | {"user": "\u00e9"}, ensure_ascii=False).encode(encoding)
    response = httpx2.post(
        url + PATH, content=content, headers={"content-type": f"application/json; charset={encoding}"}
    )
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "body_invalid"
    assert "UTF-8" in error["message"] or "line 1" in error["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"1", b"null"])
def test_what_is_no_object_is_refused(url: str, body: bytes) -> None:
    response = httpx2.post(url + PATH, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_the_content_type_does_not_matter(url: str) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json; charset=latin-1"):
        response = httpx2.post(url + PATH, content=json.dumps(QUESTION), headers={"content-type": kind})
        assert response.status_code == 200


def test_a_body_that_is_too_long_is_refused_however_it_comes(url: str) -> None:
    stated = httpx2.post(url + PATH, content=b" " * 10_001)
    chunked = httpx2.post(url + PATH, content=(b" " * 1000 for _ in range(11)))
    for response in (stated, chunked):
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"


def test_a_body_that_does_not_come_is_given_up(url: str) -> None:
    with connected(url) as client:
        client.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_frees_its_place(stream: bool) -> None:
    with serving(lambda: scripted_app({"hello": "x" * 100_000}, delay_s=0.01, context_tokens=200_000)) as url:
        with connected(url) as client:
            client.sendall(posted(PATH, QUESTION | {"stream": stream}))
            if stream:
                assert b"200 OK" in client.recv(1000)
            else:
                time.sleep(0.3)
        # All four slots are free again: four answers in a row would not end otherwise.
        answers = [httpx2.post(url + PATH, json=QUESTION | {"max_tokens": 2}, timeout=10) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("part", [b"[]", b"{}", b'"x:"'])
def test_a_body_of_very_many_parts_is_refused_before_it_is_read(
    url: str, part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MOST_PARTS", 20)
    for count, status in ((15, 400), (21, 413)):
        body = b'{"model": "scripted", "messages": [' + b",".join([part] * count) + b"]}"
        response = httpx2.post(url + PATH, content=body)
        assert response.status_code == status
        assert response.json()["error"]["code"] == ("body_too_large" if status == 413 else "request_invalid")
