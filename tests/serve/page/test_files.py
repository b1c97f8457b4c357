"""The page as it is sent: its files, what browsers are told of them, and what it is told of models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from edgeship.serve import app, page
from edgeship.serve.models import Pool
from edgeship.serve.options import ServeOptions
from edgeship.serve.page import about
from edgeship.settings import Settings, resolve
from edgeship.store import packages
from tests.packages import make_package
from tests.scripted import ScriptedEngine
from tests.serve.serving import card, scripted_app, serving

FILES = Path(page.__file__).parent / "files"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(scripted_app) as url:
        yield url


def test_the_page_is_sent_with_a_policy_that_runs_no_foreign_script(url: str) -> None:
    response = httpx2.get(url)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", sorted(FILES.iterdir()), ids=lambda path: path.name)
def test_each_file_is_sent_as_what_it_is(url: str, path: Path) -> None:
    response = httpx2.get(f"{url}/page/{path.name}")
    assert response.content == path.read_bytes()
    kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    assert response.headers["content-type"].split(";")[0] == kinds[path.suffix]
    assert httpx2.head(f"{url}/page/{path.name}").headers["etag"] == response.headers["etag"]


def test_a_file_that_a_browser_has_is_not_sent_again(url: str) -> None:
    etag = httpx2.get(url).headers["etag"]
    again = httpx2.get(url, headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert httpx2.get(url, headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "path", ["about.py", "__init__.py", "..%2fabout.py", "%2e%2e/about.py", "files", "x.js", "..%5cabout.py"]
)
def test_nothing_else_is_sent(url: str, path: str) -> None:
    response = httpx2.get(f"{url}/page/{path}")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"


def test_the_page_names_nothing_that_lies_elsewhere() -> None:
    """It works without a network: no address, and no file that it has not."""
    for path in FILES.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://[a-z]", text), path.name
        named = re.findall(r'(?:from "\./|(?:src|href)="page/)([\w.-]+)"', text)
        assert {name for name in named if not (FILES / name).is_file()} == set()


def test_no_script_reads_html() -> None:
    readers = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function")
    assert [path.name for path in FILES.glob("*.js") if readers.search(path.read_text(encoding="utf-8"))] == []


def test_what_is_told_of_a_package(tmp_path: Path, settings: Settings) -> None:
    package = make_package(tmp_path / "package")
    measurements = {"size_bytes": 5_000_000, "evaluation": {"cases": 10, "passed": 9, "pass_rate": 0.9}}
    verdict = {"holds": True, "reasons": ["it holds"]}
    installed, _ = packages.install(
        package.folder, settings.cache_dir, name="tiny", measurements=measurements, verdict=verdict
    )
    with serving(lambda: app_with(installed.folder)) as url:
        found = httpx2.get(f"{url}/page/models/org%2Ftiny").json()
    assert found["package"]["ref"] == "tiny:1"
    assert found["package"]["manifest"]["files"].keys() == package.manifest.files.keys()
    assert found["record"]["verdict"] == verdict
    assert ["model files", "5.0 MB"] in found["record"]["figures"]
    assert found["defaults"]["context_tokens"] == 512
    assert found["thinking"] == {"switch": None, "levels": False}
    assert str(tmp_path) not in json.dumps(found)
    assert str(settings.cache_dir) not in json.dumps(found)


def app_with(folder: Path) -> FastAPI:
    pool = Pool([card("org/tiny", folder=folder)], settings=resolve(), open_chat=lambda _: ScriptedEngine({}))
    return app.over(pool, ServeOptions())


def test_what_is_told_of_a_folder_without_a_manifest_and_of_no_folder(tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text("{")
    told = about.told(card("x", folder=tmp_path))
    assert (told["package"], told["record"], told["defaults"]) == (None, None, None)
    assert about.told(card("x"))["package"] is None


@pytest.mark.parametrize(
    ("template", "thinking"),
    [
        ("{% if enable_thinking %}<think>{% endif %}", {"switch": "enable_thinking", "levels": False}),
        ("{{ reasoning_effort }}", {"switch": None, "levels": True}),
        ("{% if %}", None),
    ],
)
def test_how_thinking_is_steered(tmp_path: Path, template: str, thinking: object) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    assert about.told(card("x", folder=tmp_path))["thinking"] == thinking


def test_a_model_that_is_not_there(url: str) -> None:
    assert httpx2.get(f"{url}/page/models/other").status_code == 404
