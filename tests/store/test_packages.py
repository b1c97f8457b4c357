"""The cache: installs that cannot be half there, whatever happens to the process, the disk or the bytes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import (
    CacheBusy,
    DiskShort,
    NameInvalid,
    NotFound,
    NotWritable,
    PackageDamaged,
    PackageNotFound,
    UsageError,
)
from edgeship.package import manifest
from edgeship.package.manifest import MANIFEST_NAME, Package, read, verify
from edgeship.settings import Settings, read_config, resolve
from edgeship.store import listing, packages, verification
from edgeship.store.verification import Verified
from edgeship.system import machine, storage
from tests.packages import make_package

# Installs argv[1] into argv[2]; when the last file is there it says so and waits for a line on stdin.
INSTALL = """
import sys
from pathlib import Path
from edgeship.store import packages, listing, verification
def tell(message, fraction):
    if fraction == 1.0:
        print("finishing", flush=True)
        sys.stdin.readline()
installed, new = packages.install(Path(sys.argv[1]), Path(sys.argv[2]), progress=tell)
print(installed.ref, new, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Package:
    return make_package(tmp_path / "model-int4")


def change(source: Package, weights: bytes = b"other weights") -> Package:
    """The same package with other weights."""
    data = source.folder / "model.onnx.data"
    data.write_bytes(weights)
    files = source.manifest.files | {data.name: storage.digest_file(data)}
    return manifest.write(source.folder, source.manifest.model_copy(update={"files": files}))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def outcome(folder: Path, ref: str) -> str:
    (result,) = verification.verify(folder, ref)
    return result.outcome


def refs(folder: Path) -> list[str]:
    return [entry.ref for entry in listing.entries(folder)]


def unfinished(folder: Path) -> list[Path]:
    return [path for path in (folder / ".tmp").rglob("*") if path.is_file()]


# --- listing and finding -----------------------------------------------------------------------------


def test_a_cache_that_is_not_there_is_empty(folder: Path) -> None:
    assert listing.entries(folder) == []
    assert verification.verify(folder) == []
    assert listing.next_version(folder, "x") == 1
    assert not folder.exists()


def test_packages_are_listed_by_name_and_version(source: Package, folder: Path) -> None:
    for name in ("b", "a"):
        packages.install(source.folder, folder, name=name)
    changed = change(source)
    packages.install(changed.folder, folder, name="a")
    assert refs(folder) == ["a:1", "a:2", "b:1"]
    entry = listing.entries(folder)[1]
    assert (entry.folder, entry.problem) == (folder / "a" / "v2", None)
    assert entry.record is not None
    assert (entry.record.name, entry.record.version) == ("a", 2)
    assert entry.size_bytes == sum(path.stat().st_size for path in entry.folder.iterdir())


def test_versions_sort_as_numbers(source: Package, folder: Path) -> None:
    for version in (2, 10, 9):
        shutil.copytree(source.folder, folder / "m" / f"v{version}")
    assert [entry.version for entry in listing.entries(folder)] == [2, 9, 10]
    assert listing.find(folder, "m").version == 10
    assert listing.next_version(folder, "m") == 11


def test_a_plain_package_folder_is_found_by_its_name(source: Package, folder: Path) -> None:
    shutil.copytree(source.folder, folder / "your-finetuned-model-int4")
    entry = listing.find(folder, "your-finetuned-model-int4")
    assert (entry.version, entry.problem) == (1, None)
    assert entry.manifest == source.manifest
    assert entry.record is not None
    assert entry.record.measurements is None


def test_folders_of_other_tools_are_found(folder: Path) -> None:
    (folder / "theirs").mkdir(parents=True)
    (folder / "theirs" / "genai_config.json").write_text("{}", encoding="utf-8")
    entry = listing.find(folder, "theirs")
    assert (entry.version, entry.package, entry.problem) == (1, None, listing.FOREIGN)


def test_what_is_no_package_is_not_listed(source: Package, folder: Path) -> None:
    packages.install(source.folder, folder)
    for other in ("pictures", ".hidden", "with space", "model-int4/notes", "model-int4/v0", "model-int4/.tmp-v2"):
        (folder / other).mkdir()
        (folder / other / "genai_config.json").write_text("{}", encoding="utf-8")
    (folder / "pictures" / "genai_config.json").unlink()
    (folder / "file").write_text("x", encoding="utf-8")
    assert refs(folder) == ["model-int4:1"]


def test_a_package_with_a_damaged_manifest_is_listed_with_its_problem(source: Package, folder: Path) -> None:
    packages.install(source.folder, folder)
    (folder / "model-int4" / "v1" / MANIFEST_NAME).write_text("{", encoding="utf-8")
    entry = listing.find(folder, "model-int4")
    assert entry.problem is not None
    assert "manifest cannot be read" in entry.problem
    assert verification.verify(folder) == [Verified(entry, "damaged", (entry.problem,))]


def test_an_empty_version_is_listed_with_its_problem(folder: Path) -> None:
    (folder / "m" / "v1").mkdir(parents=True)
    assert listing.find(folder, "m").problem == "no manifest and no genai_config.json: not a package"


def test_a_name_that_is_nearly_right_is_offered(source: Package, folder: Path) -> None:
    packages.install(source.folder, folder)
    with pytest.raises(PackageNotFound, match="model-in4") as caught:
        listing.find(folder, "model-in4")
    assert "model-int4?" in str(caught.value.hint)
    assert caught.value.where == str(folder)


def test_a_version_that_is_not_there_is_told_from_a_name(source: Package, folder: Path) -> None:
    packages.install(source.folder, folder)
    with pytest.raises(PackageNotFound) as caught:
        listing.find(folder, "model-int4:7")
    assert str(caught.value.hint).startswith("There is model-int4:1. ")


@pytest.mark.parametrize("ref", ["../up", "a b", "", "a:x"])
def test_a_reference_that_is_none(ref: str, folder: Path) -> None:
    for action in (listing.find, packages.remove):
        with pytest.raises(NameInvalid):
            action(folder, ref)


def test_listing_reads_no_weights(source: Package, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages.install(source.folder, folder)
    monkeypatch.setattr(manifest, "digest_file", lambda path: pytest.fail(f"read {path}"))
    assert refs(folder) == ["model-int4:1"]


# --- installing --------------------------------------------------------------------------------------


def test_an_install_is_a_whole_package_of_the_next_version(source: Package, folder: Path) -> None:
    installed, new = packages.install(source.folder, folder, name="given")
    assert new
    assert installed.folder == folder / "given" / "v1"
    assert (installed.ref, listing.find(folder, "given")) == ("given:1", installed)
    assert read(installed.folder) == installed.package
    assert outcome(folder, "given") == "ok"
    assert not unfinished(folder)


@pytest.mark.parametrize("move", [True, False])
def test_a_package_is_installed_byte_for_byte_whatever_it_is_called(source: Package, folder: Path, move: bool) -> None:
    before = {path.name: path.read_bytes() for path in source.folder.iterdir()}
    installed, _ = packages.install(
        source.folder, folder, name="given", measurements={"threads": 2}, verdict={"holds": True}, move=move
    )
    assert {path.name: path.read_bytes() for path in installed.folder.iterdir()} == before
    assert installed.package is not None
    assert installed.package.digest == source.digest


def test_the_same_content_is_installed_once(source: Package, folder: Path) -> None:
    first, _ = packages.install(source.folder, folder)
    assert packages.install(source.folder, folder) == (first, False)
    assert refs(folder) == ["model-int4:1"]


def test_other_content_is_a_new_version(source: Package, folder: Path) -> None:
    packages.install(source.folder, folder)
    installed, new = packages.install(change(source).folder, folder)
    assert (installed.version, new) == (2, True)


def test_a_damaged_installation_is_not_taken_for_the_same(source: Package, folder: Path) -> None:
    installed, _ = packages.install(source.folder, folder)
    flip(installed.folder / "model.onnx")
    again, new = packages.install(source.folder, folder)
    assert (again.version, new) == (2, True)
    assert outcome(folder, again.ref) == "ok"


def test_a_copy_leaves_the_source_and_a_move_takes_it(source: Package, folder: Path) -> None:
    copied, _ = packages.install(source.folder, folder, name="copied")
    assert verify(source) == []
    moved, _ = packages.install(source.folder, folder, name="moved", move=True)
    assert not (source.folder / "model.onnx.data").exists()
    for package in (copied, moved):
        assert outcome(folder, package.ref) == "ok"
        # Readers of ONNX refuse weights with a second name.
        assert (package.folder / "model.onnx.data").stat().st_nlink == 1


def test_a_move_to_another_disk_is_a_copy(source: Package, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self.parent == source.folder:
            raise OSError(errno.EXDEV, "another disk")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    packages.install(source.folder, folder, move=True)
    assert outcome(folder, "model-int4") == "ok"


@pytest.fixture
def other_disk() -> Iterator[Path]:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("there is one disk only")
    with tempfile.TemporaryDirectory(dir=memory) as place:
        yield Path(place)


def test_a_name_may_be_a_link_to_another_disk(source: Package, folder: Path, other_disk: Path) -> None:
    folder.mkdir()
    (folder / "model-int4").symlink_to(other_disk, target_is_directory=True)
    installed, _ = packages.install(source.folder, folder)
    packages.install(change(source).folder, folder)
    assert (installed.folder.stat().st_dev, refs(folder)) == (
        other_disk.stat().st_dev,
        ["model-int4:1", "model-int4:2"],
    )
    assert [each.outcome for each in verification.verify(folder)] == ["ok", "ok"]
    (other_disk / ".tmp" / "left").mkdir(parents=True)
    assert packages.sweep(folder) == [(other_disk / ".tmp", 0)]
    packages.remove(folder, "model-int4")
    assert list(other_disk.iterdir()) == []


def test_files_that_the_manifest_does_not_list_stay_behind(source: Package, folder: Path) -> None:
    (source.folder / "secrets.txt").write_text("x", encoding="utf-8")
    installed, _ = packages.install(source.folder, folder)
    assert not (installed.folder / "secrets.txt").exists()


def test_a_folder_whose_name_cannot_be_the_packages(source: Package, folder: Path) -> None:
    odd = source.folder.rename(source.folder.parent / "my model")
    with pytest.raises(NameInvalid, match="'my model', which the folder is called") as caught:
        packages.install(odd, folder)
    assert caught.value.hint == "Give it one with --name."
    assert packages.install(odd, folder, name="mine")[0].ref == "mine:1"


@pytest.mark.parametrize("move", [True, False])
@pytest.mark.parametrize("name", ["model.onnx.data", "tokenizer.json", "README.md"])
def test_a_damaged_source_is_not_installed(source: Package, folder: Path, name: str, move: bool) -> None:
    flip(source.folder / name)
    with pytest.raises(PackageDamaged, match=name) as caught:
        packages.install(source.folder, folder, move=move)
    assert caught.value.where == str(source.folder)
    assert refs(folder) == []
    assert not unfinished(folder)


def test_a_source_without_a_file(source: Package, folder: Path) -> None:
    (source.folder / "model.onnx").unlink()
    with pytest.raises(PackageDamaged, match=r"model\.onnx is missing"):
        packages.install(source.folder, folder)
    assert refs(folder) == []


def test_a_manifest_cannot_lead_outside(source: Package, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("x", encoding="utf-8")
    stated = json.loads((source.folder / MANIFEST_NAME).read_bytes())
    stated["files"]["../passwords"] = {"sha256": "0" * 64, "size_bytes": 1}
    (source.folder / MANIFEST_NAME).write_text(json.dumps(stated), encoding="utf-8")
    with pytest.raises(PackageDamaged, match="no file inside the package"):
        packages.install(source.folder, folder)


@pytest.mark.parametrize("name", ["../x", "a/b", "a b", "CON"])
def test_a_name_that_cannot_be_a_folder(source: Package, folder: Path, name: str) -> None:
    with pytest.raises(NameInvalid):
        packages.install(source.folder, folder, name=name)
    assert not folder.exists()


def test_a_name_that_differs_from_anothers_in_case_alone(source: Package, folder: Path) -> None:
    """On Windows and macOS both would be one folder, and the second install would take the place of the first."""
    packages.install(source.folder, folder, name="triage")
    with pytest.raises(NameInvalid, match="'Triage' and the package 'triage' differ in case alone"):
        packages.install(change(source).folder, folder, name="Triage")
    assert refs(folder) == ["triage:1"]


def test_progress_names_files_and_ends_at_one(source: Package, folder: Path) -> None:
    told: list[tuple[str, float | None]] = []

    def report(message: str, fraction: float | None = None) -> None:
        told.append((message, fraction))

    packages.install(source.folder, folder, progress=report)
    assert told[-1][1] == pytest.approx(1.0)
    assert any("model.onnx.data" in message for message, _ in told)


# --- a disk that is full or read-only ----------------------------------------------------------------


def test_too_little_disk_is_found_before_copying(
    source: Package, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "free_disk_bytes", lambda _: 100)
    with pytest.raises(DiskShort, match=r"model-int4 needs .* free"):
        packages.install(source.folder, folder)
    assert refs(folder) == []
    assert packages.install(source.folder, folder, move=True)[1]  # a rename needs no room


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, DiskShort), (errno.EROFS, NotWritable), (errno.EACCES, NotWritable), (errno.EIO, NotWritable)],
)
def test_a_disk_that_fails_in_the_middle_leaves_nothing(
    source: Package, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    copy = storage._copy

    def fail(path: Path, target: Path, inside: Path | None) -> Any:
        digest = copy(path, target, inside)
        if path.name == "model.onnx.data":
            raise OSError(number, os.strerror(number))
        return digest

    monkeypatch.setattr(storage, "_copy", fail)
    with pytest.raises(error) as caught:
        packages.install(source.folder, folder)
    assert getattr(caught.value, "where", None) == str(folder)
    assert refs(folder) == []
    assert not unfinished(folder)
    monkeypatch.undo()
    assert packages.install(source.folder, folder)[1]


def test_ctrl_c_in_the_middle_leaves_nothing(source: Package, folder: Path) -> None:
    def interrupted(_: str, fraction: float | None = None) -> None:
        if fraction == 1.0:
            assert any(path.name == "model.onnx" for path in unfinished(folder))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packages.install(source.folder, folder, progress=interrupted)
    assert refs(folder) == []
    assert not unfinished(folder)
    assert not (folder / "model-int4").exists()


def test_a_file_where_the_cache_should_be(source: Package, folder: Path) -> None:
    folder.write_text("in the way", encoding="utf-8")
    for action in (
        lambda: packages.install(source.folder, folder),
        lambda: packages.require_writable(folder),
        lambda: packages.require_writable(folder / "deeper"),
    ):
        with pytest.raises(NotWritable) as caught:
            action()
        assert "cache cd" in str(caught.value.hint)
    assert listing.entries(folder) == []
    assert folder.read_text(encoding="utf-8") == "in the way"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_cache(source: Package, folder: Path) -> None:
    packages.install(source.folder, folder)
    folder.chmod(0o555)
    try:
        with pytest.raises(NotWritable):
            packages.install(source.folder, folder, name="other")
        assert refs(folder) == ["model-int4:1"]
    finally:
        folder.chmod(0o755)


# --- other processes ---------------------------------------------------------------------------------


def start(source: Package, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INSTALL, str(source.folder), str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_killed_install_leaves_nothing_and_the_next_one_works(source: Package, folder: Path) -> None:
    child = start(source, folder)
    assert line(child) == "finishing"
    assert refs(folder) == []
    assert unfinished(folder)
    child.kill()
    child.wait()
    assert refs(folder) == []
    installed, new = packages.install(source.folder, folder)
    assert (installed.ref, new) == ("model-int4:1", True)
    assert outcome(folder, "model-int4") == "ok"
    assert not unfinished(folder)


def test_two_installs_of_one_name_wait_for_each_other(source: Package, folder: Path) -> None:
    first = start(source, folder)
    assert line(first) == "finishing"
    second = start(source, folder)
    with pytest.raises(CacheBusy, match="model-int4"):
        packages.install(source.folder, folder, wait_s=0.2)
    go(first)
    assert line(first) == "model-int4:1 True"
    assert line(second) == "model-int4:1 False"
    assert (first.wait(), second.wait()) == (0, 0)
    assert refs(folder) == ["model-int4:1"]


def test_names_do_not_wait_for_each_other(source: Package, folder: Path) -> None:
    child = start(source, folder)
    assert line(child) == "finishing"
    assert packages.install(source.folder, folder, name="other", wait_s=0)[1]
    go(child)
    assert child.wait() == 0


# --- removing and verifying --------------------------------------------------------------------------


def test_one_version_or_all_of_a_name_are_removed(source: Package, folder: Path) -> None:
    for weights in (b"1", b"2", b"3"):
        packages.install(change(source, weights).folder, folder)
    packages.install(source.folder, folder, name="other")
    assert [entry.ref for entry in packages.remove(folder, "model-int4:2")] == ["model-int4:2"]
    assert refs(folder) == ["model-int4:1", "model-int4:3", "other:1"]
    assert [entry.ref for entry in packages.remove(folder, "model-int4")] == ["model-int4:1", "model-int4:3"]
    assert refs(folder) == ["other:1"]
    assert not (folder / "model-int4").exists()
    assert not unfinished(folder)
    with pytest.raises(PackageNotFound):
        packages.remove(folder, "model-int4")


def test_removing_a_link_leaves_what_it_points_to(source: Package, folder: Path) -> None:
    folder.mkdir()
    try:
        (folder / "linked").symlink_to(source.folder, target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    assert [entry.ref for entry in packages.remove(folder, "linked")] == ["linked:1"]
    assert refs(folder) == []
    assert verify(source) == []


def test_a_plain_folder_goes_with_the_versions_in_it(source: Package, folder: Path) -> None:
    shutil.copytree(source.folder, folder / "model-int4")
    packages.install(change(source).folder, folder)
    assert refs(folder) == ["model-int4:1", "model-int4:2"]
    assert len(packages.remove(folder, "model-int4")) == 2
    assert not (folder / "model-int4").exists()


def test_a_removal_that_cannot_delete_is_not_listed_and_made_good_by_the_next_install(
    source: Package, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages.install(source.folder, folder)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    packages.remove(folder, "model-int4")
    assert refs(folder) == []
    assert unfinished(folder)
    monkeypatch.undo()
    packages.install(source.folder, folder)
    assert not unfinished(folder)


def test_verify_names_the_file_that_was_altered(source: Package, folder: Path) -> None:
    packages.install(source.folder, folder, name="good")
    bad, _ = packages.install(source.folder, folder, name="bad")
    flip(bad.folder / "model.onnx.data")
    found = verification.verify(folder)
    assert [(each.entry.ref, each.outcome) for each in found] == [("bad:1", "damaged"), ("good:1", "ok")]
    (result,) = verification.verify(folder, "bad:1")
    assert result.faults[0].startswith("model.onnx.data was altered")
    with pytest.raises(PackageNotFound):
        verification.verify(folder, "missing")


def test_a_folder_that_cannot_be_verified_is_neither_ok_nor_damaged(source: Package, folder: Path) -> None:
    packages.install(source.folder, folder, name="later")
    path = folder / "later" / "v1" / MANIFEST_NAME
    path.write_text(json.dumps({"format": 3}), encoding="utf-8")
    (folder / "theirs").mkdir()
    (folder / "theirs" / "genai_config.json").write_text("{}", encoding="utf-8")
    found = verification.verify(folder)
    assert [(each.outcome, each.faults) for each in found] == [("unverified", ()), ("unverified", ())]
    assert [each.note for each in found] == [listing.LATER, listing.FOREIGN]


def test_a_file_that_came_later_is_named(source: Package, folder: Path) -> None:
    installed, _ = packages.install(source.folder, folder)
    (installed.folder / "adapter.onnx").write_bytes(b"x")
    (result,) = verification.verify(folder)
    assert (result.outcome, result.faults) == ("damaged", ("adapter.onnx is not in the manifest",))


def test_versions_in_a_packages_own_folder_are_no_files_of_it(source: Package, folder: Path) -> None:
    shutil.copytree(source.folder, folder / "model-int4")
    packages.install(change(source).folder, folder)
    assert [(each.entry.ref, each.outcome) for each in verification.verify(folder)] == [
        ("model-int4:1", "ok"),
        ("model-int4:2", "ok"),
    ]


def test_a_package_that_another_process_removes_meanwhile_is_not_there(
    source: Package, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages.install(source.folder, folder)
    read_manifest = manifest.read

    def removed_before(package: Path) -> Package:
        shutil.rmtree(package)
        return read_manifest(package)

    def removed_after(package: Path) -> Package:
        found = read_manifest(package)
        shutil.rmtree(package)
        return found

    monkeypatch.setattr(manifest, "read", removed_after)
    assert verification.verify(folder) == []
    monkeypatch.undo()
    packages.install(source.folder, folder)
    monkeypatch.setattr(manifest, "read", removed_before)
    assert listing.entries(folder) == []


def test_a_listed_file_that_the_system_refuses_is_damage(source: Package, folder: Path) -> None:
    path = source.folder / MANIFEST_NAME
    path.write_text(path.read_text(encoding="utf-8").replace('"README.md"', f'"{"n" * 300}"'), encoding="utf-8")
    with pytest.raises(PackageDamaged, match="nnn"):
        packages.install(source.folder, folder)
    assert refs(folder) == []


def test_a_manifest_that_is_lost_or_exchanged_is_damage(source: Package, folder: Path, tmp_path: Path) -> None:
    installed, _ = packages.install(source.folder, folder)
    make_other = make_package(tmp_path / "other", weights=b"other")
    storage.remove_folder(installed.folder)
    shutil.copytree(make_other.folder, installed.folder)
    (exchanged,) = verification.verify(folder)
    assert (exchanged.outcome, exchanged.faults[0]) == ("damaged", "its manifest is not the one that was installed")
    (installed.folder / MANIFEST_NAME).unlink()
    (lost,) = verification.verify(folder)
    assert (lost.outcome, lost.faults) == ("damaged", ("its manifest is missing",))
    assert refs(folder) == ["model-int4:1"]


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("config.json", "it is a checkpoint"),
        ("notes.txt", "it holds no edgeship.json"),
    ],
)
def test_what_is_no_package_is_not_installed(folder: Path, tmp_path: Path, file: str, what: str) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / file).write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=f"this is no package: {what}") as caught:
        packages.install(given, folder)
    assert "remove" not in str(caught.value.hint).lower()
    with pytest.raises(UsageError, match="it is a file"):
        packages.install(given / file, folder)
    with pytest.raises(NotFound, match="no such folder"):
        packages.install(tmp_path / "nowhere", folder)
    assert not folder.exists()


# --- where the cache is ------------------------------------------------------------------------------


def test_the_location_is_stored_absolute_and_made(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert packages.set_location(settings, Path("./models/")) == tmp_path / "models"
    assert (tmp_path / "models").is_dir()
    assert read_config(settings.config_file) == {"cache_dir": str(tmp_path / "models")}
    assert resolve().cache_dir == tmp_path / "models"


def test_a_location_that_cannot_be_written_is_not_stored(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for path in (tmp_path / "file", tmp_path / "file" / "models"):
        with pytest.raises(NotWritable) as caught:
            packages.set_location(settings, path)
        assert caught.value.where == str(path)
    assert not settings.config_file.exists()


def test_importing_the_cache_is_light() -> None:
    code = (
        "import sys, edgeship.store.packages; print(sorted({'numpy', 'jinja2', 'edgeship.builder'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_another_tool_made_is_installed_with_a_manifest(folder: Path, tmp_path: Path) -> None:
    made = make_package(tmp_path / "theirs" / "onnx").folder
    (made / MANIFEST_NAME).unlink()
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    installed, new = packages.install(made, folder)
    assert (installed.ref, new) == ("theirs:1", True)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    assert installed.manifest
    assert installed.manifest.build == {"builder": "another tool"}
    assert [result.outcome for result in verification.verify(folder)] == ["ok"]
    assert packages.install(made, folder) == (installed, False)


@pytest.mark.skipif(sys.platform == "win32", reason="there the file would take the disk")
def test_what_another_tool_made_is_not_digested_where_it_has_no_room(folder: Path, tmp_path: Path) -> None:
    made = make_package(tmp_path / "theirs").folder
    (made / MANIFEST_NAME).unlink()
    with (made / "huge.bin").open("wb") as huge:
        huge.truncate(1 << 42)
    with pytest.raises(DiskShort, match="theirs needs"):
        packages.install(made, folder)
    assert refs(folder) == []


@pytest.mark.parametrize("damage", ["model.onnx", "genai_config.json"])
def test_what_another_tool_made_and_cannot_run_is_not_installed(damage: str, folder: Path, tmp_path: Path) -> None:
    made = make_package(tmp_path / "theirs").folder
    (made / MANIFEST_NAME).unlink()
    if damage == "model.onnx":
        (made / damage).unlink()
    else:
        (made / damage).write_text("{}", encoding="utf-8")
    with pytest.raises(PackageDamaged):
        packages.install(made, folder)
    assert refs(folder) == []


def test_folders_that_can_run_are_found_below_the_folder_of_a_name(folder: Path, tmp_path: Path) -> None:
    packages.install(make_package(tmp_path / "mine").folder, folder)
    made = make_package(tmp_path / "theirs").folder
    shutil.copytree(made, folder / "qwen" / "onnx")
    (folder / "qwen" / "empty").mkdir()
    assert listing.found_below(folder) == [folder / "qwen" / "onnx"]
    assert listing.at(folder / "qwen" / "onnx").name == "qwen"


@pytest.mark.skipif(sys.platform == "win32", reason="there the file would take the disk")
def test_a_file_of_another_size_is_not_even_copied(source: Package, folder: Path) -> None:
    os.truncate(source.folder / "tokenizer_config.json", 1 << 40)
    with pytest.raises(PackageDamaged, match=r"tokenizer_config\.json differs from what the manifest says"):
        packages.install(source.folder, folder)


def test_what_is_installed_is_no_place_to_build_into(source: Package, folder: Path, tmp_path: Path) -> None:
    installed, _ = packages.install(source.folder, folder)
    for place in (installed.folder, folder / "another" / "v7"):
        with pytest.raises(UsageError, match="never written over"):
            packages.require_not_installed(place, folder)
    packages.require_not_installed(folder / "another", folder)
    packages.require_not_installed(tmp_path / "elsewhere" / "v1", folder)
