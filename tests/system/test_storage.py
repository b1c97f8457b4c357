"""Files and folders that are whole or not there, whatever happens to the process and the disk."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import DiskShort
from edgeship.system import storage
from edgeship.system.storage import (
    TemporaryFolder,
    leftovers,
    new_file,
    new_folder,
    remove_folder,
    remove_leftovers,
    scratch_folder,
    write_file,
)

GONE = 999_999_999
"""A process that is not there."""
# Begins what argv[1] names, inside argv[2], says so and waits for its end.
BEGIN = """
import sys
from pathlib import Path
from edgeship.errors import DiskShort
from edgeship.system import storage
kind, root = sys.argv[1], Path(sys.argv[2])
with getattr(storage, kind)(root / "it") as place:
    (place if kind == "new_file" else place / "half").write_text("half")
    print("begun", flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def killed_in(kind: str, root: Path) -> None:
    """Begins it in a process that is killed in the middle."""
    child = subprocess.Popen(
        [sys.executable, "-c", BEGIN, kind, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stdout.readline() == "begun\n"
    child.kill()
    child.communicate()


def interrupted_after_writing(path: Path) -> None:
    path.write_text("half", encoding="utf-8")
    raise KeyboardInterrupt


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Windows, where others have a file open for the first renames: one for each number, which is Windows' error."""
    errors = [32, 5]
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if not errors:
            return real(path, target)
        error = PermissionError(errno.EACCES, "in use")
        error.winerror = errors.pop()  # type: ignore[attr-defined,unused-ignore]
        raise error

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(storage, "_PAUSES_S", (0.0, 0.0, 0.0))
    return errors


# --- files -------------------------------------------------------------------------------------------


def test_a_file_that_others_have_open_is_renamed_when_they_are_done(tmp_path: Path, in_use: list[int]) -> None:
    write_file(tmp_path / "it", "whole")
    assert names(tmp_path) == {"it"}
    assert in_use == []


def test_a_file_that_others_keep_open_stays_as_it_was(tmp_path: Path, in_use: list[int]) -> None:
    in_use += [5, 5]
    (tmp_path / "it").write_text("old", encoding="utf-8")
    with pytest.raises(PermissionError):
        write_file(tmp_path / "it", "new")
    assert (tmp_path / "it").read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == {"it"}


def test_what_may_not_be_written_is_told_at_once(tmp_path: Path, in_use: list[int]) -> None:
    in_use[:] = [19, 19]  # write-protected: waiting is of no use
    with pytest.raises(PermissionError):
        write_file(tmp_path / "it", "new")
    assert in_use == [19]


def test_a_file_holds_the_bytes_of_its_text_on_every_system(tmp_path: Path) -> None:
    write_file(tmp_path / "it", "für\nzwei\n")
    assert (tmp_path / "it").read_bytes() == b"f\xc3\xbcr\nzwei\n"
    write_file(tmp_path / "it", b"\r\n")
    assert (tmp_path / "it").read_bytes() == b"\r\n"
    assert names(tmp_path) == {"it"}


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    write_file(tmp_path / "it", "old")
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "it") as temporary:
        interrupted_after_writing(temporary)
    assert (tmp_path / "it").read_text() == "old"
    assert names(tmp_path) == {"it"}


def test_a_file_that_others_link_to_is_not_changed_for_them(tmp_path: Path) -> None:
    write_file(tmp_path / "it", "old")
    os.link(tmp_path / "it", tmp_path / "theirs")
    write_file(tmp_path / "it", "new")
    assert (tmp_path / "theirs").read_text() == "old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_when_it_is_to_keep_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_file(tmp_path / "it", "new")
    assert names(tmp_path) == set()


def test_a_disk_that_cannot_be_told_to_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", cannot)
    write_file(tmp_path / "it", "new")
    assert (tmp_path / "it").read_text() == "new"


# --- folders -----------------------------------------------------------------------------------------


def test_a_folder_replaces_the_one_before(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with new_folder(tmp_path / "deep" / "it", durable=True) as temporary:
            write_file(temporary / content, content)
            assert names(tmp_path / "deep") <= {"it", temporary.name}
    assert names(tmp_path / "deep" / "it") == {"new"}
    assert names(tmp_path / "deep") == {"it"}


def test_a_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "it") as temporary:
        write_file(temporary / "old", "old")
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "it") as temporary:
        interrupted_after_writing(temporary / "new")
    assert names(tmp_path / "it") == {"old"}
    assert names(tmp_path) == {"it"}


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_folder(tmp_path / "it") as temporary:
        write_file(temporary / "old", "old")
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target == tmp_path / "it" and not self.name.endswith("-old"):
            raise OSError(errno.EIO, "input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="input/output"), new_folder(tmp_path / "it"):
        pass
    assert names(tmp_path / "it") == {"old"}
    assert names(tmp_path) == {"it"}


def test_a_folder_that_a_killed_process_had_put_aside_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / f".it.tmp-{GONE}-ab-old"
    aside.mkdir()
    write_file(aside / "old", "old")
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "it"):
        raise KeyboardInterrupt
    assert names(tmp_path / "it") == {"old"}
    assert names(tmp_path) == {"it"}


def test_work_that_goes_on_is_kept_where_the_failure_allows_it(tmp_path: Path) -> None:
    place = tmp_path / "partial"

    def goes_on(failure: BaseException) -> bool:
        return isinstance(failure, KeyboardInterrupt)

    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "it", at=place, goes_on=goes_on):
        interrupted_after_writing(place / "half")
    with new_folder(tmp_path / "it", at=place, goes_on=goes_on) as temporary:
        assert names(temporary) == {"half"}
    assert names(tmp_path) == {"it"}
    with pytest.raises(ValueError, match="no"), new_folder(tmp_path / "it", at=place, goes_on=goes_on):
        raise ValueError("no")
    assert names(tmp_path) == {"it"}


