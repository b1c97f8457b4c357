"""What the store knows of a package besides: kept, bound to it, and no loss where it is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import NotWritable
from edgeship.package import manifest
from edgeship.package.manifest import MANIFEST_NAME, Package
from edgeship.store import listing, packages, verification
from edgeship.store.listing import Entry
from edgeship.system import storage
from tests.packages import make_package

MEASURED = {"threads": 2, "reference": "its FP32 build"}
VERDICT = {"holds": True, "reasons": ["it holds"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Package:
    return make_package(tmp_path / "model-int4")


def install(source: Package, folder: Path, **options: Any) -> Entry:
    return packages.install(source.folder, folder, **options)[0]


def path_of(entry: Entry) -> Path:
    return entry.folder.parent / f"{entry.folder.name}.json"


def test_what_was_measured_is_kept_beside_the_package(source: Package, folder: Path) -> None:
    before = manifest.now()
    installed = install(source, folder, measurements=MEASURED, verdict=VERDICT)
    found = listing.find(folder, "model-int4")
    assert found == installed
    assert found.record is not None
    assert (found.record.measurements, found.record.verdict) == (MEASURED, VERDICT)
    assert (found.record.name, found.record.version, found.record.digest) == ("model-int4", 1, source.digest)
    assert found.record.installed is not None
    assert before <= found.record.installed <= manifest.now()
    assert sorted(path.name for path in (folder / "model-int4").iterdir()) == ["v1", "v1.json"]


def test_the_same_package_measured_anew_is_recorded_anew(source: Package, folder: Path) -> None:
    first = install(source, folder, measurements=MEASURED, verdict=VERDICT)
    again, new = packages.install(source.folder, folder, verdict={"holds": False})
    assert (again.ref, new) == (first.ref, False)
    found = listing.find(folder, "model-int4")
    assert found == again
    assert found.record is not None
    assert (found.record.measurements, found.record.verdict) == (MEASURED, {"holds": False})
    install(source, folder)  # nothing was measured: nothing changes
    assert listing.find(folder, "model-int4") == again


def test_a_lost_record_costs_what_was_measured_and_nothing_else(source: Package, folder: Path) -> None:
    installed = install(source, folder, measurements=MEASURED)
    path_of(installed).unlink()
    found = listing.find(folder, "model-int4")
    assert (found.ref, found.problem, found.note) == ("model-int4:1", None, "its record is lost")
    assert found.record is not None
    assert (found.record.installed, found.record.measurements) == (None, None)
    assert packages.install(source.folder, folder, measurements=MEASURED)[1] is False
    again = listing.find(folder, "model-int4").record
    assert again is not None
    assert again.measurements == MEASURED


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "{}", '{"format": 2}', '{"surprise": 1}', "\0", "[" * 10_000),
        '{"name": "a", "version": "1", "digest": "b"}',
        '{"name": "a", "version": 1, "digest": "b", "verdict": {"reasons": [1]}}',
    ],
)
def test_a_damaged_record_is_ignored_and_said(source: Package, folder: Path, content: str) -> None:
    installed = install(source, folder, measurements=MEASURED)
    path_of(installed).write_text(content, encoding="utf-8")
    found = listing.find(folder, "model-int4")
    assert (found.ref, found.note) == ("model-int4:1", "its record cannot be read and is ignored")
    (result,) = verification.verify(folder)
    assert (result.outcome, result.note) == ("ok", found.note)


def test_a_record_of_another_package_is_ignored_and_said(source: Package, folder: Path, tmp_path: Path) -> None:
    install(source, folder, measurements=MEASURED, verdict=VERDICT)
    other = make_package(tmp_path / "other", weights=b"o" * 100)
    second = install(other, folder, name="model-int4")
    path_of(second).write_bytes(path_of(listing.find(folder, "model-int4:1")).read_bytes())
    found = listing.find(folder, "model-int4:2")
    assert found.note == "its record is of another package and is ignored"
    assert found.record is not None
    assert (found.record.version, found.record.verdict) == (2, None)


def test_a_record_goes_with_its_package(source: Package, folder: Path) -> None:
    install(source, folder, measurements=MEASURED)
    packages.remove(folder, "model-int4")
    assert not (folder / "model-int4").exists()


def test_a_record_without_a_package_is_nothing(source: Package, folder: Path) -> None:
    """As a kill in the middle of an install can leave it."""
    installed = install(source, folder, measurements=MEASURED)
    storage.remove_folder(installed.folder)
    assert listing.entries(folder) == []
    assert install(source, folder).ref == "model-int4:1"
    record = listing.find(folder, "model-int4").record
    assert record is not None
    assert record.measurements is None


def test_an_install_that_fails_leaves_no_record(source: Package, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target == folder / "model-int4" / "v1":
            raise OSError(5, "input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(NotWritable):
        install(source, folder, measurements=MEASURED)
    assert not (folder / "model-int4").exists()


def test_a_file_beside_a_plain_package_folder_is_somebody_elses(source: Package, folder: Path) -> None:
    folder.mkdir()
    source.folder.rename(folder / "model-int4")
    (folder / "model-int4.json").write_text("mine", encoding="utf-8")
    entry = listing.find(folder, "model-int4")
    assert (entry.version, entry.note) == (1, None)
    packages.remove(folder, "model-int4")
    assert (folder / "model-int4.json").read_text(encoding="utf-8") == "mine"


# --- packages from before names left them ------------------------------------------------------------


@pytest.fixture
def old(source: Package) -> Path:
    """The folder of a package of format 1."""
    path = source.folder / MANIFEST_NAME
    values = json.loads(path.read_bytes()) | {
        "format": 1,
        "name": "support-int4",
        "version": 3,
        "created": "2026-11-22T10:00:00Z",
        "measurements": MEASURED,
        "verdict": VERDICT,
    }
    path.write_text(json.dumps(values), encoding="utf-8")
    return source.folder


def test_an_old_package_in_the_cache_tells_what_its_manifest_states(old: Path, folder: Path) -> None:
    (folder / "support-int4").mkdir(parents=True)
    old.rename(folder / "support-int4" / "v3")
    entry = listing.find(folder, "support-int4")
    assert (entry.ref, entry.problem) == ("support-int4:3", None)
    assert entry.record is not None
    assert entry.record.installed == "2026-11-22T10:00:00Z"
    assert (entry.record.measurements, entry.record.verdict) == (MEASURED, VERDICT)
    (result,) = verification.verify(folder)
    assert result.outcome == "ok"
    assert "made before names left the package" in str(result.note)


def test_an_old_package_is_installed_by_its_name_and_byte_for_byte(old: Path, folder: Path) -> None:
    content = (old / MANIFEST_NAME).read_bytes()
    installed, new = packages.install(old, folder)
    assert (installed.ref, new) == ("support-int4:1", True)
    assert (installed.folder / MANIFEST_NAME).read_bytes() == content
    assert installed.record is not None
    assert (installed.record.measurements, installed.record.verdict) == (MEASURED, VERDICT)
    assert packages.install(old, folder)[1] is False
    renamed, _ = packages.install(old, folder, name="other")
    assert listing.find(folder, "other") == renamed
