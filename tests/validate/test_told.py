from __future__ import annotations

import os
import shlex

import pytest

from edgeship.engine.api import Conversation, Sampling
from edgeship.validate import told
from edgeship.validate.requests import asked
from edgeship.validate.verdict import NOT_ASKED_FOR, CheckResult, Evidence, Finding, Outcome, Verdict
from tests.validate.samples import evidence, of, verdict

LEAST = 1.0
"""That a bound is the least that a figure has to be."""


def test_a_row_for_each_check() -> None:
    shown = told.table(verdict())
    assert shown.header == ("OUTCOME", "CHECK", "WHAT IT SAYS", "FINDING", "FIGURE", "BOUND", "TIME")
    assert shown.rows == (
        ("pass", "integrity", "Is whole", "-", "-", "-", "0.5 s"),
        ("fail", "domain", "1 of 3 fails: by-slice", "by-slice", "50.0 %", "80.0 %", "12.0 s"),
        ("undecided", "lengths", "undecided: beside-the-original", "-", "-", "-", "2.0 s"),
        ("skipped", "leaks", "the gate turns it off: words", "-", "-", "-", "-"),
    )


def test_a_row_names_the_finding_whose_figure_and_bound_it_shows() -> None:
    findings = (
        Finding("answers-come", "pass", "All.", 0.0, 0.0),
        Finding("pass-rate", "pass", "Many.", 0.98, 0.8, is_least=True),
    )
    [row] = told.table(verdict(checks=(CheckResult("domain", "Answers", findings),))).rows
    assert row[2:5] == ("Answers", "pass-rate", "0.98")


def test_many_that_fail_are_counted() -> None:
    findings = tuple(Finding(f"n{number}", "fail", "It is so.") for number in range(5))
    assert told.says(CheckResult("edges", "Survives", findings)) == "5 of 5 fail: n0, n1, n2 and 2 more"


@pytest.mark.parametrize(
    ("outcome", "values", "nearest"),
    [
        ("fail", [(9.0, 8.0), (20.0, 8.0), (2.0, 1.9)], 20.0),
        ("fail", [(0.7, 0.8, LEAST), (0.1, 0.8, LEAST)], 0.1),
        ("fail", [(90.0, 8.0), (0.0, 0.8, LEAST)], 0.0),
        ("fail", [(90.0, 8.0), (1.0, 0.0)], 1.0),
        ("fail", [(-0.3, -0.02, LEAST), (-0.2, -0.02, LEAST)], -0.3),
        ("fail", [(9.0, 8.0), (-0.3, 0.0, LEAST)], -0.3),
        ("undecided", [(1.0, 8.0), (7.0, 8.0)], 7.0),
        ("undecided", [(0.99, 0.8, LEAST), (0.81, 0.8, LEAST)], 0.81),
        ("undecided", [(9.0, 8.0), (7.9, 8.0)], 9.0),
        ("undecided", [(7.9, 8.0), (0.0, 0.8, LEAST)], 0.0),
        ("pass", [(1.0, 8.0), (7.0, 8.0), (None, None)], 7.0),
        ("pass", [(0.99, 0.8, LEAST), (0.81, 0.8, LEAST)], 0.81),
        ("pass", [(0.02, -0.02, LEAST), (-0.01, -0.02, LEAST)], -0.01),
        ("pass", [(0.0, 8.0), (3.0, None)], 0.0),
    ],
)
def test_the_figure_in_the_table_is_the_one_that_matters(
    outcome: Outcome, values: list[tuple[float | None, ...]], nearest: float
) -> None:
    findings = [
        Finding(str(n), outcome, "It is so.", figure, bound, is_least=bool(least))
        for n, (figure, bound, *least) in enumerate(values)
    ]
    chosen = told.telling(CheckResult("edges", "Survives", (*findings, Finding("other", "pass", "It is so."))))
    assert chosen is not None
    assert chosen.figure == nearest


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [
        (0.25, "s", "250 ms"),
        (12.5, "s", "12.5 s"),
        (1.8884, "s", "1.89 s"),
        (0.90081, "times", "0.901 times"),
        (51_200, "bytes/request", "51,200 bytes/request"),
        (3686.4, "bytes/request", "3,686 bytes/request"),
        (0.123456, "", "0.1235"),
        (123456.7, "tokens", "123,457 tokens"),
        (0.5, "share", "50.0 %"),
        (3, "", "3"),
    ],
)
def test_figures_have_their_unit(figure: float, unit: str, text: str) -> None:
    assert told.figures(Finding("one", "pass", "It is so.", figure, figure, unit)) == (text, text)


