"""The page of a verdict: which of its evidence is marked as speaking against the target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship.measure.report.page import documents, verdict
from edgeship.measure.report.page.blocks import Cases
from edgeship.measure.report.page.rendering import render
from tests.measure.report.page import samples
from tests.measure.report.page.parsed import Page


def of_finding(outcome: str) -> dict[str, Any]:
    """A verdict with one finding that came to this, and two requests that show it."""
    made = samples.verdict()
    evidence = [{"id": f"domain/{number}", "asked": "hello", "got": "no", "expected": "yes"} for number in range(2)]
    finding = {"name": "threshold", "outcome": outcome, "told": "It is so.", "evidence": evidence}
    return made | {"checks": {"domain": made["checks"]["domain"] | {"outcome": outcome, "findings": [finding]}}}


@pytest.mark.parametrize(("outcome", "serious"), [("fail", True), ("undecided", False)])
def test_the_evidence_of_what_fails_is_marked_and_no_other(outcome: str, serious: bool, tmp_path: Path) -> None:
    document = samples.kept(tmp_path, "run", of_finding(outcome))
    blocks = [block for section in verdict.part(document).sections for block in section.blocks]
    of_requests = [
        block for block in blocks if isinstance(block, Cases) and block.summary.startswith("threshold: 2 of")
    ]
    assert [[case.serious for case in block.cases] for block in of_requests] == [[serious, serious]]
    # What findings say in words is no evidence, and is never marked.
    classes = [value for name, value in Page(render(documents.page([document]))).attributes if name == "class"]
    assert (classes.count("case serious"), classes.count("case")) == ((2, 1) if serious else (0, 3))
