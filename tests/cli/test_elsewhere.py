"""Words of Ollama, Foundry Local and Olive."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from edgeship.cli import elsewhere, main
from edgeship.cli.app import app
from edgeship.settings import Settings
from edgeship.store import listing, packages
from edgeship.version import __version__
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


@pytest.mark.parametrize(
    "words",
    [
        *(
            "model ps",
            "pull llama3",
            "server --port 1",
            "foundry stop x",
            "create -f Modelfile",
            "model download x",
            "cache install x",
        ),
        *(
            "install x",
            "evaluate x --tasks y",
            "benchmark",
            "login",
            "search llama",
            "convert --help",
            "foundry pull x",
        ),
        *("foundry install x", "config list", "cp a b", "prune -f", "model unload x", "foundry service status"),
        *("register x", "model build x", "cache tune x", "config doctor", "foundry verify x", "model cd x"),
    ],
)
def test_others_point_to_what_to_type(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert "there is no command" in said
    assert "edgeship " in said or "hf auth login" in said


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("--max-model-len 5", "--context"),
        ("-c 5", "--context"),
        ("--ctx-size 5", "--context"),
        ("-m a.gguf", "edgeship serve NAME"),
        ("--model a", "edgeship serve NAME"),
        ("-np 4", "--slots"),
        ("--n-gpu-layers 99", "--memory"),
        ("--gpu-memory-utilization 0.9", "--memory"),
        ("--served-model-name a", "--alias"),
    ],
)
def test_options_of_other_servers_point_to_ours(words: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *words.split()]) == 2
    said = capsys.readouterr().err
    assert option in said
    assert "serve --help`" in said


def test_options_that_servers_are_pointed_to_are_there() -> None:
    root: Any = typer.main.get_command(app)
    options = {name for option in root.commands["serve"].params for name in option.opts}
    others = {"--precision", "--file"}  # of `edgeship build` and `edgeship key add`
    typed = {found for hint in elsewhere._OF_SERVE.values() for found in re.findall(r"`[^`]*?(--[a-z-]+)", hint)}
    assert typed
    assert typed <= options | others
    assert not elsewhere._OF_SERVE.keys() & options


def test_every_pointer_leads_to_a_command_that_there_is() -> None:
    root: Any = typer.main.get_command(app)
    hints = {**elsewhere._POINTERS, **elsewhere._OF_CONFIG, **elsewhere._OF_FOUNDRY}.values()
    typed = [found for hint in hints for found in re.findall(r"`edgeship ([^`]+)`", hint)]
    assert typed
    for command in typed:
        found = root
        for word in (word for word in command.split() if word.islower() and word not in ("--log-level", "info")):
            if word.startswith("--"):
                assert any(word in option.opts for option in found.params), command
            elif hasattr(found, "commands"):
                found = found.commands[word]
                assert not found.hidden, command


def test_help_and_version_are_words_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    assert "model" in capsys.readouterr().out
    assert main(["help", "cache", "rm"]) == 0
    assert "Remove a package" in capsys.readouterr().out
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"edgeship {__version__}\n"


def test_none_of_them_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert "auto-opt" not in capsys.readouterr().out