def test_a_figure_has_the_unit_of_its_bound() -> None:
    assert told.figures(Finding("one", "pass", "It is so.", 0.25, 120, "s")) == ("0.25 s", "120.0 s")
    assert told.figures(Finding("one", "fail", "It is so.", 12, 0.5, "s")) == ("12.0 s", "0.50 s")
    assert told.figures(Finding("one", "fail", "It is so.", None, 10, "s")) == ("", "10.0 s")


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        (("pass", "pass"), "pass: triage passes what it was held to: 2 checks pass, in 2 s"),
        (("pass", "skipped"), "pass: triage passes what it was held to: 1 check passes, 1 not made, in 2 s"),
        (
            ("pass", "fail", "undecided", "fail"),
            "fail: triage is not fit for release: 1 check passes, domain, leaks fail, format undecided, in 2 s",
        ),
        (("undecided",), "undecided: whether triage is fit for release is not known: integrity undecided, in 2 s"),
        (("skipped",), "undecided: whether triage is fit for release is not known: 1 not made, in 2 s"),
    ],
)
def test_the_verdict_on_a_line(outcomes: tuple[Outcome, ...], said: str) -> None:
    assert told.headline(of(*outcomes)) == said


def test_an_interrupted_run_says_so() -> None:
    assert told.headline(of("pass", interrupted=True)).startswith("interrupted: undecided: ")


def test_reasons_and_other_bounds_are_told() -> None:
    assert told.notes(verdict()) == [
        "leaks was not made: the gate turns it off: words",
        "domain was held to other bounds than the defaults (least 0.8 instead of 0.9): words",
    ]


def test_checks_that_were_not_made_for_one_reason_are_told_together() -> None:
    assert told.notes(of("skipped", "pass", "skipped")) == ["integrity, format were not made: it was not looked at"]


def test_what_was_asked() -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    assert told.asked(asked(Conversation(messages), Sampling())) == "hello"
    parts = asked(Conversation([{"role": "user", "content": [{"type": "text", "text": "hello"}]}]), Sampling())
    assert '"text": "hello"' in told.asked(parts)
    assert told.asked({"kind": "http", "body": "{"}) == '{"kind": "http", "body": "{"}'
    assert told.asked({"conversation": {"messages": "none"}}) == '{"conversation": {"messages": "none"}}'


def test_evidence_has_the_command_that_asks_again() -> None:
    facts = dict(told.facts(verdict("triage"), evidence("hello")))
    assert facts.keys() == {"evidence", "asked", "expected", "got", "again"}
    assert facts["again"].endswith(" validate triage --replay domain/1 --verdict FILE")


def test_the_command_names_the_file_that_has_the_verdict() -> None:
    kept = verdict("triage", file="kept here/v.json")
    words = shlex.split(told.again(kept, evidence("hello")), posix=os.name != "nt")
    assert words[-2] == "--verdict"
    assert words[-1].strip('"') == "kept here/v.json"
    assert told.more_evidence(kept, 1) == "1 more request that shows it is in kept here/v.json"
    assert told.more_evidence(verdict(), 2) == "2 more requests that show it are in the JSON document: --out FILE"


def test_checks_that_were_not_asked_for_are_counted_and_not_told() -> None:
    one, other = of("pass").checks[0], CheckResult("leaks", "Leaks nothing", reason=NOT_ASKED_FOR)
    found = Verdict("triage", "package", None, (one, other, other), 2.0)
    assert [row[1] for row in told.table(found).rows] == ["integrity"]
    assert told.notes(found) == []
    assert told.headline(found).endswith(": 1 check passes, 2 not asked for, in 2 s")


def test_a_request_of_the_catalogue_is_asked_again_without_a_verdict_and_a_target_by_its_whole_name() -> None:
    row = Evidence("edges/text-nul/chat", {}, "nothing", "an answer")
    foundry = Verdict("triage", "foundry", None, (), 0.0)
    assert told.again(foundry, row).endswith(" validate foundry:triage --replay edges/text-nul/chat")


def test_what_a_check_left_out_is_told_beside_the_outcomes() -> None:
    findings = (
        Finding("reading", "pass", "It is."),
        Finding("context-end", "skipped", "The server does not tell it."),
        Finding("last-token", "skipped", "The server does not tell it."),
        Finding("memory", "skipped", "Memory cannot be seen."),
    )
    assert notes(*findings) == [
        "lengths/context-end, lengths/last-token were not looked at: The server does not tell it.",
        "lengths/memory was not looked at: Memory cannot be seen.",
    ]


def test_what_no_bound_holds_and_what_was_to_be_compared_is_told_with_its_figures() -> None:
    findings = (
        Finding("facts", "skipped", "Facts that were found: 0 of 7 early.", noted=True),
        Finding("beside-original", "pass", "1 of 48 are lost.", noted=True),
        Finding("ttft", "fail", "It is slower, which is told among what fails.", noted=True),
    )
    assert notes(*findings) == [
        "lengths/facts: Facts that were found: 0 of 7 early.",
        "lengths/beside-original: 1 of 48 are lost.",
    ]


def notes(*findings: Finding) -> list[str]:
    return told.notes(Verdict("triage", "package", None, (CheckResult("lengths", "Holds", findings),), 0.0))
