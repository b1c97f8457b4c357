"""`edgeship validate` keeps its verdict beside a package in the cache, and says how much of the gate it is of."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeship.cli import main
from edgeship.errors import NotWritable
from edgeship.progress import Progress
from edgeship.settings import Settings
from edgeship.store import listing, packages
from edgeship.store.listing import Entry
from edgeship.validate import checks as all_checks
from edgeship.validate import gate, run
from edgeship.validate.bounds import Bounds
from edgeship.validate.check import Check
from edgeship.validate.gate import Gate
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import CheckName, Finding, Outcome
from tests.packages import make_package


def check(name: CheckName, outcome: Outcome = "pass") -> Check:
    """A check that comes to this, whatever it looks at."""

    def look(_: Subject, __: Bounds, ___: Progress) -> Iterator[Finding]:
        yield Finding("all", outcome, f"It is found that it is {outcome}.")

    return Check(name, f"Is {outcome}", Bounds, look)


Checks = Callable[..., None]


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    """Makes these the checks of the gate."""
    real = run.validate

    def use(*made: Check) -> None:
        monkeypatch.setattr(run, "validate", functools.partial(real, checks=made))
        monkeypatch.setattr(all_checks, "CHECKS", made)

    return use


@pytest.fixture
def installed(tmp_path: Path, settings: Settings) -> Entry:
    return packages.install(make_package(tmp_path / "support").folder, settings.cache_dir)[0]


def kept(settings: Settings) -> str | None:
    return listing.find(settings.cache_dir, "support").gate


def test_the_verdict_is_kept_beside_a_package(installed: Entry, settings: Settings, checks: Checks) -> None:
    expected: dict[Outcome, int] = {"pass": 0, "undecided": 8, "fail": 1}
    for outcome, code in expected.items():
        checks(check("integrity"), check("domain", outcome))
        assert main(["validate", "support"]) == code
        assert kept(settings) == outcome
    checks(check("integrity"), check("domain"))
    assert main(["validate", str(installed.folder), "--long"]) == 0
    found = listing.find(settings.cache_dir, "support").attestation
    assert found is not None
    assert (found.outcome, found.effort, found.in_part) == ("pass", "long", False)


@pytest.mark.usefixtures("installed")
def test_where_nothing_was_checked_that_is_said(
    settings: Settings, checks: Checks, capsys: pytest.CaptureFixture[str]
) -> None:
    checks(check("domain", "skipped"))
    assert main(["validate", "support"]) == 8
    assert "note: nothing was checked, so that nothing is kept beside the package" in capsys.readouterr().err
    assert kept(settings) is None


@pytest.mark.usefixtures("installed")
def test_what_is_only_tried_changes_nothing(settings: Settings, checks: Checks, tmp_path: Path) -> None:
    checks(check("integrity"))
    assert main(["validate", "support"]) == 0
    checks(check("integrity", "fail"))
    assert main(["validate", "support", "--no-keep", "--out", str(tmp_path / "verdict.json")]) == 1
    assert json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))["outcome"] == "fail"
    assert kept(settings) == "pass"


@pytest.mark.usefixtures("installed")
def test_a_part_of_the_gate_does_not_undo_a_failure(
    settings: Settings, checks: Checks, capsys: pytest.CaptureFixture[str]
) -> None:
    checks(check("integrity"), check("domain", "fail"))
    assert main(["validate", "support"]) == 1
    assert "counts as" not in capsys.readouterr().err
    assert main(["validate", "support", "--only", "integrity"]) == 0
    assert kept(settings) == "fail"
    said = capsys.readouterr().err
    assert "note: with what earlier runs said, support:1 counts as fail: domain (default effort, " in said
    checks(check("integrity"), check("domain"))
    assert main(["validate", "support", "--only", "domain"]) == 0
    assert kept(settings) == "pass"
    assert "counts as" not in capsys.readouterr().err


@pytest.mark.usefixtures("installed")
def test_a_part_of_the_gate_is_kept_as_such(
    settings: Settings, tmp_path: Path, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks(check("integrity"), check("domain", "fail"))
    assert main(["validate", "support", "--only", "integrity"]) == 0
    assert kept(settings) == "pass, in part"
    monkeypatch.setattr(gate, "read_gate", lambda *_: Gate(off={"domain": "there are no cases"}))
    assert main(["validate", "support", "--gate", str(tmp_path / "gate.toml")]) == 0
    found = listing.find(settings.cache_dir, "support").attestation
    assert found is not None
    assert (found.in_words(), found.only, found.off) == ("pass, in part", (), {"domain": "there are no cases"})


def test_a_folder_elsewhere_gets_a_file_alone(tmp_path: Path, checks: Checks) -> None:
    folder = make_package(tmp_path / "support" / "v1").folder
    beside = set(folder.parent.iterdir())
    checks(check("integrity"))
    assert main(["validate", str(folder), "--out", str(tmp_path / "verdict.json")]) == 0
    assert json.loads((tmp_path / "verdict.json").read_bytes())["outcome"] == "pass"
    assert set(folder.parent.iterdir()) == beside


def test_where_it_cannot_be_kept_that_is_said(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str], checks: Checks
) -> None:
    settings.cache_dir.mkdir(parents=True)
    make_package(tmp_path / "plain").folder.rename(settings.cache_dir / "plain")
    checks(check("integrity"))
    assert main(["validate", "plain"]) == 0
    assert "the verdict is not kept" in capsys.readouterr().err


@pytest.mark.usefixtures("installed")
def test_a_cache_that_cannot_be_written_costs_no_verdict(
    capsys: pytest.CaptureFixture[str], checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotWritable("the folder cannot be written")

    monkeypatch.setattr(packages, "attest", refuse)
    checks(check("integrity", "fail"))
    assert main(["validate", "support"]) == 1
    assert "is not kept beside the package: the folder cannot be written" in capsys.readouterr().err
