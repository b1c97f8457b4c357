"""What people take for a package, and what to type instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.cli import main
from edgeship.package.kinds import what_else
from edgeship.settings import Settings
from edgeship.store import packages
from edgeship.targets import resolve
from tests.packages import make_package


def shown_by(hint: str, settings: Settings) -> Path:
    """The folder of the package that the command in a hint runs."""
    words = hint.split("`")[1].split()
    words = words[words.index("run") + 1 :]
    assert main(["model", "info", *words]) == 0
    return resolve(words[0], settings).package_folder()


def test_a_folder_of_packages_names_them_and_one_to_run(tmp_path: Path, settings: Settings) -> None:
    for name in ("a", "b"):
        make_package(tmp_path / "models" / name)
    what, hint = what_else(tmp_path / "models") or ("", "")
    assert what == "it holds packages: a, b"
    assert shown_by(hint, settings) == tmp_path / "models" / "b"


@pytest.mark.parametrize("inside", ["", "tiny", ".."])
def test_a_cache_and_what_is_around_it(inside: str, tmp_path: Path, settings: Settings) -> None:
    make_package(tmp_path / "tiny")
    installed, _ = packages.install(tmp_path / "tiny", settings.cache_dir)
    what, hint = what_else((settings.cache_dir / inside).resolve()) or ("", "")
    assert what.startswith("it holds packages: ")
    assert shown_by(hint, settings) == installed.folder


def test_a_report_leads_to_what_was_installed(tmp_path: Path) -> None:
    for name in ("report.json", "report.html"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    what, hint = what_else(tmp_path) or ("", "")
    assert "report of" in what
    assert "model ls`" in hint


@pytest.mark.parametrize(("file", "command"), [("config.json", "build"), ("adapter_config.json", "--adapter")])
def test_a_training_run_leads_to_a_package_of_its_latest(file: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / file).write_text("{}", encoding="utf-8")
    what, hint = what_else(tmp_path) or ("", "")
    assert "training run" in what
    assert f"{command} {tmp_path}`" in hint
