from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeship.errors import NotWritable
from edgeship.measure.measurement import Measurement
from edgeship.measure.report.files import write_report
from tests.measure.samples import bare_report, report


def test_the_files(tmp_path: Path) -> None:
    made = report()
    paths = write_report(tmp_path / "new" / "report", made)
    assert sorted(path.name for path in (tmp_path / "new" / "report").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    values = json.loads(paths.json.read_text(encoding="utf-8"))
    assert values["schema_version"] == 1
    assert values["verdict"] == made.choice.verdict()
    for candidate, raw in zip(made.candidates, values["candidates"], strict=True):
        assert (raw["label"], raw["precision"]) == (candidate.label, candidate.precision.value)
        assert Measurement.from_dict(raw["measurement"]) == candidate.measurement
        # The figures can be computed again from the single answers.
        records = raw["measurement"]["evaluation"]["records"]
        assert sum(record["passed"] for record in records) == raw["measurement"]["evaluation"]["passed"]
    write_report(tmp_path / "new" / "report", made)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(NotWritable, match="the report cannot be written") as caught:
        write_report(tmp_path / "file", report())
    assert caught.value.where == str(tmp_path / "file")


def test_a_write_that_fails_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write_report(tmp_path, report())
    before = old.html.read_text(encoding="utf-8")

    def full(path: Path, *_: object, **__: object) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NotWritable, match="No space left on device"):
        write_report(tmp_path, bare_report())
    assert old.html.read_text(encoding="utf-8") == before
    assert len(list(tmp_path.iterdir())) == 3
