"""A package laid out for Foundry Local: what is shared, what is written anew, and that nothing is half there."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest

from edgeship.errors import DiskShort
from edgeship.foundry import layout
from edgeship.foundry.checks import Prepared, check
from edgeship.foundry.config import Provision, apply
from edgeship.foundry.layout import laid_out, place
from edgeship.package import manifest
from tests.packages import make_package


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return check(make_package(tmp_path / "model-int4" / "v3").folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_place_is_that_of_foundry_locals_cache(tmp_path: Path) -> None:
    assert place(tmp_path, "a", 3, "me") == tmp_path / "me" / "a-3" / "v3"


def test_models_are_shared_and_the_package_stays_as_it_is(tmp_path: Path, prepared: Prepared) -> None:
    before = contents(prepared.folder)
    target = place(tmp_path / "cache", prepared.name, prepared.version)
    with laid_out(prepared, target, partial(apply, provision=Provision(7, 512))) as laid:
        assert not target.exists()
    assert contents(prepared.folder) == before
    assert set(contents(target)) == set(before)
    for name in ("model.onnx", "model.onnx.data"):
        assert (target / name).samefile(prepared.folder / name)
    for name in before.keys() - {"model.onnx", "model.onnx.data"}:
        assert not (target / name).samefile(prepared.folder / name)
    assert laid.linked_bytes == sum(len(before[name]) for name in ("model.onnx", "model.onnx.data"))
    config = json.loads((target / "genai_config.json").read_bytes())
    assert config["model"]["decoder"]["session_options"]["intra_op_num_threads"] == 7


def test_what_is_laid_out_can_be_verified_like_a_package(tmp_path: Path, prepared: Prepared) -> None:
    renamed = check(prepared.folder, name="other")
    target = place(tmp_path / "cache", renamed.name, renamed.version)
    with laid_out(renamed, target, partial(apply, provision=Provision(7, 512))):
        pass
    assert manifest.verify(manifest.read(target)) == []
    assert json.loads((target / "inference_model.json").read_bytes())["Name"] == "other:3"


def test_a_copy_is_known_by_its_manifest(tmp_path: Path, prepared: Prepared) -> None:
    target = place(tmp_path / "cache", "other", prepared.version)
    with laid_out(check(prepared.folder, name="other"), target, partial(apply, provision=Provision(7, 512))):
        pass
    laid, original = manifest.read(target).manifest, manifest.read(prepared.folder).manifest
    assert laid != original
    assert layout.is_copy(laid, original)
    assert not layout.is_copy(laid, make_package(tmp_path / "another", weights=b"o" * 100).manifest)


def test_without_hard_links_it_copies(tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not on this file system")

    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "cache" / "v3"
    with laid_out(prepared, target) as laid:
        pass
    assert laid.linked_bytes == 0
    assert (target / "model.onnx.data").read_bytes() == (prepared.folder / "model.onnx.data").read_bytes()


def test_where_a_check_fails_nothing_is_left_and_what_was_there_stays(tmp_path: Path, prepared: Prepared) -> None:
    target = place(tmp_path / "cache", "model-int4", 3)
    with pytest.raises(RuntimeError), laid_out(prepared, target):
        raise RuntimeError
    assert not (tmp_path / "cache" / "edgeship").exists()
    target.mkdir(parents=True)
    (target / "before").write_text("here")
    with pytest.raises(RuntimeError), laid_out(prepared, target):
        raise RuntimeError
    assert [path.name for path in target.parent.iterdir()] == ["v3"]
    assert contents(target) == {"before": b"here"}
    with laid_out(prepared, target):
        pass
    assert "before" not in contents(target)


def test_a_full_disk_leaves_nothing(tmp_path: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout, "bring", full)
    with pytest.raises(DiskShort), laid_out(prepared, tmp_path / "cache" / "a" / "b" / "v3"):
        pass
    assert not list((tmp_path / "cache").rglob("*"))


def test_what_a_killed_process_left_is_swept(tmp_path: Path, prepared: Prepared) -> None:
    target = place(tmp_path / "cache", "model-int4", 3)
    left = target.parent / ".v3.tmp-999999999-0a0b0c0d"
    left.mkdir(parents=True)
    with laid_out(prepared, target):
        pass
    assert not left.exists()
