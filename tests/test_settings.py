"""Settings: who wins, and values that cannot be read."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.errors import NotWritable, UsageError
from edgeship.settings import (
    Settings,
    config_file,
    described,
    parse_bytes,
    parse_seconds,
    read_config,
    resolve,
    write_config,
)


def test_defaults_lie_under_the_home(own_home: Path) -> None:
    found = resolve()
    assert (found.home, found.cache_dir) == (own_home, own_home / "models")
    assert (found.builds_dir, found.reports_dir) == (own_home / "builds", own_home / "reports")
    assert (found.threads, found.memory_bytes) == (None, None)


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.config_file.write_text(
        f"cache_dir = '{tmp_path / 'file'}'\nthreads = 2\nmemory_bytes = 1000\n", encoding="utf-8"
    )
    assert (resolve().cache_dir, resolve().threads, resolve().memory_bytes) == (tmp_path / "file", 2, 1000)
    monkeypatch.setenv("EDGESHIP_CACHE_DIR", str(tmp_path / "environment"))
    monkeypatch.setenv("EDGESHIP_THREADS", "3")
    monkeypatch.setenv("EDGESHIP_MEMORY_BYTES", "2GB")
    found = resolve()
    assert (found.cache_dir, found.threads, found.memory_bytes) == (tmp_path / "environment", 3, 2 * 10**9)
    flags = resolve(cache_dir=tmp_path / "flag", threads=4, memory="1KiB")
    assert (flags.cache_dir, flags.threads, flags.memory_bytes) == (tmp_path / "flag", 4, 1024)


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(cache_dir=Path("models")).cache_dir == tmp_path / "models"


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("EDGESHIP_THREADS", "many", "'many'; it must be a whole number from 1 to 1024"),
        ("EDGESHIP_THREADS", "0", "'0'; it must be a whole number"),
        ("EDGESHIP_THREADS", "1.5", "'1.5'; it must be a whole number"),
        ("EDGESHIP_THREADS", "20000", "'20000'; it must be a whole number"),
        ("EDGESHIP_THREADS", "9" * 5000, "; it must be a whole number"),
        ("EDGESHIP_MEMORY_BYTES", "lots", "'lots'; it must be a number of bytes, like 8GB"),
        ("EDGESHIP_BUILDS_LIMIT", "-1", "'-1'; it must be a number of bytes, like 8GB"),
        ("EDGESHIP_FOUNDRY_APP", "a b", "'a b'; it must be letters, digits"),
        ("EDGESHIP_HOME", "~nobody-here/x", "'~nobody-here/x'; it must be the path of a folder"),
        ("EDGESHIP_CACHE_DIR", " ", "' '; it must be the path of a folder"),
        ("EDGESHIP_FOUNDRY_CACHE_DIR", "~nobody-here", "it must be the path of a folder"),
        ("EDGESHIP_CONFIG", "~nobody-here/x", "it must be the path of a file"),
    ],
)
def test_a_bad_value_is_told_with_its_variable(
    key: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key == "EDGESHIP_HOME":
        monkeypatch.delenv("EDGESHIP_CONFIG")
    monkeypatch.setenv(key, value)
    with pytest.raises(UsageError, match=f"^{key} is ") as caught:
        resolve()
    assert named in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize("below", ["", "inside", "n" * 300])
@pytest.mark.parametrize("key", ["EDGESHIP_HOME", "EDGESHIP_CACHE_DIR", "EDGESHIP_FOUNDRY_CACHE_DIR"])
def test_where_no_folder_can_be_is_told_with_its_variable(
    key: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    stated = str(tmp_path / below if len(below) > 100 else tmp_path / "file" / below)
    monkeypatch.setenv(key, stated)
    with pytest.raises(UsageError, match=f"^{key} is .*; it must be the path of a folder"):
        resolve()


@pytest.mark.parametrize(
    ("flag", "named"),
    [({"threads": 0}, "--threads is 0"), ({"memory": "1XB"}, "--memory is '1XB'"), ({"foundry_app": ".."}, "--app")],
)
def test_a_bad_value_is_told_with_its_option(flag: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        resolve(**flag)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1000", 1000),
        ("8GB", 8 * 10**9),
        ("512 MiB", 512 * 2**20),
        ("1.5g", 1_500_000_000),
        (" 2kib ", 2048),
        ("7b", 7),
    ],
)
def test_amounts_of_memory(text: str, value: int) -> None:
    assert parse_bytes(text, "it") == value


@pytest.mark.parametrize("text", ["", "GB", "-1", "0", "0.4", "8 T B", "8GBB", "inf", "nan", "1e300", "8 i", "9e18GB"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--kv-memory is .*; it must be a number of bytes"):
        parse_bytes(text, "--kv-memory")


@given(st.integers(1, 10**9), st.sampled_from(["", "kb", "MB", "GiB", "KiB", "g", " mib"]))
def test_whole_amounts_are_exact(number: int, unit: str) -> None:
    factor = parse_bytes(f"1{unit}", "it")
    assert parse_bytes(f"{number}{unit}", "it") == number * factor


@given(st.text(max_size=12))
def test_any_text_is_an_amount_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_bytes(text, "it") > 0


def test_writing_a_key_keeps_the_others(settings: Settings, tmp_path: Path) -> None:
    folder = str(tmp_path / 'with "quotes" and ü')
    write_config(settings.config_file, "threads", "2")
    write_config(settings.config_file, "cache_dir", folder)
    assert read_config(settings.config_file) == {"threads": "2", "cache_dir": folder}
    assert [path.name for path in settings.config_file.parent.iterdir()] == ["config.toml"]
    write_config(settings.config_file, "cache_dir", None)
    write_config(settings.config_file, "cache_dir", None)
    assert read_config(settings.config_file) == {"threads": "2"}


def test_a_folder_is_written_absolute(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(settings.config_file, "cache_dir", "models")
    assert read_config(settings.config_file) == {"cache_dir": str(tmp_path / "models")}


def test_settings_belong_to_their_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGESHIP_CONFIG")
    monkeypatch.setenv("EDGESHIP_HOME", str(tmp_path / "one"))
    write_config(config_file(), "cache_dir", str(tmp_path / "shelf"))
    assert resolve().cache_dir == tmp_path / "shelf"
    monkeypatch.setenv("EDGESHIP_HOME", str(tmp_path / "two"))
    assert resolve().cache_dir == tmp_path / "two" / "models"
    monkeypatch.setenv("EDGESHIP_HOME", str(tmp_path / "one"))
    assert resolve().cache_dir == tmp_path / "shelf"


def test_where_each_setting_comes_from(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESHIP_THREADS", "3")
    settings.config_file.write_text("threads = 2\nbuilds_limit = '1GB'\n", encoding="utf-8")
    found = {key: (value, origin) for key, value, origin in described(resolve())}
    assert found["threads"] == (3, "EDGESHIP_THREADS")
    assert found["builds_limit"] == (10**9, "config file")
    assert found["memory_bytes"] == (None, "default")


def test_the_limit_of_builds(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.builds_limit_bytes == 20 * 10**9
    settings.config_file.write_text("builds_limit = '5GB'\n", encoding="utf-8")
    assert resolve().builds_limit_bytes == 5 * 10**9
    monkeypatch.setenv("EDGESHIP_BUILDS_LIMIT", "1MiB")
    assert resolve().builds_limit_bytes == 2**20


def test_writing_a_key_keeps_comments_and_order(settings: Settings) -> None:
    content = "# ours\nthreads = 2  # of four\n\nfoundry_app = 'old' # where\nhome = '/x'\n"
    settings.config_file.write_text(content, encoding="utf-8")
    write_config(settings.config_file, "foundry_app", "new")
    assert settings.config_file.read_text(encoding="utf-8") == content.replace("'old'", '"new"')


def test_a_config_file_may_begin_with_a_byte_order_mark(settings: Settings) -> None:
    """As PowerShell and Notepad write it."""
    settings.config_file.write_text('home = "there"\n', encoding="utf-8-sig")
    assert read_config(settings.config_file) == {"home": "there"}


def test_a_config_file_that_is_no_toml_is_named(settings: Settings) -> None:
    settings.config_file.write_text("threads = ", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be read") as caught:
        resolve()
    assert caught.value.where == str(settings.config_file)


def test_unknown_keys_are_named(settings: Settings) -> None:
    settings.config_file.write_text("treads = 2", encoding="utf-8")
    with pytest.raises(UsageError, match="treads"):
        resolve()


def test_a_config_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises((NotWritable, UsageError), match=r"cannot be (written|read)"):
        write_config(tmp_path / "file" / "config.toml", "home", "/x")


@pytest.mark.parametrize("text", ["", "-5m", "soon"])
def test_what_no_timeout_can_be(text: str) -> None:
    with pytest.raises(UsageError, match=r"--idle-timeout is '.*'; it must be seconds, or a duration like 90s"):
        parse_seconds(text, "--idle-timeout")
    assert parse_seconds("5m", "--idle-timeout") == 300


@pytest.mark.parametrize(("key", "value"), [("treads", "2"), ("threads", "0"), ("memory_bytes", "lots")])
def test_what_is_no_setting_is_not_written(key: str, value: str, settings: Settings) -> None:
    with pytest.raises(UsageError):
        write_config(settings.config_file, key, value)
    assert not settings.config_file.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("threads = " + "[" * 5000, "its values nest too deeply"),
        ("threads = " + "9" * 5000, "Exceeds the limit"),
        ("threads = [1]", r"threads in the config file is \[1\]; it must be a whole number from 1 to 1024"),
        ("threads = true", "threads in the config file is True; it must be a whole number"),
        ("cache_dir = 5", "cache_dir in the config file is 5; it must be the path of a folder"),
        ("memory_bytes = []", r"memory_bytes in the config file is \[\]; it must be a number of bytes"),
        ('cache_dir = "~nobody-here/x"', "cache_dir in the config file is .*; it must be the path of a folder"),
        ('cache_dir = "a\\u0000b"', "cache_dir in the config file is .*; it must be the path of a folder"),
        (f"{'x' * 5000} = 1", r"unknown keys: 'x+\.\.\.x+'"),
        ("a" * 70_000, "it is larger than 64 KiB"),
        (".".join("a" * 5_000) + " = 1", "unknown keys: 'a'"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_told(settings: Settings, text: str, said: str) -> None:
    settings.config_file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        resolve()
