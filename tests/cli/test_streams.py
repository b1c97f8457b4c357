"""Stdin, stdout and stderr that are closed, full, or whose reader goes away."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from edgeship.cli.streams import MOST_PIPED_BYTES, piped_text
from edgeship.errors import UsageError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes and /dev/full as Linux has them")
# The program with some of its streams closed, as by a shell's `>&-`.
CLOSED = "import os, sys; [os.close(int(n)) for n in sys.argv.pop(1).split()]; os.execv(sys.executable, sys.argv[1:])"


def edgeship(*words: str, closed: Sequence[int] = (), stdout: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeship", *words]
    if closed:
        command = [sys.executable, "-c", CLOSED, " ".join(map(str, closed)), *command]
    with open(stdout or os.devnull, "w", encoding="utf-8") as sink:  # noqa: PTH123 - a device
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["cache", "ls", "--json"], ["doctor"]])
def test_output_that_cannot_be_written_is_exit_7_with_a_message(words: list[str]) -> None:
    for done in (edgeship(*words, stdout="/dev/full"), edgeship(*words, closed=[1])):
        assert done.returncode == 7
        assert done.stderr.startswith("error[not-writable]: stdout cannot be written to: ")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [[0], [2], [0, 2]])
def test_closed_stdin_and_stderr_change_nothing(closed: list[int]) -> None:
    done = edgeship("cache", "location", closed=closed)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("models\n")


def test_an_error_with_nowhere_to_go_keeps_its_exit_code() -> None:
    assert edgeship("nonsense", closed=[2]).returncode == 2


def test_a_reader_that_goes_away_is_no_failure() -> None:
    command = [sys.executable, "-m", "edgeship", "doctor", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xef\xbb\xbfhello\r\n", "hello"),
        ("hello".encode("utf-16"), "hello"),
        (b" a\r\nb \n", " a\nb "),
        (b"", ""),
    ],
)
def test_what_is_piped_in(content: bytes, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert piped_text() == text


def test_what_is_piped_in_and_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    with pytest.raises(UsageError, match="not UTF-8"):
        piped_text()


def test_a_pipe_that_does_not_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(MOST_PIPED_BYTES + 1))))
    with pytest.raises(UsageError, match="more than 64 MiB are piped in"):
        piped_text()
