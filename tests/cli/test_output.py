"""Progress as lines and on a terminal: new steps are said at once, counting on is not."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeship.cli import output
from edgeship.errors import UsageError
from edgeship.system import storage
from edgeship.system.storage import megabytes

BUILD = [
    ("build int4: stream: to ONNX in INT4, blocks of 128", None),
    ("build int4: convert: 120 of 260 MB, 3 s left", 0.46),
    ("build int4: convert: 200 of 260 MB, 2 s left", 0.77),
    ("build int4: convert: 260 of 260 MB, 0 s left", 1.0),
    ("build int8: convert: 1 of 520 MB, 65 s left", 0.0),
    ("measure triage-2b: loading", None),
    ("measure triage-4b: loading", None),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(3_456_789, "3.46 MB"), (34_567_890, "34.6 MB"), (345_678_900, "346 MB"), (3_456_789_000, "3,457 MB")],
)
def test_megabytes(size_bytes: int, text: str) -> None:
    assert megabytes(size_bytes) == text


def told(messages: Sequence[tuple[str, float | None]], stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with output.telling() as progress:
        for message, fraction in messages:
            progress(message, fraction)
    return stream.getvalue()


def test_lines_are_for_new_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(BUILD, io.StringIO(), monkeypatch).splitlines()
    assert [line.partition("] ")[2] for line in lines] == [BUILD[index][0] for index in (0, 1, 4, 5, 6)]


def test_a_long_step_is_heard_of_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 5.0, 12.0, 13.0, 23.0])
    monkeypatch.setattr("edgeship.cli.output.time.monotonic", lambda: next(clock))
    counting = [(f"convert: {count} of 9 MB", None) for count in range(5)]
    lines = told(counting, io.StringIO(), monkeypatch).splitlines()
    assert lines == ["[   1.0 s] convert: 0 of 9 MB", "[  12.0 s] convert: 2 of 9 MB", "[  23.0 s] convert: 4 of 9 MB"]


def test_a_terminal_keeps_a_line_of_each_step_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    shown = told(BUILD, Terminal(), monkeypatch)
    # What was counted is kept as it ended, and without the time that was left.
    assert "  build int4: convert: 260 of 260 MB\x1b" in shown
    assert "  build int4: convert: 200" not in shown


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with output.telling(quiet=True) as progress:
        progress("anything", 0.5)
    assert capsys.readouterr().err == ""


STEERS = "a\x1b[2Jb\u202ec"


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_what_strangers_wrote_steers_no_terminal_nor_a_log(
    on_a_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out, err = (Terminal() if on_a_terminal else io.StringIO() for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    output.print_pairs([("licence", STEERS)])
    output.print_facts({}, STEERS, as_json=False)
    output.print_table(["name"], [[STEERS]])
    output.note(STEERS)
    with output.telling() as progress:
        progress(STEERS, None)
    shown = out.getvalue() + err.getvalue()
    assert shown.count(r"a\u001b[2Jb\u202ec") >= 4
    assert "\u202e" not in shown


def printed(columns: int, header: list[str], rows: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    out = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", out)
    output.print_table(header, rows)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    return [" ".join(line.split()) for line in shown.splitlines() if line.strip()]


def test_a_table_too_wide_for_a_terminal_stands_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    header = ["LOAD", *(f"FIGURE NUMBER {number}" for number in range(6))]
    rows = [["concurrency 1", *("123.4567 ms",) * 6]]
    shown = printed(60, header, rows, monkeypatch)
    assert [line for line in shown if line.startswith("LOAD")] == [
        "LOAD FIGURE NUMBER 0 FIGURE NUMBER 1",
        "LOAD FIGURE NUMBER 2 FIGURE NUMBER 3",
        "LOAD FIGURE NUMBER 4 FIGURE NUMBER 5",
    ]
    assert shown.count("concurrency 1 123.4567 ms 123.4567 ms") == 3
    assert len([line for line in printed(160, header, rows, monkeypatch) if line.startswith("LOAD")]) == 1


def test_long_texts_of_a_table_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = printed(60, ["STATUS", "FOUND"], [["ok", "word " * 40]], monkeypatch)
    assert " ".join(shown).count("word") == 40
    assert shown[0] == "STATUS FOUND"


def test_a_folded_table_keeps_its_rows_together(monkeypatch: pytest.MonkeyPatch) -> None:
    header = ["CHECK", "WHAT IT SAYS", "FINDING", "FIGURE", "BOUND", "TIME"]
    rows = [
        ["integrity", "Is whole, and what it says of itself is true", "unmade-tokens", "0", "0", "120.5 s"],
        ["performance", "1 of 3 fails: 長い名前", "slices-beside-original", "51,200 bytes", "10,000 bytes", "600.1 s"],
    ]
    out = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "64")
    monkeypatch.setattr(sys, "stdout", out)
    output.print_folded(header, rows, whole=("CHECK", "TIME"))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert max(map(len, lines)) <= 64
    begun = [line for line in lines if line.startswith(("integrity", "performance"))]
    assert [line.rstrip().rpartition("  ")[2].rpartition(" s")[0][-5:] for line in begun] == ["120.5", "600.1"]
    shown = " ".join(lines).split()
    assert {"51,200", "10,000", "slices-", "beside-", "original", "integrity", "itself"} <= set(shown)


def test_nothing_of_a_table_is_lost_on_the_narrowest_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "".join(printed(20, ["A", "B"], [["a" * 24, "b" * 24]], monkeypatch)[2:]).count("b") == 24


def test_numbers_with_a_sign_are_aligned_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    output.print_table(["", "CHANGE IN ALL"], [["a", "+1.00"], ["b", "-10.00"]])
    assert "    +1.00" in out.getvalue()


def test_no_output_is_written_over_what_is_read_or_where_another_goes(tmp_path: Path) -> None:
    package, read, new = tmp_path / "package", tmp_path / "eval.jsonl", tmp_path / "new.json"
    package.mkdir()
    (package / "genai_config.json").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").touch()
    read.touch()
    reads: list[str | Path | None] = [
        read,
        str(tmp_path / "folder"),
        "http://127.0.0.1:1",
        "{" + '"a": 1, ' * 90 + "}",
        None,
    ]
    for paths, said in (
        ((tmp_path,), "that is a folder"),
        ((package / "genai_config.json",), "lies in a package"),
        ((package / "deeper" / "new.json",), "lies in a package"),
        ((read,), "the command reads that file"),
        ((tmp_path / "folder" / "config.json",), "the command reads that file"),
        ((new, None, tmp_path / "folder" / ".." / "new.json"), "two outputs"),
    ):
        with pytest.raises(UsageError, match=said):
            output.require_places(*paths, reads=reads)
    output.require_places(new, tmp_path / "folder" / "other.json", reads=reads)
    assert not new.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights on Windows")
def test_links_are_followed_to_what_they_name(tmp_path: Path) -> None:
    read, link, round_about = tmp_path / "eval.jsonl", tmp_path / "link", tmp_path / "round"
    read.write_text("what stood there", encoding="utf-8")
    link.symlink_to(read)
    round_about.symlink_to(round_about)
    for path in (link, round_about):
        with pytest.raises(UsageError):
            output.require_places(path, reads=[read])
    output.require_places(link)
    storage.write_named(link, "new")
    assert link.is_symlink()
    assert read.read_text(encoding="utf-8") == "new"


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("a pipe with a name is POSIX's")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        output.require_places(pipe)
        storage.write_named(pipe, "said")
        assert os.read(reader, 100) == b"said"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_the_file_that_stdout_leads_to_is_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "printed").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(UsageError, match="stdout leads to that file"):
            output.require_places(tmp_path / "printed")
