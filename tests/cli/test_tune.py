"""`tune`: what it says, what it keeps, and what it does where nothing can be measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeship import settings
from edgeship.cli import main
from edgeship.cli.tune import summary, untuned
from edgeship.engine import tune
from edgeship.engine.tune import EXACT, Setting, Trial, Tuning, remember, remembered
from edgeship.errors import NotBatchable
from edgeship.system import machine
from edgeship.system.machine import GIB, Machine
from tests.packages import make_package

MACHINE = Machine(4, 2, 16 * GIB, 8 * GIB, "a CPU", "Linux x86_64")
DEFAULT, EXACTLY = Trial(Setting(2), 0.002, 0.02), Trial(Setting(2, EXACT), 0.001, 0.01)


def tuning(chosen: Trial) -> Tuning:
    return Tuning(
        threads=chosen.setting.threads,
        accuracy_level=chosen.setting.accuracy_level,
        slots=4,
        step_s={1: 0.0101, 17: 0.0505},
        batch_s={1: 0.01, 2: 0.0125, 4: 0.02, 8: 0.04},
        measured_at="2026-11-22T10:00:00Z",
        versions={"onnxruntime": "1.31.0", "edgeship": "0.1.0"},
        cpu="a CPU",
        trials=(DEFAULT, EXACTLY),
    )


@pytest.fixture(autouse=True)
def machine_of_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "_taken_cores", lambda: 0.0)
    monkeypatch.setattr(machine, "this_machine", lambda _limit=None: MACHINE)
    monkeypatch.setattr(machine, "usable_cores", lambda: MACHINE.cores_usable)


@pytest.fixture
def installed(own_home: Path) -> Path:
    """A package in the cache."""
    return make_package(own_home / "models" / "triage" / "v1").folder


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Jobs that were asked, each answered as if float32 were twice as fast."""
    jobs: list[dict[str, Any]] = []

    def answer(_module: str, job: Mapping[str, Any]) -> dict[str, Any]:
        jobs.append(dict(job))
        if job["what"] == "steps":
            return {"run_s": {"1": 0.01}, "batch_s": {"1": 0.01, "2": 0.0125, "4": 0.02, "8": 0.04}, "slots": 4}
        token_s = 0.02 / job["threads"] / (2 if job["accuracy_level"] == EXACT else 1)
        return {"prompt_tokens": 512, "prompt_s": [51.2 * token_s], "step_s": [token_s], "quantized": True}

    monkeypatch.setattr(tune.child, "run", answer)  # type: ignore[attr-defined]
    return jobs


@pytest.mark.usefixtures("measured")
def test_what_is_fastest_is_said_and_kept(installed: Path, own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "triage"]) == 0
    shown = capsys.readouterr()
    assert "used from now on: 2 threads, float32 activations, 4 answers at once\n" in shown.out
    assert "one answer: 2.00 times as fast as by default; 4 answers at once: 2.0 times" in shown.out
    assert "measuring one answer, 2 threads" in shown.err
    kept = remembered(own_home, installed)
    assert kept is not None
    assert (kept.threads, kept.accuracy_level, kept.slots) == (2, EXACT, 4)


@pytest.mark.usefixtures("measured")
def test_the_table_marks_the_default_and_the_choice(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(installed)]) == 0  # a folder is as good as a name
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["2", "the", "package's", "1000.0", "100.0", "1.15", "s", "default"] in rows
    assert ["2", "float32", "2000.0", "200.0", "0.58", "s", "chosen"] in rows
    assert ["4", "200.0", "50.0"] in rows


@pytest.mark.usefixtures("measured")
def test_json(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "triage:1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["package"], found["threads"], found["accuracy_level"], found["slots"]) == ("triage:1", 2, EXACT, 4)
    assert found["speedup"] == pytest.approx(2)
    assert Path(found["file"]).is_file()
    assert found["trials"][0] == {
        "threads": 2,
        "accuracy_level": None,
        "prefill_tokens_per_s": pytest.approx(1000),
        "decode_tokens_per_s": pytest.approx(100),
        "answer_s": pytest.approx(1.152),
    }
    assert not Path(found["file"]).is_relative_to(installed)


def test_a_default_that_stays() -> None:
    assert "one answer: as by default; 4 answers at once" in summary(tuning(DEFAULT))
    assert "2 threads, the package's activations" in summary(tuning(DEFAULT))


@pytest.mark.usefixtures("measured", "installed")
def test_threads_of_the_settings_win_and_tune_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "triage"]) == 0
    assert "your settings" not in capsys.readouterr().err
    monkeypatch.setenv("EDGESHIP_THREADS", "1")
    assert main(["tune", "triage"]) == 0
    assert "threads is set to 1 in your settings" in capsys.readouterr().err


@pytest.mark.usefixtures("measured", "installed")
def test_a_busy_machine_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for taken, said in ((0.05, False), (0.4, True)):
        monkeypatch.setattr(tune, "_taken_cores", lambda taken=taken: taken)
        assert main(["tune", "triage"]) == 0
        shown = capsys.readouterr()
        assert ("other programs used 40% of the cores" in shown.err) == said
        assert ("one answer: as by default" in shown.out) == said


@pytest.mark.usefixtures("installed")
def test_a_package_that_cannot_be_batched_is_exit_5_and_nothing_is_kept(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_module: str, _job: Mapping[str, Any]) -> dict[str, Any]:
        raise NotBatchable("its graph attends by Attention")

    monkeypatch.setattr(tune.child, "run", refuse)  # type: ignore[attr-defined]
    assert main(["tune", "triage"]) == 5
    assert "error[not-batchable]: there is nothing to tune: its graph attends" in capsys.readouterr().err
    assert not (own_home / "tuning").exists()


def test_a_name_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "nothing"]) == 4
    assert "error[package-not-found]" in capsys.readouterr().err


def test_which_packages_are_not_measured(installed: Path, own_home: Path) -> None:
    other = make_package(own_home / "models" / "other" / "v2", weights=b"o" * 99).folder
    (own_home / "models" / "broken" / "v1").mkdir(parents=True)
    current = settings.resolve()
    assert untuned(current) == ["other:2", "triage:1"]
    remember(own_home, installed, tuning(DEFAULT))
    assert untuned(current) == ["other:2"]
    remember(own_home, other, tuning(EXACTLY))
    assert untuned(current) == []
