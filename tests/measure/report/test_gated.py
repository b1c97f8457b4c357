"""What a report tells of the release gate, in every form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from edgeship.measure.choice.choose import choose
from edgeship.measure.report.comparison import Report, headline, table_rows, ways_on
from edgeship.measure.report.gated import Gated, gate_table, gated_by
from edgeship.measure.report.markdown import render_markdown
from edgeship.measure.report.page import ship
from edgeship.measure.report.page.rendering import render
from tests.measure.samples import report

TOLD = "It answers 3 of 10 <b>cases</b>."


def verdict(outcome: str) -> dict[str, Any]:
    """As `verdict_document` makes one."""

    def check(title: str, outcome: str, reason: str | None = None) -> dict[str, Any]:
        findings = [
            {"name": "all", "outcome": outcome, "told": TOLD},
            {"name": "x", "outcome": "pass", "told": "Fine."},
        ]
        return {
            "title": title,
            "outcome": outcome,
            "took_s": 1.25,
            "reason": reason,
            "findings": [] if reason else findings,
        }

    checks = {
        "integrity": check("Is whole", "pass"),
        "domain": check("Answers", outcome),
        "performance": check("Is fast", "skipped", "there is no baseline"),
    }
    return {"outcome": outcome, "effort": "quick", "took_s": 12.5, "off": {}, "checks": checks}


def gated(outcome: str, *, force: bool = False) -> Report:
    return replace(report(), gates=(gated_by("int8", verdict(outcome), force=force, undecided="take"),))


def second_choice(outcome: str) -> Report:
    """A report of a ship in which the gate refused INT8, and said this of FP16, the next that holds."""
    made = report()
    fp32, fp16, int8, _ = (found.measurement for found in made.candidates)
    gates = tuple(
        gated_by(label, verdict(said), force=False, undecided="take")
        for label, said in (("int8", "fail"), ("fp16", outcome))
    )
    refused = [] if outcome == "fail" else ["int8"]  # where none is let through, it stays at the first
    return replace(made, choice=choose({"fp16": fp16, "int8": int8}, fp32, refused=refused), gates=gates)


@pytest.mark.parametrize(
    ("outcome", "force", "undecided", "installed", "forced"),
    [
        ("pass", False, "refuse", True, False),
        ("pass", True, "take", True, False),
        ("fail", False, "take", False, False),
        ("fail", True, "take", True, True),
        ("undecided", False, "take", True, False),
        ("undecided", False, "refuse", False, False),
        ("undecided", True, "refuse", True, True),
    ],
)
def test_what_becomes_of_the_package(outcome: str, force: bool, undecided: Any, installed: bool, forced: bool) -> None:
    found = gated_by("int8", verdict(outcome), force=force, undecided=undecided)
    assert (found.installed, found.forced) == (installed, forced)


def test_each_check_says_what_decided_it() -> None:
    found = gated_by("int8", verdict("fail"), force=False, undecided="take")
    assert found.reasons == (f"INT8 fails the release gate's check domain: {TOLD.rstrip('.')}",)
    unsure = gated_by("int8", verdict("undecided"), force=False, undecided="take")
    assert unsure.reasons == (f"INT8 is undecided by the release gate's check domain: {TOLD.rstrip('.')}",)
    assert gate_table(found).rows == (
        ("integrity", "Is whole", "pass", "1.2", f"{TOLD} Fine."),
        ("domain", "Answers", "fail", "1.2", TOLD),
        ("performance", "Is fast", "skipped", "1.2", "there is no baseline"),
    )


def test_what_holds_and_is_unfit_for_release_fails() -> None:
    plain, passed, failed = report(), gated("pass"), gated("fail")
    assert (plain.outcome, plain.installs, plain.reasons) == ("holds", True, plain.choice.reasons)
    assert (passed.outcome, passed.installs, headline(passed)) == ("holds", True, headline(plain))
    assert (failed.outcome, failed.installs) == ("fails", False)
    assert headline(failed) == "INT8, the smallest that holds, failed the release gate"
    assert headline(gated("fail", force=True)).endswith("failed the release gate, installed by force")
    assert headline(gated("undecided")) == "INT8, the smallest that holds: the release gate leaves it undecided"
    assert ways_on(failed)[0] == "another candidate (-p fp32 or -p fp16 or -p int4)"
    assert "--force" in ways_on(failed)[-1]


def test_what_failed_before_and_was_not_made_again_is_not_installed() -> None:
    found = gated_by("int8", verdict("pass"), force=False, undecided="take", failed_before=("leaks (default effort)",))
    assert (found.outcome, found.installed, found.forced) == ("fail", False, False)
    assert found.reasons == ("INT8 failed the release gate before: leaks (default effort)",)
    page = render(ship.page(replace(report(), gates=(found,))))
    assert "It failed before: leaks (default effort)." in page


def test_where_the_gate_refuses_one_the_next_is_told_too() -> None:
    second = second_choice("pass")
    assert (second.choice.chosen, second.installs, second.outcome) == ("fp16", True, "holds")
    assert headline(second) == "FP16, the smallest that holds and that the release gate lets through"
    assert "INT8 is passed over, since the release gate does not let it through" in second.reasons
    assert second.reasons[-1].startswith("INT8 fails the release gate's check domain")
    assert [row[-1] for row in table_rows(second).rows] == ["baseline", "yes, chosen", "yes, refused", "–"]
    text = render_markdown(second)
    assert text.index("## Release gate, INT8: fail") < text.index("## Release gate, FP16: pass")
    page = render(ship.page(second))
    assert ("INT8 fails: quick effort, 12 s" in page, "FP16 passes: quick effort, 12 s" in page) == (True, True)


def test_where_the_gate_lets_none_through_all_are_told() -> None:
    none = second_choice("fail")
    assert (none.choice.chosen, none.installs, none.outcome) == ("int8", False, "fails")
    assert headline(none) == "the release gate lets none of INT8 and FP16 through"
    assert [each.split()[0] for each in none.reasons[-2:]] == ["INT8", "FP16"]
    assert ways_on(none)[0] == "another candidate (-p fp32 or -p int4)"


def test_every_form_tells_it() -> None:
    failed, forced = gated("fail"), gated("fail", force=True)
    text = render_markdown(failed)
    assert "## Release gate, INT8: fail" in text
    assert "| domain | Answers | fail | 1.2 | It answers 3 of 10 &lt;b>cases&lt;/b>. |" in text
    page = render(ship.page(failed))
    assert "INT8 fails: quick effort, 12 s" in page
    assert "It answers 3 of 10 &lt;b&gt;cases&lt;/b&gt;." in page
    assert "What to try" in page
    assert "installed by force" not in page
    assert "installed by force" in render(ship.page(forced))
    assert "elease gate" not in render(ship.page(report()))


def test_it_is_read_again() -> None:
    found = gated("fail")
    kept = found.to_dict()
    assert TypeAdapter(Gated).validate_python(kept["gates"][0]) == found.gate
    assert TypeAdapter(Report).validate_python(kept).gates == found.gates
