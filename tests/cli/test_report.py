"""`report`: one page from documents, or the reason why there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeship.cli import main
from edgeship.measure.report.files import write_report
from tests.measure.report.page import samples
from tests.measure.samples import report


def document(folder: Path, name: str, **changes: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(samples.bench() | changes), encoding="utf-8")
    return path


def test_documents_of_several_kinds_make_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = write_report(tmp_path / "triage", report()).json.parent
    page = tmp_path / "page.html"
    files = [document(tmp_path, "monday.json"), document(tmp_path, "tuesday.json", created="2026-11-28"), shipped]
    assert main(["report", *map(str, files), "--out", str(page)]) == 0
    assert capsys.readouterr().out == f"report: {page}\n"
    html = page.read_text(encoding="utf-8")
    assert all(one in html for one in ("3 measurements", "monday", "tuesday", "Load over time", "INT8, the smallest"))


def test_the_page_lies_in_the_working_folder_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    document(tmp_path, "monday.json")
    assert main(["report", "monday.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "report": "report.html",
        "documents": [{"file": "monday.json", "kind": "bench", "created": "2026-11-27T10:00:00Z"}],
    }
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "run.json is damaged: line 1, column 1"),
        ("[]", "run.json holds no JSON object"),
        ("{}", 'run.json is no measurement that can be shown: it has no "schema", and known are edgeship/bench/1'),
        ('{"schema": 3}', "it says of itself that it is 3"),
        ('{"schema": "edgeship/song/1"}', "it says of itself that it is 'edgeship/song/1'"),
        ('{"error": {"code": "usage"}}', "it holds the error of a command that failed"),
        (
            '{"schema": "edgeship/eval/99"}',
            "is of version 99 of its kind (eval), and this Edgeship reads up to 1",
        ),
        ('{"schema_version": 2, "candidates": []}', "is of version 2 of its kind (ship)"),
        ('{"schema": "edgeship/bench/1", "levels": 3}', "run.json has levels 3, which is not a list"),
    ],
)
def test_what_cannot_be_shown_is_told(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    path.write_text(content, encoding="utf-8")
    assert main(["report", str(path), "--out", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error[document-invalid]: ")
    assert said in error
    assert str(path) in error
    assert "try:" in error
    assert not (tmp_path / "page.html").exists()


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none.json")]) == 2
    assert "none.json cannot be read" in capsys.readouterr().err


def test_a_page_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(document(tmp_path, "run.json"))
    assert main(["report", path, "--out", str(tmp_path)]) == 2
    assert "that is a folder, and a file is to be written" in capsys.readouterr().err
    assert main(["report", path, "--out", str(tmp_path / "run.json" / "page.html")]) == 7
    assert "error[not-writable]: the folder cannot be written" in capsys.readouterr().err
