from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import (
    ConstraintInvalid,
    EdgeshipError,
    EngineFailed,
    MemoryShort,
    ModelUnknown,
    NotFound,
    PackageDamaged,
    PackageRefused,
    RemoteFailed,
    UsageError,
)
from edgeship.package import manifest
from edgeship.settings import resolve
from edgeship.targets import Target
from edgeship.validate.gate import Gate
from edgeship.validate.run import validate
from edgeship.validate.subject import Against, Subject
from edgeship.validate.verdict import CheckResult, Finding, Verdict
from tests.validate.samples import Run, SomeBounds, check, evidence, subject


def raising(error: BaseException, *, at_once: bool = False) -> Run:
    def run(*_: Any) -> Iterator[Finding]:
        if not at_once:
            yield Finding("first", "pass", "It is so.")
        raise error

    return run


def results(found: Verdict) -> dict[str, CheckResult]:
    return {each.check: each for each in found.checks}


def test_checks_are_made_in_their_order_and_told_with_what_they_were_held_to() -> None:
    told: list[str] = []
    gate = Gate(bounds={"domain": SomeBounds(least=0.5)}, why={"domain": "few cases"})
    found = validate(
        subject(), gate, checks=(check("domain"), check("leaks")), progress=lambda said, _: told.append(said)
    )
    domain, leaks = found.checks
    assert (found.outcome, found.exit_code, found.digest) == ("pass", 0, None)
    assert [finding.told for finding in domain.findings] == ["http://127.0.0.1:1 is held to 0.5."]
    assert [one.name for one in domain.bounds if not one.is_default] == ["least"]
    assert (domain.why, leaks.why) == ("few cases", None)
    assert all(one.is_default for one in leaks.bounds)
    assert told[:2] == ["domain: Domain is as it should be", "domain: asking"]
    assert told[2].startswith("domain: pass, in ")
    assert domain.took_s >= domain.findings[0].took_s > 0


def test_some_of_the_checks() -> None:
    checks = (check("domain"), check("leaks"), check("edges", not_for=lambda _: "it has no edges"))
    found = results(validate(subject(), Gate(off={"leaks": "every night"}), checks=checks))
    assert {name: each.reason for name, each in found.items()} == {
        "domain": None,
        "leaks": "the gate turns it off: every night",
        "edges": "it has no edges",
    }
    only = validate(subject(), Gate(off={"leaks": "every night"}), only=["leaks"], checks=checks)
    assert results(only)["domain"].reason == "only others were asked for"
    assert (only.outcome, only.exit_code) == ("undecided", 8), "who looks at nothing has found nothing out"


def test_no_two_pieces_of_evidence_have_one_id() -> None:
    def finds(*_: Any) -> Iterator[Finding]:
        odd = replace(evidence(), id="edges/empty/http")
        for name in ("first", "other"):
            yield Finding(name, "fail", "It is so.", evidence=(evidence(), evidence(number=2), odd))

    found = validate(subject(), checks=(check("domain", finds),))
    assert [each.id for each in found.evidence] == [
        *("domain/1", "domain/2", "edges/empty/http"),
        # By an id of the catalogue a row is asked again, and all that belongs to it.
        *("domain/1/2", "domain/2/2", "edges/empty/http"),
    ]


def test_a_process_that_dies_fails_its_check_and_no_other() -> None:
    dies = check("lengths", raising(EngineFailed("the engine's process ended by signal 9")))
    found = validate(subject(), checks=(dies, check("leaks")))
    lengths, leaks = found.checks
    assert [(finding.name, finding.outcome) for finding in lengths.findings] == [
        ("first", "pass"),
        ("unfinished", "fail"),
    ]
    assert "its end: the engine's process ended by signal 9." in lengths.findings[-1].told
    assert (leaks.outcome, found.outcome, found.exit_code) == ("pass", "fail", 1)


def test_what_the_machine_lacks_is_no_fault_of_the_target() -> None:
    short = check("lengths", raising(MemoryShort("too little memory", hint="Take another machine.")))
    found = validate(subject(), checks=(short,))
    assert (found.outcome, found.exit_code) == ("undecided", 8)
    assert found.checks[0].findings[-1].decided_by == "Take another machine."


ASKED_WRONGLY = (UsageError("not so", hint="Ask so."), ModelUnknown("no such model"), ConstraintInvalid("no schema"))
OURS = (EdgeshipError("a fault of ours"), RuntimeError("a fault of ours"), ZeroDivisionError("a fault of ours"))


@pytest.mark.parametrize("error", [*ASKED_WRONGLY, *OURS])
def test_what_was_asked_wrongly_and_our_own_faults_are_raised_where_nothing_was_found(error: Exception) -> None:
    skips = check("integrity", lambda *_: iter([Finding("one", "skipped", "There are no files.")]))
    with pytest.raises(type(error)):
        validate(subject(), checks=(skips, check("domain", raising(error, at_once=True))))


@pytest.mark.parametrize("error", [*ASKED_WRONGLY, *OURS])
def test_they_throw_away_nothing_that_was_found_before(error: Exception) -> None:
    found = validate(
        subject(), checks=(check("domain", raising(error)), check("leaks"), check("edges", raising(error)))
    )
    assert [each.outcome for each in found.checks] == ["undecided", "pass", "undecided"]
    first, ended = found.checks[0].findings
    assert (first.name, ended.name) == ("first", "unfinished")
    assert str(error).splitlines()[0] in ended.told
    assert ended.decided_by
    assert found.outcome == "undecided"
    assert found.fault is (error if error in OURS else None)


