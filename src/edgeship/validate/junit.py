"""A verdict as JUnit XML, which CI systems read: a suite for each check, a test for each finding.

It keeps to what readers have in common: counts that add up, one result a test, and text that XML can hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from edgeship.system.text import harmless
from edgeship.validate import told
from edgeship.validate.verdict import CheckResult, Finding, Verdict

MOST_EVIDENCE = 10
"""Of one finding: a file of CI is read by people. The JSON document has all that were kept."""
MOST_CHARACTERS = 2000
_NO_CHARACTERS = re.compile("[\ufffe\uffff]")


def as_junit(verdict: Verdict, created: str) -> str:
    """The file's text. created: when it was found (UTC), as the document says."""
    suites = [_suite(verdict, check, created) for check in verdict.checks]
    root = Element("testsuites", name=_text(f"edgeship validate {verdict.target}"), time=_seconds(verdict.took_s))
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.extend(suites)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suite(verdict: Verdict, check: CheckResult, created: str) -> Element:
    cases = [_case(verdict, check, finding) for finding in check.findings] or [_not_made(check)]
    made = Element(
        "testsuite",
        name=check.check,
        tests=str(len(cases)),
        failures=str(_having("failure", cases)),
        errors="0",
        skipped=str(_having("skipped", cases)),
        time=_seconds(check.took_s),
        timestamp=created.removesuffix("Z"),
    )
    properties = SubElement(made, "properties")
    facts = {"outcome": check.outcome, "target": verdict.target, "digest": verdict.digest or "", "why": check.why or ""}
    facts |= {f"bound.{one.name}": f"{one.value:g} (default {one.default:g})" for one in check.bounds}
    for name, value in facts.items():
        if value:
            SubElement(properties, "property", name=_text(name), value=_text(value))
    made.extend(cases)
    out = SubElement(made, "system-out")
    out.text = _text(
        "\n".join([check.title, *map(told.sentence, check.findings), *_reason(check)]), MOST_CHARACTERS * 10
    )
    return made


def _reason(check: CheckResult) -> list[str]:
    return [check.reason] if check.reason else []


def _having(result: str, cases: Iterable[Element]) -> int:
    return sum(case.find(result) is not None for case in cases)


def _named(check: CheckResult, name: str, took_s: float) -> Element:
    return Element("testcase", name=_text(name), classname=f"edgeship.{check.check}", time=_seconds(took_s))


def _not_made(check: CheckResult) -> Element:
    case = _named(check, check.title, 0.0)
    SubElement(case, "skipped", message=_text(check.reason or "it was not looked at"))
    return case


def _case(verdict: Verdict, check: CheckResult, finding: Finding) -> Element:
    case = _named(check, finding.name, finding.took_s)
    if finding.outcome == "fail":
        failed = SubElement(case, "failure", message=_text(finding.told), type="fail")
        failed.text = _text("\n\n".join([finding.told, *_evidence(verdict, finding)]), MOST_CHARACTERS * 40)
    elif finding.outcome != "pass":
        undecided = "undecided: " if finding.outcome == "undecided" else ""
        SubElement(case, "skipped", message=_text(f"{undecided}{told.sentence(finding)}"))
    return case


def _evidence(verdict: Verdict, finding: Finding) -> list[str]:
    shown = [
        "\n".join(f"{name}: {_text(text)}" for name, text in told.facts(verdict, one))
        for one in finding.evidence[:MOST_EVIDENCE]
    ]
    more = len(finding.evidence) - len(shown)
    return [*shown, f"{more:,} more are in the JSON document."] if more else shown


def _text(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text that XML can hold and that is not endless."""
    cut = text if len(text) <= most else f"{text[:most]} ... ({len(text) - most:,} more characters)"
    return _NO_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", harmless(cut))


def _seconds(value: float) -> str:
    return f"{value:.3f}"
