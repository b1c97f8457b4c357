"""What the SDK says, as ours."""

from __future__ import annotations

import sys

import pytest

from edgeship.errors import DependencyMissing, FoundryFailed, PromptInvalid
from edgeship.foundry import sdk
from edgeship.foundry.sdk import _cause, _failing_as_ours
from edgeship.system.shell import our_install


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
