"""`edgeship config`: what holds, and changing it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeship import settings as settings_module
from edgeship.cli import main
from edgeship.settings import Settings


def test_it_shows_each_setting_with_its_value_and_origin(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config"]) == 0
    shown = capsys.readouterr().out
    assert all(key in shown for key in settings_module.CONFIG_KEYS)
    assert f"config file: {settings.config_file}" in shown
    assert main(["config", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["settings"]
    assert facts["home"] == {"value": str(settings.home), "from": "EDGESHIP_HOME"}


def test_set_and_unset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "set", "threads", "3"]) == 0
    assert settings_module.resolve().threads == 3
    assert main(["config", "unset", "threads"]) == 0
    assert settings_module.resolve().threads is None
    assert "note" not in capsys.readouterr().err
    assert main(["config", "set", "threads", "none"]) == 2
    assert main(["config", "set", "treads", "3"]) == 2
    assert "Settings: home" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("threads", "-1", "from 1 to"), ("memory_bytes", "-5", "a number of bytes"), ("home", "", "path of a folder")],
)
def test_what_cannot_be_a_setting(key: str, value: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "set", key, value]) == 2
    assert said in capsys.readouterr().err
    assert not settings_module.config_file().exists()


def test_it_says_where_the_environment_goes_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGESHIP_CACHE_DIR", str(tmp_path / "there"))
    for command in (["config", "set", "cache_dir"], ["cache", "cd"]):
        assert main([*command, str(tmp_path / "here")]) == 0
        assert "EDGESHIP_CACHE_DIR is set" in capsys.readouterr().err
