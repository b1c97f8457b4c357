"""The command line as a whole: exit codes, errors as text and JSON, the version, a reader that goes away."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgeship import __version__, doctor
from edgeship.cli import main
from edgeship.errors import DependencyMissing, EdgeshipError, MemoryShort, all_errors
from edgeship.system import child


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeship", *arguments], capture_output=True, text=True, encoding="utf-8", check=False
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgeship {__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("doctor", "inspect", "build", "ship", "tune", "cache", "model"))


@pytest.mark.parametrize("arguments", [["ship"], ["nonsense"], ["cache", "ls", "--nonsense"], ["build", "-p", "int3"]])
def test_wrong_usage_is_exit_2_with_a_hint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error[usage]: ")
    assert "--help`" in shown


@pytest.mark.parametrize("how", ["option", "environment"])
def test_what_is_done_is_logged_where_asked(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def examine(*_: object, **__: object) -> doctor.Examination:
        logging.getLogger("edgeship.test").info("looked")
        raise MemoryShort("enough seen")

    monkeypatch.setattr("edgeship.doctor.examine", examine)
    main(["doctor"])
    assert "looked" not in capsys.readouterr().err
    if how == "environment":
        monkeypatch.setenv("EDGESHIP_LOG_LEVEL", "info")
    main([*(["--log-level", "info"] if how == "option" else []), "doctor"])
    assert re.search(r"^\d{4}-\d\d-\d\d \S+ INFO edgeship\.test: looked$", capsys.readouterr().err, re.MULTILINE)


def test_an_option_without_a_command_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log-level", "info"]) == 2
    assert "Missing command" in capsys.readouterr().err


def test_no_command_shows_help_and_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "ship" in "".join(capsys.readouterr())


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.code)
def test_every_error_ends_with_its_exit_code_and_says_what_where_and_what_to_try(
    error: type[EdgeshipError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error("it broke", where="in the middle", hint="mend it")

    monkeypatch.setattr("edgeship.doctor.examine", fail)
    assert main(["doctor"]) == error.exit_code
    assert capsys.readouterr().err.splitlines() == [
        f"error[{error.code}]: it broke",
        "  where: in the middle",
        "  try:   mend it",
    ]
    assert main(["doctor", "--json"]) == error.exit_code
    assert json.loads(capsys.readouterr().out) == {
        "error": {
            "code": error.code,
            "exit_code": error.exit_code,
            "what": "it broke",
            "where": "in the middle",
            "hint": "mend it",
        }
    }


def test_a_fault_of_ours_is_exit_3_and_leaves_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("edgeship.doctor.examine", fail)
    assert main(["doctor", "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["what"]) == ("internal", "a fault in Edgeship itself: ZeroDivisionError: a bug")
    log = Path(error["where"])
    assert "ZeroDivisionError" in log.read_text(encoding="utf-8")
    assert __version__ in log.read_text(encoding="utf-8")
    assert log.is_relative_to(os.environ["EDGESHIP_HOME"])
    assert "may hold names and values from your files" in error["hint"]


def test_a_panic_of_a_library_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Panic(BaseException):
        """As a library written in Rust raises it."""

    def fail(*_: object, **__: object) -> None:
        raise Panic("it broke")

    monkeypatch.setattr("edgeship.doctor.examine", fail)
    assert main(["doctor"]) == 3
    assert "error[internal]: a fault in Edgeship itself: Panic: it broke" in capsys.readouterr().err


def test_a_fault_whose_log_cannot_be_written_is_told_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise ZeroDivisionError("a bug" * 1000)

    (tmp_path / "failures").touch()
    monkeypatch.setenv("EDGESHIP_HOME", str(tmp_path))
    monkeypatch.setattr("edgeship.doctor.examine", fail)
    assert main(["doctor"]) == 3
    said = capsys.readouterr().err
    assert "Traceback" in said.partition("error[internal]")[0]
    assert "ZeroDivisionError: " + "a bug" * 1000 in said
    assert "could not be kept in a file" in said


def test_a_fault_of_ours_in_a_child_is_exit_3_and_its_traceback_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgeship.doctor.examine", lambda *_, **__: child.run("tests.workers.echo", {"do": "crash"}))
    assert main(["doctor"]) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "error[internal]: a fault in Edgeship itself: ChildFault: ValueError: a bug"
    log = Path(said[1].removeprefix("  where: "))
    assert 'raise ValueError("a bug")' in log.read_text(encoding="utf-8")


def test_memory_that_runs_out_is_no_fault_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise MemoryError("20 GB")

    monkeypatch.setattr("edgeship.doctor.examine", fail)
    assert main(["doctor"]) == 7
    assert capsys.readouterr().err.startswith("error[memory-short]: memory ran out: 20 GB")


def test_ctrl_c_is_exit_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeship.doctor.examine", interrupted)
    assert main(["doctor"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_ctrl_c_inside_a_native_module_is_exit_130_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As pybind11 tells of one that came while it initialised."""

    def interrupted(*_: object, **__: object) -> int:
        try:
            raise ImportError("initialization failed") from KeyboardInterrupt()
        except ImportError as error:
            raise DependencyMissing("it cannot be imported") from error

    monkeypatch.setattr("edgeship.doctor.examine", interrupted)
    assert main(["doctor"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_codes_are_unique() -> None:
    codes = [error.code for error in all_errors()]
    assert len(codes) == len(set(codes))


def test_the_module_is_the_program() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"edgeship {__version__}\n")
