"""A package from a stranger that would run code, or reach out of its folder, comes through none of our doors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeship.engine import opening, tune
from edgeship.errors import EngineFailed, PackageDamaged, PackageRefused
from edgeship.foundry import checks
from edgeship.package import manifest as manifests
from edgeship.package.manifest import Package
from edgeship.store import packages, verification
from edgeship.system.storage import digest_file
from tests.packages import make_package


@pytest.fixture
def hostile(tmp_path: Path) -> Package:
    """A whole package, its manifest too, whose configuration names a library that lies in it."""
    made = make_package(tmp_path / "model-int4")
    config = made.folder / "genai_config.json"
    document = json.loads(config.read_bytes())
    document["model"]["decoder"]["session_options"]["custom_ops_library"] = "evil.so"
    config.write_text(json.dumps(document), encoding="utf-8")
    (made.folder / "evil.so").write_bytes(b"\x7fELF")
    files = {name: digest_file(made.folder / name) for name in (*made.manifest.files, "evil.so")}
    return manifests.write(made.folder, made.manifest.model_copy(update={"files": files}))


DOORS: dict[str, Callable[[Path, Path], Any]] = {
    "cache add": lambda folder, elsewhere: packages.install(folder, elsewhere),
    "model run": lambda folder, _: opening.load_chat(folder),
    "foundry register": lambda folder, _: checks.check(folder),
    "tune": lambda folder, _: tune.measure(folder),
    "model run by batched": lambda folder, _: opening.load_chat(folder, engine="batched"),
    "model run by genai": lambda folder, _: opening.load_chat(folder, engine="genai"),
    "model run by foundry": lambda folder, _: opening.load_chat(folder, engine="foundry"),
}


@pytest.mark.parametrize("has_manifest", [True, False])
@pytest.mark.parametrize("door", DOORS)
def test_a_package_that_names_a_library_is_refused(
    door: str, has_manifest: bool, hostile: Package, tmp_path: Path
) -> None:
    if not has_manifest and door != "cache add":  # which adds nothing without
        (hostile.folder / "edgeship.json").unlink()
    with pytest.raises(PackageRefused, match=r"session_options\.custom_ops_library 'evil\.so'"):
        DOORS[door](hostile.folder, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("has_manifest", [True, False])
def test_one_that_was_put_into_the_cache_by_hand_is_damaged(
    has_manifest: bool, hostile: Package, tmp_path: Path
) -> None:
    if not has_manifest:
        (hostile.folder / "edgeship.json").unlink()
    (verified,) = verification.verify(tmp_path, "model-int4")
    assert (verified.outcome, len(verified.faults)) == ("damaged", 1)
    assert "custom_ops_library 'evil.so', which no package may set" in verified.faults[0]


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "other.onnx"])
def test_what_the_manifest_does_not_list_is_not_loaded(name: str, tmp_path: Path) -> None:
    made = make_package(tmp_path / "model-int4")
    (made.folder / name).write_bytes(b"{}")
    config = made.folder / "genai_config.json"
    config.write_bytes(config.read_bytes().replace(b'"model.onnx"', b'"other.onnx"'))
    files = {known: digest for known, digest in made.manifest.files.items() if known != name}
    manifests.write(made.folder, made.manifest.model_copy(update={"files": files}))
    with pytest.raises(EngineFailed, match=f"{name} is not in the manifest, so it is not loaded"):
        opening.load_chat(made.folder)


def test_a_folder_of_another_tool_is_not_added_with_what_lies_elsewhere(tmp_path: Path) -> None:
    made = make_package(tmp_path / "model-int4")
    (made.folder / "edgeship.json").unlink()
    (made.folder / "inner").mkdir()
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    for target in (tmp_path / "secret", tmp_path):
        link = made.folder / "inner" / "link"
        link.symlink_to(target)
        with pytest.raises(PackageDamaged, match=r"leads out of its folder|no regular file"):
            packages.install(made.folder, tmp_path / "cache")
        link.unlink()
    assert packages.install(made.folder, tmp_path / "cache")[1]
