"""Each finding about Foundry Local, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeship.doctor import Versions
from edgeship.foundry import layout
from edgeship.foundry.catalog import App, fault
from edgeship.foundry.diagnosis import check_model, check_orphans, check_versions, examine
from edgeship.foundry.sdk import INDEX_NAME, Registration
from edgeship.package.genai_config import with_threads
from tests.checkpoints import write_json
from tests.packages import GENAI_CONFIG


def versions(**known: str) -> Versions:
    return lambda name: known.get(name.replace("-", "_"))


def registration(folder: Path | None, name: str = "a", task: str = "chat-completion") -> Registration:
    return Registration(name, 1, folder, 2048, 3, "edgeship", task)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a registered model needs."""
    write_json(tmp_path / "genai_config.json", with_threads(GENAI_CONFIG, 2))
    (tmp_path / "chat_template.jinja").write_text("x", encoding="utf-8")
    (tmp_path / "model.onnx").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("known", "status", "said"),
    [
        ({}, "failed", "is not installed"),
        ({"foundry_local_sdk": "2.2.1"}, "failed", "works with 1.31.0 alone"),
        ({"foundry_local_sdk": "2.2.1", "onnxruntime": "1.32.0"}, "failed", "works with 1.31.0 alone"),
        ({"foundry_local_sdk": "2.3.0", "onnxruntime": "1.31.0"}, "warning", "tested with 2.2.1"),
        ({"foundry_local_sdk": "2.2.1", "onnxruntime": "1.31.0"}, "ok", "foundry-local-sdk 2.2.1"),
    ],
)
def test_versions(known: dict[str, str], status: str, said: str) -> None:
    found = check_versions(versions(**known))
    assert found.status == status
    assert said in found.detail
    assert (found.hint is None) == (status == "ok")


def test_without_the_sdk_nothing_else_is_asked_of_it(tmp_path: Path) -> None:
    found = examine(App("a", tmp_path), cores=2, versions=versions())
    assert not found.ok
    assert [check.name for check in found.checks if check.status == "failed"] == ["SDK"]


def test_a_model_as_it_should_be(folder: Path) -> None:
    for cores in (2, 8):
        assert check_model(registration(folder), cores).status == "ok"


def test_a_stale_registration_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    found = check_model(registration(gone), 2)
    assert (found.name, found.status, found.detail) == ("a:1", "failed", f"its folder is gone: {gone}")
    assert "edgeship foundry unregister a:1" in str(found.hint)
    assert fault(registration(None)) == "its folder is gone"


def test_models_that_cannot_answer(folder: Path) -> None:
    assert fault(registration(folder, task="embeddings")) == "its task is embeddings, and no chat"
    (folder / "chat_template.jinja").unlink()
    assert "no chat template" in check_model(registration(folder), 2).detail
    (folder / "model.onnx").unlink()
    assert fault(registration(folder)) == "its folder holds no ONNX model"
    (folder / "genai_config.json").unlink()
    assert fault(registration(folder)) == "its folder holds no genai_config.json"


@pytest.mark.parametrize("template", ["", [{"name": "default", "template": "x"}], None])
def test_templates_that_foundry_local_cannot_read(folder: Path, template: object) -> None:
    """An empty one fails at the first request, a list when the model is loaded."""
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    assert "no chat template" in check_model(registration(folder), 2).detail


def test_models_that_run_otherwise_than_one_thinks(folder: Path) -> None:
    found = check_model(registration(folder, name="x-cuda-gpu"), 2)
    assert (found.status, "'cuda-gpu'" in found.detail) == ("warning", True)
    found = check_model(registration(folder), 1)
    assert (found.status, "2 threads on 1 cores" in found.detail) == ("warning", True)
    write_json(folder / "genai_config.json", GENAI_CONFIG)
    found = check_model(registration(folder), 8)
    assert (found.status, "left to onnxruntime" in found.detail) == ("warning", True)


def test_a_model_whose_files_cannot_be_used(folder: Path) -> None:
    (folder / "genai_config.json").write_text("{}", encoding="utf-8")
    found = check_model(registration(folder), 8)
    assert (found.status, "has no model.context_length" in found.detail) == ("failed", True)
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    found = check_model(registration(folder), 8)
    assert (found.status, "the chat template cannot be read" in found.detail) == ("failed", True)


def test_what_was_laid_out_and_is_in_no_catalog(tmp_path: Path) -> None:
    one, two = (layout.place(tmp_path, "a", version) for version in (1, 2))
    for folder in (one, two):
        folder.mkdir(parents=True)
    assert [check.detail for check in check_orphans(tmp_path, [registration(one)])] == [str(two)]
    assert check_orphans(tmp_path / "none", []) == []


@pytest.mark.slow
def test_a_catalog_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / INDEX_NAME).write_text("{ broken", encoding="utf-8")
    found = {check.name: check for check in examine(App("a", tmp_path), cores=2).checks}
    assert found["library"].status == "ok"
    assert found["catalog"].status == "failed"
    assert str(tmp_path / INDEX_NAME) in str(found["catalog"].hint)


@pytest.mark.slow
def test_a_machine_where_nothing_is_registered(tmp_path: Path) -> None:
    found = examine(App("a", tmp_path / "none"), cores=2)
    assert found.ok
    assert not (tmp_path / "none").exists()
