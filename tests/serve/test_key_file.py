"""Files of keys: read, refused, written."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from edgeship.errors import NotFound, UsageError
from edgeship.serve import key_file
from edgeship.serve.key_file import Key, hash_of

SECRET = "a-key-of-sixteen-characters"


def test_a_key_that_was_added_is_read_and_removed_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.toml"
    one = Key("one", hash_of(SECRET), 60, 1000, 4, -2)
    two = Key("two", hash_of(SECRET + "2"))
    key_file.add(path, one)
    path.write_text("# of the team\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    key_file.add(path, two)
    assert key_file.read(path) == (one, two)
    key_file.remove(path, "one")
    assert key_file.read(path) == (two,)
    assert path.read_text(encoding="utf-8").startswith("# of the team")
    assert SECRET not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("comment", ["", "# of the team\n"])
def test_the_last_key_can_be_removed_and_another_added(tmp_path: Path, comment: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(comment, encoding="utf-8")
    one = Key("one", hash_of(SECRET))
    key_file.add(path, one)
    key_file.remove(path, "one")
    assert key_file.read(path) == ()
    key_file.add(path, one)
    assert key_file.read(path) == (one,)
    assert path.read_text(encoding="utf-8").startswith(comment)


@pytest.mark.skipif(sys.platform == "win32", reason="files there have no such modes")
def test_only_its_user_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    key_file.add(path, Key("one", hash_of(SECRET)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_plain_file_has_a_key_a_line(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(f"# ours\n\n{SECRET}\r\n  {SECRET}2\n", encoding="utf-8")
    assert key_file.read(path) == (Key("line-3", hash_of(SECRET)), Key("line-4", hash_of(SECRET + "2")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("short\n", "line 1"),
        ("two words of a key\n", "line 1"),
        (f'[[key]]\nname = "a"\nsha256 = "{SECRET}"\n', "sha256"),
        (f'[[key]]\nsha256 = "{hash_of(SECRET)}"\n', "name"),
        (f'[[key]]\nname = "a"\nsha256 = "{hash_of(SECRET)}"\nconcurrent = 0\n', "concurrent"),
        (f'[[key]]\nname = "a"\nsha256 = "{hash_of(SECRET)}"\nrequests = 3\n', "requests"),
        (f'[[key]]\nname = "a"\nsha256 = "{hash_of(SECRET)}"\n' * 2, "'a' twice"),
        ("[[key]]\nname = ", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        key_file.read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file of keys"):
        key_file.read(tmp_path / "none")


def test_what_cannot_be_added_or_removed(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    key_file.add(path, Key("one", hash_of(SECRET)))
    with pytest.raises(UsageError, match="there is a key called 'one'"):
        key_file.add(path, Key("one", hash_of(SECRET)))
    with pytest.raises(UsageError, match="cannot name a key"):
        key_file.add(path, Key("o ne", hash_of(SECRET)))
    with pytest.raises(NotFound):
        key_file.remove(path, "two")
    path.write_text(SECRET, encoding="utf-8")
    with pytest.raises(UsageError, match="a key a line"):
        key_file.add(path, Key("two", hash_of(SECRET)))


def test_no_two_keys_are_the_same() -> None:
    assert len({key_file.new_key() for _ in range(100)}) == 100