def test_a_fault_in_what_says_whether_a_check_is_for_a_target_throws_nothing_away_either() -> None:
    def breaks(_: Subject) -> str | None:
        raise RuntimeError("a fault of ours")

    found = validate(subject(), checks=(check("domain"), check("leaks", not_for=breaks)))
    assert [each.outcome for each in found.checks] == ["pass", "undecided"]
    assert found.fault


def test_a_package_that_is_refused_fails() -> None:
    found = validate(subject(), checks=(check("integrity", raising(PackageRefused("it reaches outside"))),))
    assert found.outcome == "fail"


def test_what_cannot_be_opened_fails_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def opens(subject: Subject, *_: Any) -> Iterator[Finding]:
        assert subject.chat
        yield Finding("one", "pass", "It is so.")

    def fails(*_: Any) -> Any:
        raise RemoteFailed("nobody answers")

    monkeypatch.setattr(Subject, "_opened", fails)
    found = validate(subject(), checks=(check("integrity"), check("domain", opens), check("edges", opens)))
    assert [each.outcome for each in found.checks] == ["pass", "fail", "skipped"]
    assert found.checks[2].reason == "the target cannot be opened: nobody answers"


def test_a_package_that_is_replaced_meanwhile_has_no_verdict(example: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(example, tmp_path / "package")

    def replaces(*_: Any) -> Iterator[Finding]:
        yield Finding("one", "pass", "It is so.")
        with (folder / manifest.MANIFEST_NAME).open("a", encoding="utf-8") as file:
            file.write("\n")

    with pytest.raises(PackageDamaged, match="was replaced while it was looked at"):
        validate(Subject(Target("folder", str(folder), resolve())), checks=(check("domain", replaces),))
    assert validate(Subject(Target("folder", str(folder), resolve())), checks=(check("domain"),)).digest


@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_a_file_that_changes_meanwhile_leaves_no_verdict(how: str, example: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(example, tmp_path / "package")
    weights = folder / next(name for name in manifest.read(folder).manifest.files if name.endswith(".onnx"))

    def changes(*_: Any) -> Iterator[Finding]:
        yield Finding("one", "pass", "It is so.")
        if how == "in place":
            with weights.open("r+b") as file:
                file.write(b"x")
            return
        shutil.copy2(weights, tmp_path / "other")
        (tmp_path / "other").replace(weights)

    with pytest.raises(PackageDamaged, match="or a file in it"):
        validate(Subject(Target("folder", str(folder), resolve())), checks=(check("domain", changes),))


def test_ctrl_c_keeps_what_was_found() -> None:
    started = EngineFailed("the library could not be loaded")
    started.__cause__ = KeyboardInterrupt()
    for interrupt in (KeyboardInterrupt(), started):
        checks = (check("integrity"), check("domain", raising(interrupt)), check("leaks"))
        found = validate(subject(), checks=checks)
        assert [finding.name for finding in found.checks[1].findings] == ["first", "unfinished"]
        assert found.checks[2].reason == "the run was interrupted before it"
        assert (found.interrupted, found.outcome, found.exit_code) == (True, "undecided", 130)


def test_what_was_not_wanted_was_not_missed_by_an_interrupted_run() -> None:
    checks = (check("domain", raising(KeyboardInterrupt())), check("leaks"), check("edges"), check("format"))
    gate = Gate(off={"edges": "words"})
    found = results(validate(subject(), gate, only=("domain", "edges", "format"), checks=checks))
    assert [found[name].reason for name in ("leaks", "edges", "format")] == [
        "only others were asked for",
        "the gate turns it off: words",
        "the run was interrupted before it",
    ]


def test_a_fail_before_ctrl_c_is_a_fail() -> None:
    fails = check("integrity", raising(EngineFailed("it ended")))
    found = validate(subject(), checks=(fails, check("domain", raising(KeyboardInterrupt()))))
    assert (found.outcome, found.exit_code) == ("fail", 130)


def test_a_check_that_finds_nothing_says_so() -> None:
    found = validate(subject(), checks=(check("domain", lambda *_: iter(())), check("leaks")))
    assert (found.checks[0].outcome, found.checks[0].reason) == ("skipped", "there is nothing here that it looks at")
    assert found.outcome == "pass"


def test_a_check_whose_findings_are_all_skipped_has_their_reason() -> None:
    def skips(*_: Any) -> Iterator[Finding]:
        yield Finding("beside-the-baseline", "skipped", "There is no baseline.")

    found = validate(subject(), checks=(check("performance", skips), check("leaks")))
    assert (found.checks[0].reason, found.checks[1].reason) == ("There is no baseline.", None)


def test_who_cannot_say_whether_a_check_is_for_a_target_lets_the_check_say_it() -> None:
    def unknown(_: Subject) -> str | None:
        raise EngineFailed("its manifest cannot be read")

    assert validate(subject(), checks=(check("domain", not_for=unknown),)).outcome == "pass"


@pytest.mark.parametrize("kind", ["package", "foundry"])
def test_a_name_that_means_nothing_is_no_verdict(kind: Any) -> None:
    pytest.importorskip("foundry_local_sdk")
    with pytest.raises(NotFound):
        validate(Subject(Target(kind, "not-there", resolve())), checks=())


def test_a_baseline_that_means_nothing_is_noticed_before_the_work() -> None:
    against = Against(baseline=Target("package", "not-there", resolve()))
    with pytest.raises(NotFound), Subject(Target("url", "http://127.0.0.1:1", resolve()), against) as unknown:
        validate(unknown, checks=(check("domain", raising(AssertionError("it was begun"))),))