def test_work_that_does_not_go_on_begins_anew(tmp_path: Path) -> None:
    place = tmp_path / "partial"
    place.mkdir()
    write_file(place / "half", "half")
    with new_folder(tmp_path / "it", at=place) as temporary:
        assert names(temporary) == set()


# --- what killed processes leave ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["new_file", "new_folder"])
def test_what_a_killed_process_left_is_found_and_goes(tmp_path: Path, kind: str) -> None:
    killed_in(kind, tmp_path)
    assert len(leftovers(tmp_path)) == 1
    remove_leftovers(tmp_path / "it")
    assert names(tmp_path) == set()


def test_what_a_running_process_makes_is_none(tmp_path: Path) -> None:
    with new_folder(tmp_path / "it"), new_file(tmp_path / "that") as temporary:
        write_file(temporary, "half")
        assert leftovers(tmp_path) == []
        remove_leftovers(tmp_path / "it")
    assert names(tmp_path) == {"it", "that"}


def test_what_a_killed_process_of_our_number_left_goes(tmp_path: Path) -> None:
    """A container gives the same number to each."""
    (tmp_path / f".it.tmp-{os.getpid()}-ab").mkdir()
    with new_folder(tmp_path / "it"):
        pass
    assert names(tmp_path) == {"it"}


def test_leftovers_of_other_names_stay(tmp_path: Path) -> None:
    for name in (f".it.tmp-{GONE}-ab", f".it2.tmp-{GONE}-ab", f".[i]t.tmp-{GONE}-ab", ".it.tmp-x"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path / "it")
    remove_leftovers(tmp_path / "[i]t")
    assert names(tmp_path) == {f".it2.tmp-{GONE}-ab", ".it.tmp-x"}


def test_a_link_to_a_folder_is_removed_and_not_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    remove_folder(tmp_path / "link")
    assert names(tmp_path) == {"real"}
    remove_folder(tmp_path / "real")
    assert names(tmp_path) == set()


def test_a_scratch_folder_sweeps_what_killed_runs_left_and_no_other(tmp_path: Path) -> None:
    killed_in("scratch_folder", tmp_path)
    assert len(list((tmp_path / "it").glob("*/half"))) == 1
    with scratch_folder(tmp_path / "it") as mine, scratch_folder(tmp_path / "it") as other:
        assert names(tmp_path / "it") >= {mine.name, other.name}
        assert list((tmp_path / "it").glob("*/half")) == []
    assert names(tmp_path / "it") == set()


def test_a_scratch_folder_goes_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch_folder(tmp_path / "it") as mine:
        interrupted_after_writing(mine / "half")
    assert names(tmp_path / "it") == set()


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    storage.require_writable(tmp_path / "it", "go elsewhere.")
    assert names(tmp_path / "it") == set()


def test_a_disk_that_is_full_keeps_nothing_of_the_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "before").mkdir()
    monkeypatch.setattr(Path, "write_bytes", full)
    for folder in (tmp_path / "a" / "b", tmp_path / "before", tmp_path / "before" / "c"):
        with pytest.raises(DiskShort):
            storage.require_writable(folder, "go elsewhere.")
    assert [path.name for path in tmp_path.rglob("*")] == ["before"]


# --- what is temporary, and what is private ----------------------------------------------------------


def test_a_temporary_folder_goes_and_what_killed_processes_left_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"it-{GONE}-ab").mkdir()
    (tmp_path / f"that-{GONE}-ab").mkdir()
    (tmp_path / f"it-{os.getppid()}-ab").mkdir()
    (tmp_path / f"it-{os.getpid()}-ab").mkdir()  # of an earlier process that had our number
    (tmp_path / f"it-{GONE}-link").symlink_to(tmp_path / f"that-{GONE}-ab", target_is_directory=True)
    with TemporaryFolder("it") as folder:
        left = {f"that-{GONE}-ab", f"it-{os.getppid()}-ab", f"it-{GONE}-link"}
        assert names(tmp_path) == {Path(folder).name, *left}
    assert names(tmp_path) == left


def test_a_temporary_folder_goes_though_a_library_writes_into_it_when_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = TemporaryFolder("it")
    gone, late = shutil.rmtree, ["a last line"]

    def slow(path: str, **_: Any) -> None:
        gone(path)
        if late:
            Path(path).mkdir()
            (Path(path) / "log").write_text(late.pop(), encoding="utf-8")

    monkeypatch.setattr(TemporaryFolder, "_rmtree", staticmethod(slow))
    folder.cleanup()
    assert not late
    assert not Path(folder.name).exists()


def test_a_private_file_is_its_users_alone_and_the_newest_stay(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "failures"
    made = [storage.write_private(folder, str(number), most=3) for number in range(5)]
    assert [path.exists() for path in made] == [False, False, True, True, True]
    assert made[-1].read_text(encoding="utf-8") == "4"
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
