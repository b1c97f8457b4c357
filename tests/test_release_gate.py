"""The gate at the end of a ship: what it is told of the package, and what its verdict says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edgeship import release_gate
from edgeship.errors import GateInvalid
from edgeship.measure.choice.choose import Thresholds
from edgeship.measure.evaluation.document import read_baseline
from edgeship.package.manifest import Package
from edgeship.progress import Progress, silent
from edgeship.release_gate import Known, ReleaseGate
from edgeship.settings import Settings
from edgeship.validate import domain, run
from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.check import Check
from edgeship.validate.gate import Gate, read_gate
from edgeship.validate.subject import QUICK_CASES, Subject
from edgeship.validate.verdict import Finding
from tests.measure.samples import evaluation
from tests.packages import make_package
from tests.scripted import ScriptedEngine
from tests.validate.subjects import case


@dataclass(frozen=True)
class DomainBounds(Bounds):
    min_pass_rate: float = bound(0.8, "So many are right.")
    margin: float = bound(0.5, "Something that a ship knows nothing of.")


Look = Callable[..., dict[str, Any] | None]
Seen = list[tuple[Subject, Any]]


@pytest.fixture
def seen() -> Seen:
    """What the check was given each time."""
    return []


@pytest.fixture
def check(seen: Seen) -> Check:
    def look(subject: Subject, bounds: DomainBounds, _: Progress) -> Iterator[Finding]:
        seen.append((subject, bounds))
        yield Finding("all", "pass", "All is well.")

    return Check("domain", "Is well", DomainBounds, look)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return make_package(tmp_path / "work" / "int8")


@pytest.fixture
def look(package: Package, settings: Settings, tmp_path: Path, check: Check) -> Look:
    def made(known: Known | None = None, **how: Any) -> dict[str, Any] | None:
        release = replace(ReleaseGate(checks=(check,)), **how)
        return release_gate.look(release, package, "triage-int8", known or KNOWN, tmp_path, settings, silent)

    return made


KNOWN = Known((), None, None, Thresholds(min_pass_rate=0.6), None)


def test_a_gate_that_is_off_says_nothing(look: Look, seen: Seen) -> None:
    assert look(effort="off") is None
    assert seen == []


def test_the_verdict_is_of_the_package_that_will_be(look: Look, package: Package, seen: Seen) -> None:
    found = look()
    assert found is not None
    assert found["target"] == {"name": "triage-int8", "kind": "package", "digest": package.digest}
    assert found["checks"]["domain"]["why"] == "`edgeship ship` was given --min-pass-rate 0.6"
    assert (found["outcome"], found["effort"], found["only"]) == ("pass", "quick", [])
    assert look(effort="long") is not None
    assert [subject.effort for subject, _ in seen] == ["quick", "long"]


def test_the_domain_is_held_to_what_the_choice_was_held_to(look: Look, seen: Seen) -> None:
    look()
    look(gate=Gate({"domain": DomainBounds(min_pass_rate=0.7)}))
    assert [bounds for _, bounds in seen] == [DomainBounds(0.6, 0.5), DomainBounds(0.7, 0.5)]


def test_a_gate_file_that_sets_something_else_leaves_the_domain_as_it_was_asked_for(
    look: Look, check: Check, seen: Seen, tmp_path: Path
) -> None:
    found = []
    for said in ("", "margin = 0.25", "min_pass_rate = 0.8"):
        text = f"version = 1\n[domain]\nwhy = 'few cases'\n{said}\n"
        (tmp_path / "gate.toml").write_text(text, encoding="utf-8")
        found.append(look(gate=read_gate(tmp_path / "gate.toml", [check])))
    asked = "few cases; `edgeship ship` was given --min-pass-rate 0.6"
    assert [verdict and verdict["checks"]["domain"]["why"] for verdict in found] == [asked, asked, "few cases"]
    assert [bounds for _, bounds in seen] == [DomainBounds(0.6, 0.5), DomainBounds(0.6, 0.25), DomainBounds(0.8, 0.5)]


def right_but(*wrong: int) -> list[bool]:
    """Of as many cases as the example has."""
    return [number not in wrong for number in range(324)]


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [(right_but(0, 1, 2, 3), "pass"), (right_but(*range(0, 324, 12)), "fail")],
    ids=["as the example", "surely worse"],
)
def test_the_domain_is_held_beside_fp32_without_asking_every_case_again(
    answers: list[bool], outcome: str, look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = tuple(case(f"case{number}", slice="ab"[number % 2]) for number in range(324))
    chat = ScriptedEngine({each.id: "yes" if right else "no" for each, right in zip(cases, answers, strict=True)})
    monkeypatch.setattr(Subject, "_opened", lambda *_: chat)
    fp32, chosen = evaluation(right_but(323)), evaluation(answers)
    known = Known(cases, tmp_path / "eval.jsonl", None, Thresholds(), original=fp32, measured=chosen)
    found = look(known, checks=(domain.CHECK,))
    assert found is not None
    findings = {each["name"]: each for each in found["checks"]["domain"]["findings"]}
    assert "of 324 cases" in findings["beside-original"]["told"]
    assert f"of {QUICK_CASES} answers" in findings["pass-rate"]["told"]
    assert (found["outcome"], findings["beside-original"]["outcome"]) == (outcome, outcome)


def test_how_fp32_answered_need_not_be_asked_again(look: Look, seen: Seen, tmp_path: Path) -> None:
    look(replace(KNOWN, original=evaluation([True] * 4)))
    look(replace(KNOWN, original=evaluation([True, True, False]), eval_file=tmp_path / "eval.jsonl"))
    none, kept = (subject.against.original for subject, _ in seen)
    assert none is None  # the baseline of a ship without an evaluation was asked nothing
    assert isinstance(kept, Path)
    way = read_baseline(kept)["ways"]["greedy"]
    assert [record["passed"] for record in way["records"]] == [True, True, False]
    assert (way["passed"], way["cases"]) == (2, 3)


def test_the_fp32_package_can_be_asked_what_its_answers_do_not_tell(look: Look, seen: Seen, tmp_path: Path) -> None:
    look()
    look(replace(KNOWN, original_folder=tmp_path / "fp32"))
    none, build = (subject.against.original_build for subject, _ in seen)
    assert none is None
    assert build is not None
    assert (build.kind, build.name) == ("folder", str(tmp_path / "fp32"))


def test_what_was_turned_off_is_repeated(look: Look, seen: Seen) -> None:
    found = look(gate=Gate(off={"domain": "there are no cases"}))
    assert found is not None
    assert (found["off"], found["checks"]["domain"]["outcome"]) == ({"domain": "there are no cases"}, "skipped")
    assert seen == []


def test_an_interrupted_gate_interrupts_the_ship(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    real = run.validate
    monkeypatch.setattr(release_gate, "validate", lambda *all_, **how: replace(real(*all_, **how), interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        look()


def test_a_fault_of_our_own_in_the_gate_is_the_ship_s(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    real, fault = run.validate, RuntimeError("a fault of ours")
    monkeypatch.setattr(release_gate, "validate", lambda *all_, **how: replace(real(*all_, **how), fault=fault))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        look()


def test_a_gate_file_is_refused_before_the_work_begins(tmp_path: Path) -> None:
    assert release_gate.opened(None, "default", force=True) == ReleaseGate(effort="default", force=True)
    (tmp_path / "gate.toml").write_text("surprise = 1\n", encoding="utf-8")
    with pytest.raises(GateInvalid):
        release_gate.opened(tmp_path / "gate.toml", "quick", force=False)
