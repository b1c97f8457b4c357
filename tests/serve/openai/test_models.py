"""OpenAI's list of models: every name, and which of them are the same model."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from edgeship.engine.remote import RemoteChat
from edgeship.package import DAMAGED, genai_config
from edgeship.serve import ServeOptions, app
from edgeship.serve.models import Pool
from edgeship.settings import Settings
from edgeship.store import packages
from tests.packages import make_package
from tests.scripted import ScriptedEngine
from tests.serve.serving import bigram_app, card, scripted_app, serving
from tests.store.test_attestations import verdict


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(scripted_app) as url:
        yield url


def test_each_name_is_listed_with_its_model(url: str) -> None:
    listed = httpx2.get(f"{url}/v1/models").json()["data"]
    assert [(entry["id"], entry["root"]) for entry in listed] == [("scripted", "scripted"), ("alias", "scripted")]
    assert httpx2.get(f"{url}/v1/models/alias").json()["root"] == "scripted"


def test_how_long_a_context_is_where_that_is_known(folder: Path) -> None:
    asked = {"model": "bigram", "prompt": "hello", "max_tokens": 1}
    with serving(lambda: bigram_app(folder)) as url:
        before = httpx2.get(f"{url}/v1/models/bigram").json()["max_model_len"]
        httpx2.post(f"{url}/v1/completions", json=asked)
        [after] = [entry["max_model_len"] for entry in httpx2.get(f"{url}/v1/models").json()["data"]]
        told = httpx2.post(f"{url}/tokenize", json={"prompt": "hello"}).json()["max_model_len"]
    assert before == genai_config.read(folder, DAMAGED).context_tokens
    assert after == told


def test_who_names_no_model_gets_the_only_one(url: str) -> None:
    with RemoteChat(url + "/v1") as chat:
        assert chat.model == "scripted"


def test_there_are_no_embeddings(url: str) -> None:
    response = httpx2.post(f"{url}/v1/embeddings", json={"model": "scripted", "input": "a"})
    assert response.status_code == 400
    assert "no model here makes embeddings" in response.json()["error"]["message"]


def test_what_the_release_gate_said_stands_in_every_list(tmp_path: Path, settings: Settings) -> None:
    package = make_package(tmp_path / "tiny")
    installed, _ = packages.install(package.folder, settings.cache_dir, gate=verdict("fail"), force=True)
    cards = [card("tiny", folder=installed.folder), card("other")]
    pool_of = functools.partial(Pool, cards, settings=settings, open_chat=lambda _: ScriptedEngine({}))
    with serving(lambda: app.over(pool_of(), ServeOptions())) as url:
        httpx2.post(f"{url}/api/generate", json={"model": "tiny"})  # loads it
        anthropic = {"anthropic-version": "2023-06-01"}
        listed = {entry["id"]: entry["gate"] for entry in httpx2.get(f"{url}/v1/models").json()["data"]}
        theirs = {
            entry["id"]: entry["gate"] for entry in httpx2.get(f"{url}/v1/models", headers=anthropic).json()["data"]
        }
        one = httpx2.get(f"{url}/v1/models/tiny", headers=anthropic).json()["gate"]
        tags = [model["gate"] for model in httpx2.get(f"{url}/api/tags").json()["models"]]
        loaded = [model["gate"] for model in httpx2.get(f"{url}/api/ps").json()["models"]]
        told = httpx2.post(f"{url}/api/show", json={"model": "tiny"}).json()["gate"]
        packages.attest(settings.cache_dir, installed.folder, package.digest, verdict("pass"))
        now = httpx2.get(f"{url}/v1/models/tiny").json()["gate"]
        shown = httpx2.get(f"{url}/page/models/tiny").json()["record"]["gate"]
    assert listed == theirs == {"tiny": "failed, forced", "other": None}
    assert (tags, loaded) == (["failed, forced", None], ["failed, forced"])
    assert one == told == "failed, forced"
    assert (now, shown) == ("pass", "pass")
