from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeship.errors import DocumentInvalid
from edgeship.measure import document
from edgeship.measure.report.files import write_report
from edgeship.version import __version__
from tests.measure.samples import report


def test_a_document_says_what_it_is_by_which_version_when_and_where() -> None:
    head = document.head("bench", memory_limit_bytes=1 << 30)

    assert head["schema"] == "edgeship/bench/1"
    assert head["edgeship"] == __version__
    assert head["created"].endswith("Z")
    assert head["machine"]["memory_total_bytes"] <= 1 << 30


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "monday.json"
    path.write_text(json.dumps({**document.head("bench"), "levels": []}), encoding="utf-8")
    found = document.read(path)
    assert (found.kind, found.name, found.path) == ("bench", "monday", path)
    assert found.created.endswith("Z")
    assert found.fields.text("edgeship") == __version__


@pytest.mark.parametrize("named", ["", "report.json"])
def test_a_report_of_ship_may_be_named_by_its_folder(named: str, tmp_path: Path) -> None:
    folder = write_report(tmp_path / "monday", report()).json.parent
    found = document.read(folder / named)
    assert (found.kind, found.name) == (document.SHIP, "monday")


def test_a_user_may_name_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "run.json").write_text(json.dumps(document.head("eval")), encoding="utf-8")
    (tmp_path / "link.json").symlink_to(tmp_path / "there" / "run.json")
    assert document.read(tmp_path / "link.json").kind == "eval"


def test_what_is_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"schema": f"edgeship/eval/{document.VERSION + 1}"}), encoding="utf-8")
    with pytest.raises(DocumentInvalid, match="reads up to 1") as caught:
        document.read(path)
    assert caught.value.hint is not None
    assert "a later one" in caught.value.hint


def test_a_version_that_is_no_number_of_any_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"schema": f"edgeship/eval/{'9' * 5000}"}), encoding="utf-8")
    with pytest.raises(DocumentInvalid, match="no measurement that can be shown"):
        document.read(path)
