from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeship.system import foreign
from edgeship.system.foreign import Refused

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and devices that have a path")


def a_pipe(path: Path) -> None:
    if sys.platform != "win32":
        os.mkfifo(path)


def a_socket(path: Path) -> None:
    if sys.platform != "win32":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))


def a_folder(path: Path) -> None:
    path.mkdir()


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def test_a_file_is_read_whole_and_a_text_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert foreign.read_bytes(path) == b"\xef\xbb\xbfone\r\ntwo\rthree\n"
    assert foreign.read_text(path) == "one\ntwo\nthree\n"


@posix
@pytest.mark.parametrize("make", [a_pipe, a_socket, a_folder, a_device])
def test_what_is_no_regular_file_is_refused_at_once(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    path = Path("odd")
    make(path)
    with pytest.raises(Refused, match="no regular file"):
        foreign.read_bytes(path)
    if make is not a_pipe:
        with pytest.raises(Refused, match="no regular file"):
            foreign.read_bytes(path, named=True)
    with pytest.raises(Refused, match="no regular file"):
        foreign.require_readable(path)


@posix
def test_a_pipe_that_a_user_names_is_read(tmp_path: Path) -> None:
    a_pipe(tmp_path / "pipe")
    assert foreign.read_bytes(tmp_path / "pipe", named=True) == b""  # nobody writes: its end
    reader, writer = os.pipe()
    os.write(writer, b"as a shell makes them")
    os.close(writer)
    assert foreign.read_text(Path(f"/dev/fd/{reader}"), named=True) == "as a shell makes them"
    os.close(reader)


@posix
def test_a_pipe_that_takes_the_place_of_a_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real_open = tmp_path / "a", os.open
    path.write_bytes(b"1")

    def exchanged(place: Path, flags: int) -> int:
        path.unlink()
        a_pipe(path)
        return real_open(place, flags)

    monkeypatch.setattr(os, "open", exchanged)
    with pytest.raises(Refused, match="a pipe"):
        foreign.open_file(path)


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(1 << 20))
    assert len(foreign.read_bytes(path, most_bytes=1 << 20)) == 1 << 20
    path.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(Refused, match="larger than 1 MiB"):
        foreign.read_bytes(path, most_bytes=1 << 20)


def test_links_stay_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "own").write_text("own")
    (folder / "inside").symlink_to("own")
    (folder / "inner" / "up").symlink_to("../own")
    (folder / "outside").symlink_to(tmp_path / "secret")
    (folder / "around").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert foreign.read_text(folder / "inside") == "own"
    assert foreign.read_text(tmp_path / "link" / "inside") == "own"
    assert foreign.read_text(folder / "inner" / "up", folder=folder) == "own"
    for path in (folder / "outside", folder / "around" / "secret", folder / ".." / "secret"):
        with pytest.raises(Refused, match=r"leads out of its folder, to .*secret"):
            foreign.read_text(path, folder=folder)
    assert foreign.read_text(folder / "outside", named=True) == "secret"


def test_the_links_of_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots" / "0123"
    (snapshot / "onnx").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "beef").write_text("weights")
    (snapshot / "a").symlink_to("../../blobs/beef")
    (snapshot / "onnx" / "a").symlink_to("../../../blobs/beef")
    assert foreign.read_text(snapshot / "a") == "weights"
    assert foreign.read_text(snapshot / "onnx" / "a") == "weights"
    other = tmp_path / "models--c--d" / "blobs"
    other.mkdir(parents=True)
    (other / "beef").write_text("another's")
    (snapshot / "b").symlink_to(other / "beef")
    with pytest.raises(Refused, match="leads out"):
        foreign.read_text(snapshot / "b")


def test_blobs_that_lie_elsewhere_are_not_the_hubs(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("secret")
    snapshot = tmp_path / "given" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (tmp_path / "given" / "blobs").symlink_to(tmp_path / "etc", target_is_directory=True)
    (snapshot / "merges.txt").symlink_to("../../blobs/passwd")
    with pytest.raises(Refused, match="leads out"):
        foreign.read_text(snapshot / "merges.txt")


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"XDG_CACHE_HOME": "/caches"},
        {"HF_HOME": "~/faces", "XDG_CACHE_HOME": "/caches"},
        {"HUGGINGFACE_HUB_CACHE": "/older", "HF_HOME": "/faces"},
        {"HF_HUB_CACHE": "/$HOW/newer", "HUGGINGFACE_HUB_CACHE": "/older", "HOW": "any"},
    ],
)
def test_the_hubs_cache_is_where_its_library_says(monkeypatch: pytest.MonkeyPatch, stated: dict[str, str]) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in stated.items():
        monkeypatch.setenv(name, value)
    says = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    asked = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True)
    assert foreign.hub_cache() == Path(asked.stdout.strip())


def test_links_into_the_users_own_hub_cache_are_followed_to_models_alone(tmp_path: Path) -> None:
    blobs = foreign.hub_cache() / "models--a--b" / "blobs"
    digest = "0123456789abcdef" * 4
    elsewhere = [
        foreign.hub_cache() / "datasets--a--b" / "blobs" / digest,
        foreign.hub_cache() / "models--a--b" / "refs" / digest,
        blobs / "notes.txt",
        blobs / "inner" / digest,
        tmp_path / "models--a--b" / "blobs" / digest,
        foreign.hub_cache().parent / "token",
    ]
    for path in (blobs / digest, *elsewhere):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text", encoding="utf-8")
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "good").symlink_to(blobs / digest)
    assert foreign.read_text(folder / "good") == "text"
    for number, path in enumerate(elsewhere):
        (folder / str(number)).symlink_to(path)
        with pytest.raises(Refused, match="leads out"):
            foreign.read_text(folder / str(number))
    (blobs / ("f" * 40)).symlink_to(foreign.hub_cache().parent / "token")
    (folder / "through").symlink_to(blobs / ("f" * 40))
    with pytest.raises(Refused, match=r"leads out .*token"):
        foreign.read_text(folder / "through")


def test_what_no_file_can_be_called_is_none(tmp_path: Path) -> None:
    assert foreign.is_folder(tmp_path)
    for name in ("missing", "n" * 300, "a/" * 3000):
        assert not foreign.is_folder(tmp_path / name)
        assert not foreign.is_file(tmp_path / name)


@pytest.mark.parametrize("name", ["missing", "n" * 300])
def test_what_is_not_there_is_an_oserror(name: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No such file|too long"):
        foreign.read_bytes(tmp_path / name)
