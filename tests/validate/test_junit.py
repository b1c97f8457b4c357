"""What Jenkins, GitLab and the readers of GitHub's actions have in common in their schemas of JUnit XML."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.validate.junit import MOST_CHARACTERS, MOST_EVIDENCE, as_junit
from edgeship.validate.verdict import CheckResult, Finding, Verdict
from tests.measure.report.page.parsed import HOSTILE
from tests.validate.samples import evidence, of, verdict

CREATED = "2026-11-27T10:00:00Z"
# By element: the attributes that must be there, those that may, and the children in their order.
SCHEMA: dict[str, tuple[set[str], set[str], str]] = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, {"skipped"}, r"(testsuite )*"),
    "testsuite": (
        {"name", "tests", "failures", "errors", "time", "timestamp"},
        {"skipped"},
        r"(properties )?(testcase )*(system-out )?(system-err )?",
    ),
    "properties": (set(), set(), r"(property )+"),
    "property": ({"name", "value"}, set(), ""),
    "testcase": ({"name", "classname", "time"}, set(), r"((skipped|error|failure) )?"),
    "failure": ({"message", "type"}, set(), ""),
    "skipped": ({"message"}, set(), ""),
    "system-out": (set(), set(), ""),
}
_DECIMAL = re.compile(r"\d+\.\d{3}")


def parsed(found: Verdict) -> Element:
    """The root of its XML, which keeps to the schema."""
    root = ElementTree.fromstring(as_junit(found, CREATED).encode())
    assert root.tag == "testsuites"
    for each in root.iter():
        required, allowed, children = SCHEMA[each.tag]
        assert required <= set(each.attrib) <= required | allowed, each.tag
        assert re.fullmatch(children, "".join(f"{child.tag} " for child in each)), each.tag
        assert "time" not in each.attrib or _DECIMAL.fullmatch(each.attrib["time"])
    for suite in root:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        assert suite.attrib["tests"] == str(len(suite.findall("testcase")))
        assert suite.attrib["failures"] == str(len(suite.findall("testcase/failure")))
        assert suite.attrib["skipped"] == str(len(suite.findall("testcase/skipped")))
    for key in ("tests", "failures", "errors", "skipped"):
        assert root.attrib[key] == str(sum(int(suite.attrib[key]) for suite in root))
    names = [(case.attrib["classname"], case.attrib["name"]) for case in root.iter("testcase")]
    assert len(set(names)) == len(names)
    return root


def texts(root: Element, path: str) -> list[str]:
    return [each.attrib["message"] for each in root.findall(path)]


def test_a_suite_for_each_check_and_a_test_for_each_finding() -> None:
    root = parsed(verdict())
    assert [suite.attrib["name"] for suite in root] == ["integrity", "domain", "lengths", "leaks"]
    assert {key: root.attrib[key] for key in ("tests", "failures", "skipped")} == {
        "tests": "6",
        "failures": "1",
        "skipped": "3",
    }
    assert [case.attrib["name"] for case in root[1].findall("testcase")] == ["right", "by-slice", "beside-the-original"]
    assert root[1].attrib["time"] == "12.000"
    assert root.find(".//testcase[@name='right']").attrib["time"] == "1.500"  # type: ignore[union-attr]


def test_a_failure_has_its_evidence_and_the_command_that_asks_again() -> None:
    (failure,) = parsed(verdict("triage")).iter("failure")
    assert failure.attrib["message"] == "Too few: triage"
    assert failure.text is not None
    assert "asked: triage\nexpected: triage\ngot: triage\nagain: " in failure.text
    assert "--replay domain/2" in failure.text


def test_what_is_undecided_or_was_not_made_is_skipped_and_says_why() -> None:
    assert texts(parsed(verdict()), ".//skipped") == [
        "undecided: words What would decide: words: 100 more cases.",
        "undecided: words What would decide: words: 100 more cases.",
        "the gate turns it off: words",
    ]


def test_bounds_and_reasons_are_properties() -> None:
    found = {each.attrib["name"]: each.attrib["value"] for each in parsed(verdict())[1].iter("property")}
    assert found == {
        "outcome": "fail",
        "target": "words",
        "digest": "0123",
        "why": "words",
        "bound.least": "0.8 (default 0.9)",
    }


@pytest.mark.parametrize(
    "text", [HOSTILE, "]]>", "a\nb\tc\rd", "\x00\x08\x0b\x1b[31m\x7f\x85", "\ud83d\ufffe\uffff", ""]
)
def test_texts_stay_texts(text: str) -> None:
    root = parsed(verdict(text))
    assert [each.tag for each in root.iter()] == [each.tag for each in parsed(verdict("words")).iter()] or not text


@given(st.text(st.characters(), max_size=30))
def test_every_text_can_be_held(text: str) -> None:
    parsed(verdict(f"a{text}"))


def test_line_ends_and_what_xml_lacks_can_still_be_read() -> None:
    (failure,) = parsed(verdict("a\nb\x00c\ufffe")).iter("failure")
    assert failure.attrib["message"] == "Too few: a\nb\\u0000c\\ufffe"


def test_endless_evidence_is_cut() -> None:
    many = tuple(evidence("x" * 10 * MOST_CHARACTERS, number) for number in range(3 * MOST_EVIDENCE))
    checks = (CheckResult("edges", "Survives", (Finding("one", "fail", "It is so.", evidence=many),)),)
    made = as_junit(verdict(checks=checks), CREATED)
    assert len(made) < 100_000
    assert f"{2 * MOST_EVIDENCE} more are in the JSON document." in made


def test_one_that_nothing_was_made_of() -> None:
    assert texts(parsed(of("skipped")), ".//skipped") == ["it was not looked at"]
