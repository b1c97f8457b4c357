"""What the SDK says, as ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeship.errors import DependencyMissing, FoundryFailed, PromptInvalid
from edgeship.foundry import sdk
from edgeship.foundry.sdk import _cause, _failing_as_ours
from edgeship.system.shell import our_install
from tests.checkpoints import write_json


class Foreign(Exception):
    def __init__(self, text: str, error_code: int = 0) -> None:
        super().__init__(text)
        self.error_code = error_code


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "session.cc:68 void fl::{anonymous}::ThrowCancellation(const fl::Request&) request cancelled by caller",
            "request cancelled by caller",
        ),
        (
            "local_model_catalog.cc:419 std::vector<fl::Registration> fl::LocalModelCatalog::Load() const failed (x)",
            "failed (x)",
        ),
        ("a.cc:1 int f(std::function<void(int)>, int) bad\nmore of it", "bad"),
        ("a.cc:1 no brackets", "no brackets"),
        ("model.load failed (code 3)", "model.load failed (code 3)"),
        ("", "Foreign"),
    ],
)
def test_the_place_in_the_librarys_source_is_left_out(said: str, cause: str) -> None:
    assert _cause(Foreign(said)) == cause


def test_what_is_wrong_with_a_request_is_the_askers() -> None:
    with pytest.raises(PromptInvalid, match="refuses it: too long"), _failing_as_ours(None):
        raise Foreign("a.cc:1 f() too long", 3)
    with pytest.raises(FoundryFailed, match="failed: broken") as caught, _failing_as_ours(None):
        raise Foreign("a.cc:1 f() broken", 2)
    assert caught.value.exit_code == 5
    assert isinstance(caught.value.__cause__, Foreign)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foundry_local_sdk", None)
    with pytest.raises(DependencyMissing) as caught:
        sdk._library()
    assert caught.value.hint == our_install("foundry")


def test_where_the_librarys_own_file_says_that_models_lie(tmp_path: Path) -> None:
    assert sdk.registered_folders(tmp_path) == {}
    models = [{"model_info": {"id": "a:1"}, "model_path": "here"}, {"model_info": {"id": "b:1"}}, {"model_path": "x"}]
    write_json(tmp_path / sdk.INDEX_NAME, {"models": models})
    assert sdk.registered_folders(tmp_path) == {"a:1": "here", "b:1": ""}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"models": {}}, "has models {}, which is not a list"),
        ({"models": [5]}, r"has models\[0\] 5, which is not an object"),
        ({"models": [{"model_info": "a:1"}]}, r"has models\[0\]\.model_info 'a:1', which is not an object"),
        ({"models": [{"model_info": {"id": [1]}}]}, r"has models\[0\]\.model_info\.id \[1\], which is not a text"),
        ({"models": [{"model_info": {"id": "a"}, "model_path": 5}]}, r"has models\[0\]\.model_path 5, which is not"),
    ],
)
def test_the_librarys_own_file_is_read_by_type(tmp_path: Path, content: object, said: str) -> None:
    write_json(tmp_path / sdk.INDEX_NAME, content)
    with pytest.raises(FoundryFailed, match=said):
        sdk.registered_folders(tmp_path)
