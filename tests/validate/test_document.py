from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from edgeship.measure import document
from edgeship.system.json_file import as_text, write_object
from edgeship.validate.document import verdict_document
from edgeship.validate.verdict import CheckResult, Evidence, Finding, Verdict
from tests.validate.samples import verdict


def test_all_of_it_can_be_read_again(tmp_path: Path) -> None:
    made = verdict_document(verdict(), {"leaks": "every night"})
    write_object(tmp_path / "verdict.json", made)
    read = document.read(tmp_path / "verdict.json")
    assert (read.kind, read.fields.values) == ("verdict", made)
    assert (made["outcome"], made["complete"], made["off"]) == ("fail", True, {"leaks": "every night"})
    assert made["told"].startswith("fail: words is not fit for release")
    domain = made["checks"]["domain"]
    assert domain["bounds"] == [{"name": "least", "value": 0.8, "default": 0.9}]
    assert domain["why"] == "words"
    found = domain["findings"][1]
    assert (found["figure"], found["bound"], found["unit"], found["interval"]) == (0.5, 0.8, "share", None)
    assert [one["id"] for one in found["evidence"]] == ["domain/1", "domain/2"]
    assert found["evidence"][0]["asked"] == "words"
    assert found["evidence"][0]["request"]["conversation"]["messages"] == [{"role": "user", "content": "words"}]


def test_an_interrupted_one_is_a_part() -> None:
    assert verdict_document(verdict(interrupted=True), {})["complete"] is False


def held(request: dict[str, Any], **more: Any) -> Verdict:
    findings = (Finding("one", "fail", "It is so.", evidence=(Evidence("edges/1", request, "\ud800", "a"),), **more),)
    return verdict(checks=(CheckResult("edges", "Survives", findings),))


def test_what_json_does_not_have_is_written_out(tmp_path: Path) -> None:
    request: dict[Any, Any] = {
        "body": "half \ud83d of one",
        "bytes": b"\xff",
        "path": tmp_path,
        1: (math.nan, math.inf, True, None, 2),
    }
    made = verdict_document(held(request, figure=math.nan, interval=(0.0, math.inf)), {})
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    as_text(made).encode()
    write_object(tmp_path / "verdict.json", made)
    document.read(tmp_path / "verdict.json")
    found = made["checks"]["edges"]["findings"][0]
    assert (found["figure"], found["interval"], found["evidence"][0]["got"]) == (None, [0.0, None], "\\ud800")
    assert found["evidence"][0]["request"]["body"] == "half \\ud83d of one"
    assert found["evidence"][0]["request"]["1"] == [None, None, True, None, 2]
