"""By what name a server is asked, and by whose pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from edgeship.serve import ServeOptions
from edgeship.serve.access import is_loopback
from tests.serve.serving import connected, scripted_app, serving

PAGE = "https://app.example"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(scripted_app) as url:
        yield url


@pytest.fixture(scope="module")
def open_url() -> Iterator[str]:
    options = ServeOptions(allowed_hosts=["models.example"], cors_origins=[PAGE])
    with serving(lambda: scripted_app(options=options)) as url:
        yield url


def get(url: str, **headers: str) -> httpx2.Response:
    return httpx2.get(f"{url}/v1/models", headers=headers)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8080", "192.168.1.7", "a.localhost", "localhost."]
)
def test_names_that_no_site_can_have(url: str, host: str) -> None:
    assert get(url, host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "a@localhost",
        "localhost/x",
    ],
)
def test_names_that_a_site_could_have(url: str, host: str) -> None:
    response = get(url, host=host)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "origin_refused"


def test_a_name_that_was_allowed(open_url: str) -> None:
    assert get(open_url, host="models.example:443").status_code == 200
    assert get(open_url, host="other.example").status_code == 403


def test_two_names_are_one_too_many_and_none_is_of_an_old_client(url: str) -> None:
    for hosts, status in ((b"Host: localhost\r\nHost: localhost\r\n", b"403"), (b"", b"200")):
        with connected(url) as client:
            client.sendall(b"GET /health HTTP/1.0\r\n" + hosts + b"\r\n")
            assert client.recv(1000).split(b" ")[1] == status


@pytest.mark.parametrize("origin", [PAGE, "null", "", "http://[", "http://localhost:1", "chrome-extension://x"])
def test_pages_from_elsewhere_may_not_ask(url: str, origin: str) -> None:
    response = httpx2.post(f"{url}/v1/chat/completions", content=b"{}", headers={"origin": origin})
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


def test_the_servers_own_page_may(url: str) -> None:
    assert get(url, origin=url).status_code == 200


def test_a_page_that_was_let_in_and_no_other(open_url: str) -> None:
    preflight = httpx2.options(
        f"{open_url}/v1/chat/completions",
        headers={
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert get(open_url, origin=PAGE).headers["access-control-allow-origin"] == PAGE
    assert get(open_url, origin="https://other.example").status_code == 403


def test_a_page_that_was_let_in_is_told_that_a_key_is_wanted(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("a-key-of-sixteen-characters\n", encoding="utf-8")
    options = ServeOptions(api_key_file=file, cors_origins=[PAGE])
    with serving(lambda: scripted_app(options=options)) as url:
        refused = get(url, origin=PAGE, host="any.example")
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_addresses_that_only_this_machine_reaches(host: str, alone: bool) -> None:
    assert is_loopback(host) == alone
