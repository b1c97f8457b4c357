"""What is told of models, over a package and over a model without files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from edgeship.engine.api import Chat, Limits
from edgeship.package import manifest as manifests
from edgeship.serve import ServeOptions, app
from edgeship.serve.models import ModelCard, Pool
from edgeship.serve.ollama import details
from edgeship.settings import resolve
from tests.packages import make_package
from tests.scripted import ScriptedEngine
from tests.serve.serving import card, serving


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> manifests.Package:
    return make_package(tmp_path_factory.mktemp("packages") / "tiny")


@pytest.fixture(scope="module")
def url(package: manifests.Package) -> Iterator[str]:
    def open_chat(_: ModelCard) -> Chat:
        return ScriptedEngine({})

    cards = [card("tiny", aliases=("tiny:1",), folder=package.folder), card("far")]

    def made() -> FastAPI:
        limits = Limits(context_tokens=100)
        return app.over(Pool(cards, settings=resolve(), limits=limits, open_chat=open_chat), ServeOptions())

    with serving(made) as url:
        yield url


def show(url: str, **body: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/api/show", json=body)


def test_each_name_has_a_tag(url: str, package: manifests.Package) -> None:
    models = httpx2.get(f"{url}/api/tags").json()["models"]
    assert [model["name"] for model in models] == ["tiny:latest", "far:latest"]
    assert all(model["name"] == model["model"] for model in models)
    first, last = models
    assert first["digest"] == package.digest
    assert first["details"]["format"] == "onnx"
    assert first["details"]["families"] == [first["details"]["family"]]
    assert first["details"]["quantization_level"] == package.manifest.recipe["precision"].upper()
    assert datetime.fromisoformat(first["modified_at"]).tzinfo
    assert (last["digest"], last["details"]["family"]) == ("", "")


@pytest.mark.parametrize("name", ["tiny", "tiny:latest", "tiny:1"])
def test_all_that_is_told_of_one(url: str, name: str, package: manifests.Package) -> None:
    found = show(url, model=name).json()
    family = found["details"]["family"]
    assert found["model_info"] == {
        "general.architecture": family,
        "general.parameter_count": package.manifest.checkpoint["parameters"],
        f"{family}.context_length": 100,
    }
    assert found["capabilities"] == ["completion"]
    assert "<|im_start|>" in found["template"]
    assert found["license"] == (package.manifest.checkpoint.get("licence") or "")
    assert "temperature 0" in found["parameters"].splitlines()


def test_the_fields_that_older_clients_send(url: str) -> None:
    assert show(url, name="tiny").status_code == 200
    assert show(url, model="tiny", name="", system="", template="", options=None, verbose=False).status_code == 200
    assert show(url, model="tiny", template="x").status_code == 400
    assert show(url, model="").status_code == 400


def test_a_model_without_files(url: str) -> None:
    found = show(url, model="far:latest").json()
    assert (found["template"], found["capabilities"]) == ("", ["completion"])
    assert show(url, model="nearer").status_code == 404


def test_abilities_are_those_of_the_template(tmp_path: Path) -> None:
    package = make_package(tmp_path / "able")
    template = "{% if enable_thinking %}{% endif %}{{ tools }}{{ messages }}"
    (package.folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert details.shown(card("able", folder=package.folder), None)["capabilities"] == [
        "completion",
        "tools",
        "thinking",
    ]


def test_a_package_that_is_damaged_is_listed(tmp_path: Path) -> None:
    package = make_package(tmp_path / "broken")
    (package.folder / manifests.MANIFEST_NAME).write_text("{", encoding="utf-8")
    assert details.of(card("broken", folder=package.folder)) == details.Details()


def test_a_folder_of_another_tool_is_told_of(tmp_path: Path) -> None:
    package = make_package(tmp_path / "adopted")
    (package.folder / manifests.MANIFEST_NAME).unlink()
    found = details.shown(card("adopted", folder=package.folder), None)
    assert found["details"]["family"]
    assert found["license"] == ""


def test_what_is_open(url: str) -> None:
    assert httpx2.post(f"{url}/api/generate", json={"model": "far"}).json()["done_reason"] == "load"
    [model] = httpx2.get(f"{url}/api/ps").json()["models"]
    assert (model["name"], model["context_length"], model["size_vram"]) == ("far:latest", 4096, 0)
    assert datetime.fromisoformat(model["expires_at"]).tzinfo


def test_the_server_is_there(url: str) -> None:
    assert httpx2.head(url).status_code == 200
    version = httpx2.get(f"{url}/api/version").json()["version"]
    assert tuple(int(part) for part in version.split(".")) > (0, 6)


@pytest.mark.parametrize("path", ["embed", "embeddings", "pull", "push", "create", "copy"])
def test_what_is_done_another_way(url: str, path: str) -> None:
    response = httpx2.post(f"{url}/api/{path}", json={"model": "tiny"})
    assert response.status_code == 400
    assert "on its machine" in response.json()["error"] or "embedding" in response.json()["error"]


def test_models_are_not_removed(url: str) -> None:
    response = httpx2.request("DELETE", f"{url}/api/delete", json={"model": "tiny"})
    assert response.status_code == 400
    assert "on its machine" in response.json()["error"]
