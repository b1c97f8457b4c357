"""Who may ask, and how much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from edgeship.errors import RateLimited, UsageError
from edgeship.serve import ServeOptions, key_file
from edgeship.serve.key_file import Key, hash_of
from edgeship.serve.keys import Bucket, Holder, Keyring
from tests.serve.serving import scripted_app, serving

SECRET, OTHER = "a-key-of-sixteen-characters", "another-key-of-many-characters"
QUESTION = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}


def keys_in(path: Path, **limits: Any) -> Path:
    key_file.add(path, Key("team", hash_of(SECRET), **limits))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return keys_in(tmp_path / "keys.toml")


@pytest.fixture
def url(file: Path) -> Iterator[str]:
    with serving(lambda: scripted_app(options=ServeOptions(api_key_file=file))) as url:
        yield url


def ask(url: str, key: str | None = None, path: str = "/v1/chat/completions", **headers: str) -> httpx2.Response:
    given = headers | ({"authorization": f"Bearer {key}"} if key else {})
    return httpx2.post(url + path, json=QUESTION, headers=given)


def test_who_has_a_key_is_answered(url: str) -> None:
    assert ask(url, SECRET).status_code == 200
    assert ask(url, **{"x-api-key": SECRET}).status_code == 200
    assert ask(url, authorization=f"bearer  {SECRET}").status_code == 200


@pytest.mark.parametrize("key", [None, OTHER, SECRET[:-1], SECRET + "x", "ünlesbar"])
def test_who_has_none_is_not(url: str, key: str | None) -> None:
    headers = {b"authorization": f"Bearer {key}".encode()} if key else {}
    response = httpx2.post(url + "/v1/chat/completions", json=QUESTION, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("path", "shape"),
    [("/v1/messages", lambda found: found["error"]["type"]), ("/api/chat", lambda found: found["error"])],
)
def test_each_api_is_told_in_its_own_words(url: str, path: str, shape: Any) -> None:
    response = ask(url, path=path)
    assert response.status_code == 401
    assert isinstance(shape(response.json()), str)


def test_what_needs_no_key(url: str) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/ready"):
        assert httpx2.get(url + path).status_code == 200
    for path in ("/metrics", "/v1/models", "/page/models/x", "//health", "/openapi.json"):
        assert httpx2.get(url + path).status_code == 401


def test_the_file_is_followed(url: str, file: Path) -> None:
    key_file.add(file, Key("new", hash_of(OTHER)))
    assert ask(url, OTHER).status_code == 200
    key_file.remove(file, "team")
    assert ask(url, SECRET).status_code == 401
    assert ask(url, OTHER).status_code == 200


def test_the_last_key_that_is_taken_away_is_refused(url: str, file: Path) -> None:
    key_file.remove(file, "team")
    assert ask(url, SECRET).status_code == 401


def test_a_file_that_is_damaged_meanwhile_leaves_the_keys_as_they_were(
    url: str, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text("[[key]]\nname =", encoding="utf-8")
    assert ask(url, SECRET).status_code == 200
    assert "the old keys are good" in caplog.text


def test_a_file_without_a_key_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# none\n", encoding="utf-8")
    with pytest.raises(UsageError, match="holds none"):
        Keyring(path)


def test_requests_of_a_minute(tmp_path: Path) -> None:
    file = keys_in(tmp_path / "keys", requests_per_minute=2)
    with serving(lambda: scripted_app(options=ServeOptions(api_key_file=file))) as url:
        assert [ask(url, SECRET).status_code for _ in range(3)] == [200, 200, 429]
        refused = ask(url, SECRET)
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.json()["error"]["code"] == "rate_limited"


def test_tokens_are_charged_when_they_were_used(tmp_path: Path) -> None:
    file = keys_in(tmp_path / "keys", tokens_per_minute=20)
    with serving(lambda: scripted_app(options=ServeOptions(api_key_file=file))) as url:
        assert ask(url, SECRET).status_code == 200  # more than 20 tokens, and nobody knew before
        refused = ask(url, SECRET)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 10


def test_requests_at_the_same_time() -> None:
    holder = Holder(Key("team", "", concurrent=2))
    holder.begin()
    holder.begin()
    with pytest.raises(RateLimited, match="2 requests at the same time"):
        holder.begin()
    holder.end()
    holder.begin()


def test_a_bucket_fills_steadily_and_not_over_its_edge() -> None:
    now = 0.0
    bucket = Bucket(60, lambda: now)
    bucket.take(60)
    assert bucket.wait_s(1) == pytest.approx(1.0)
    now = 10.0
    assert bucket.wait_s(10) == 0
    assert bucket.wait_s(11) == pytest.approx(1.0)
    now = 10_000.0
    assert bucket.wait_s(61) == pytest.approx(1.0)
    bucket.take(120)
    assert bucket.wait_s(0) == pytest.approx(60.0)


def test_a_stored_response_is_found_by_the_key_that_it_was_made_with_alone(url: str, file: Path) -> None:
    key_file.add(file, Key("other", hash_of(OTHER)))
    mine, others = ({"authorization": f"Bearer {key}"} for key in (SECRET, OTHER))
    asked = {"model": "scripted", "input": "hello"}
    name = httpx2.post(f"{url}/v1/responses", json=asked, headers=mine).json()["id"]
    place = f"{url}/v1/responses/{name}"
    assert httpx2.get(place, headers=others).status_code == 404
    assert httpx2.get(f"{place}/input_items", headers=others).status_code == 404
    assert httpx2.delete(place, headers=others).status_code == 404
    asked_on = asked | {"previous_response_id": name}
    assert httpx2.post(f"{url}/v1/responses", json=asked_on, headers=others).status_code == 400
    assert httpx2.post(f"{url}/v1/responses", json=asked_on, headers=mine).status_code == 200
    assert httpx2.delete(place, headers=mine).status_code == 200
