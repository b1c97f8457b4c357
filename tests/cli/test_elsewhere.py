"""Words of Ollama, Foundry Local and Olive."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.cli import main
from edgeship.settings import Settings
from edgeship.store import listing, packages
from tests.packages import make_package


@pytest.fixture
def installed(tmp_path: Path, settings: Settings) -> str:
    make_package(tmp_path / "tiny")
    return packages.install(tmp_path / "tiny", settings.cache_dir)[0].name


@pytest.mark.parametrize("words", [["ls"], ["list"], ["model", "list"], ["cache", "list"]])
def test_listing(words: list[str], installed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert installed in capsys.readouterr().out


@pytest.mark.parametrize("words", [["show"], ["model", "show"]])
def test_showing(words: list[str], installed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, installed]) == 0
    assert f"{installed}:1" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["rm"], ["model", "rm"], ["cache", "remove"]])
def test_removing(words: list[str], installed: str, settings: Settings) -> None:
    assert main([*words, installed]) == 0
    assert listing.entries(settings.cache_dir) == []


def test_run_and_auto_opt_are_the_commands_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nowhere", "hello"]) == 4
    assert main(["auto-opt", "--model_name_or_path", "./nowhere", "--device", "cpu", "--use_ort_genai"]) == 4
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["ps", "pull llama3", "serve --port 1", "create -f Modelfile", "model download x"])
def test_others_point_to_what_to_type(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert "there is no command" in said
    assert "edgeship " in said


def test_none_of_them_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert "auto-opt" not in capsys.readouterr().out
