from __future__ import annotations

import errno
import json
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgeship.cli import entry, failure, main
from edgeship.cli.streams import OutputLost
from edgeship.errors import DiskShort
from edgeship.measure import document
from edgeship.system import storage
from edgeship.validate.bounds import bounds_of
from edgeship.validate.checks import CHECKS
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Finding
from tests.validate.samples import Run, check, evidence

URL = "http://127.0.0.1:1"


def finding(outcome: Any, **more: Any) -> Run:
    def run(*_: Any) -> Iterator[Finding]:
        yield Finding("one", outcome, "It came to that.", 3.0, 2.0, "MB", **more)

    return run


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the checks that are made."""

    def set_checks(*found: Any) -> None:
        monkeypatch.setattr("edgeship.validate.checks.CHECKS", found)

    # Such checks ask nothing, so that there is no server.
    monkeypatch.setattr("edgeship.cli.validate._require_reached", lambda _: None)

    set_checks(check("domain"), check("leaks"))
    return set_checks


@pytest.mark.usefixtures("checks")
def test_a_pass_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", URL]) == 0
    out, err = capsys.readouterr()
    assert "domain" in out
    assert "WHAT IT SAYS" in out
    assert out.splitlines()[-1].startswith(f"pass: {URL}/v1 passes what it was held to: 2 checks pass, in ")
    assert "domain: Domain is as it should be" in err
    assert "leaks: pass, in " in err


def test_what_fails_is_told_with_the_command_that_asks_again(
    checks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = finding("fail", evidence=tuple(evidence("hello", number) for number in range(5)))
    undecided = finding("undecided", decided_by="40 more cases.")
    checks(check("domain", fails), check("leaks", undecided), check("edges"))
    assert main(["validate", URL]) == 1
    out = capsys.readouterr().out
    assert "what fails:\n  domain/one: It came to that.\n    evidence    domain/0\n    asked       hello\n" in out
    assert (
        "--replay domain/2 --verdict FILE\n    2 more requests that show it are in the JSON document: --out FILE\n"
        in out
    )
    assert "domain/3" not in out
    main(["validate", URL, "--out", str(tmp_path / "v.json")])
    out = capsys.readouterr().out
    assert f"    2 more requests that show it are in {tmp_path / 'v.json'}\n" in out
    assert "FILE" not in out
    assert "what is undecided:\n  leaks/one: It came to that.\n    decided by  40 more cases.\n" in out
    assert out.splitlines()[-1].startswith("fail: ")


@pytest.mark.parametrize(("outcome", "code"), [("pass", 0), ("fail", 1), ("undecided", 8), (KeyboardInterrupt, 130)])
def test_exit_codes(outcome: Any, code: int, checks: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any) -> Iterator[Finding]:
        yield Finding("one", "pass", "It is so.")
        raise KeyboardInterrupt

    checks(check("domain", interrupted if outcome is KeyboardInterrupt else finding(outcome)), check("leaks"))
    assert main(["validate", URL, "--json"]) == code
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["complete"] is (code != 130)
    assert found["checks"]["domain"]["findings"][0]["name"] == "one"
    assert ("interrupted: this is what was found before" in err) is (code == 130)


def test_a_fault_of_our_own_keeps_what_was_found_and_its_exit_code(
    checks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: Any) -> Iterator[Finding]:
        yield Finding("one", "pass", "It is so.")
        raise ZeroDivisionError("ours")

    checks(check("domain", breaks), check("leaks"))
    assert main(["validate", URL, "--out", str(tmp_path / "verdict.json")]) == 3
    out, err = capsys.readouterr()
    assert "a fault of Edgeship itself ended it (ZeroDivisionError: ours)" in out
    assert "ZeroDivisionError" in err
    kept = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    assert [kept["checks"][name]["outcome"] for name in ("domain", "leaks")] == ["undecided", "pass"]


def test_all_that_is_kept_says_the_same(
    checks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks(check("domain", finding("fail", evidence=(evidence("hello"),))), check("leaks"))
    gate, summary = tmp_path / "gate.toml", tmp_path / "summary.md"
    gate.write_text('version = 1\n[domain]\nleast = 0.5\nwhy = "few cases"\n[leaks]\noff = "every night"\n')
    summary.write_text("what stood there\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    kept = {name: tmp_path / f"kept.{name}" for name in ("out", "junit", "markdown")}
    options = [word for name, path in kept.items() for word in (f"--{name}", str(path))]
    assert main(["validate", URL, "--gate", str(gate), *options, "--github-summary", "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert document.read(kept["out"]).fields.values == printed
    assert printed["off"] == {"leaks": "every night"}
    suites = ElementTree.parse(kept["junit"]).getroot()
    assert [suite.get("name") for suite in suites] == ["domain", "leaks"]
    markdown = kept["markdown"].read_text(encoding="utf-8")
    assert summary.read_text(encoding="utf-8") == f"what stood there\n{markdown}"
    for text in (markdown, kept["junit"].read_text(encoding="utf-8"), json.dumps(printed)):
        assert "every night" in text
        assert "few cases" in text
    page = tmp_path / "page.html"
    assert main(["report", str(kept["out"]), "--out", str(page)]) == 0
    shown = page.read_text(encoding="utf-8")
    for text in ("every night", "few cases", "It came to that.", "domain/1"):
        assert text in shown
    assert main(["validate", URL, "--gate", str(gate)]) == 1
    out = capsys.readouterr().out
    assert "leaks was not made: the gate turns it off: every night" in out
    assert "least 0.5 instead of 0.8): few cases" in out


@pytest.mark.usefixtures("checks")
def test_one_check_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", URL, "--only", "leaks", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["checks"]
    assert [found[name]["outcome"] for name in ("domain", "leaks")] == ["skipped", "pass"]
    assert main(["validate", URL, "--only", "lakes"]) == 2
    assert "There are: domain, leaks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing is named that is to be validated"),
        ([URL, "--quick", "--long"], "contradict each other"),
        ([URL, "--github-summary"], "GITHUB_STEP_SUMMARY is not set"),
        ([URL, "--write-gate", "gate.toml"], "writes a file and looks at nothing"),
        ([URL, "--gate", "nothing.toml"], "the gate cannot be read"),
        ([URL, "--junit", "."], "that is a folder"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setattr("edgeship.validate.run.validate", lambda *_, **__: pytest.fail("it was begun"))
    assert main(["validate", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--original", "damaged.json"], "is damaged"),
        (["--original", "not-there"], "not-there"),
        (["--original", "tuned"], "edgeship build tuned --precision fp32`"),
        (["--baseline", "not-there:2"], "not-there"),
        (["--schema", '{"type": "objec"}'], "constraint-invalid"),
        (["--schema", '{"type": '], "constraint-invalid"),
        (["--schema", '{"not": {"type": "null"}}'], "not at # cannot be enforced"),
        (["--eval", "impossible.jsonl"], "the schema of case 'q': "),
        (["--eval", "by-meaning.jsonl"], "no embedding model for the assertion similar of 'q'"),
    ],
)
def test_what_the_target_is_held_against_is_looked_at_before_the_work(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgeship.validate.run.validate", lambda *_, **__: pytest.fail("it was begun"))
    damaged = {"schema": "edgeship/eval/1", "ways": {"greedy": {"records": [1]}}, "cases": []}
    Path("damaged.json").write_text(json.dumps(damaged), encoding="utf-8")
    similar = {"id": "q", "messages": [{"role": "user", "content": "?"}], "assert": [{"type": "similar", "value": "x"}]}
    Path("by-meaning.jsonl").write_text(json.dumps(similar), encoding="utf-8")
    Path("tuned").mkdir()
    Path("tuned", "config.json").write_text("{}", encoding="utf-8")
    impossible = {"required": ["a"], "properties": {"a": False}, "type": "object"}
    asked = {"id": "q", "messages": similar["messages"], "expected": {}, "schema": impossible}
    Path("impossible.jsonl").write_text(json.dumps(asked), encoding="utf-8")
    assert main(["validate", URL, *words]) in (2, 4)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("beside", [None, "--original", "--baseline"])
def test_a_server_that_is_not_there_is_an_error_and_no_verdict(
    beside: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "genai_config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("edgeship.validate.run.validate", lambda *_, **__: pytest.fail("it was begun"))
    words = [str(tmp_path), beside, URL] if beside else [URL]
    assert main(["validate", *words]) == 5
    err = capsys.readouterr().err
    assert "remote-failed" in err
    assert "Start the server, or mend the address" in err


def test_a_gate_file_with_every_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gate.toml"
    assert main(["validate", "--write-gate", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gate"] == str(path)
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    assert written.pop("version") == 1
    assert {name: set(part) for name, part in written.items()} == {
        each.name: {one.name for one in bounds_of(each.bounds)} for each in CHECKS
    }
    assert main(["validate", "--write-gate", str(path)]) == 2
    assert "that file is there already" in capsys.readouterr().err


def test_answers_have_as_many_tokens_as_is_said(checks: Any) -> None:
    seen: list[int | None] = []

    def looks(subject: Any, *_: Any) -> Iterator[Finding]:
        seen.append(subject.eval_options.max_tokens)
        yield Finding("one", "pass", "It is so.")

    checks(check("domain", looks))
    assert [main(["validate", URL, *options]) for options in ([], ["--max-tokens", "500"])] == [0, 0]
    assert seen == [None, 500]


@pytest.mark.parametrize("reason", [errno.EPIPE, errno.ENOSPC])
def test_who_loses_what_is_printed_has_the_files(
    reason: int, checks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any) -> None:
        raise OutputLost from OSError(reason, "lost")

    given_up: list[int] = []
    monkeypatch.setattr("edgeship.cli.verdict.print_verdict", lost)
    for module in ("validate", "failure"):
        monkeypatch.setattr(f"edgeship.cli.{module}.give_up_output", lambda: given_up.append(1))
    checks(check("domain", finding("fail")))
    out = tmp_path / "verdict.json"
    assert main(["validate", URL, "--out", str(out)]) == (1 if reason == errno.EPIPE else 7)
    assert json.loads(out.read_text(encoding="utf-8"))["outcome"] == "fail"
    assert given_up


@pytest.mark.usefixtures("checks")
def test_a_file_that_cannot_be_written_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = storage.write_named

    def on_a_full_disk(path: Path, content: str) -> None:
        if path.name == "verdict.json":
            raise OSError(errno.ENOSPC, "no space left")
        write(path, content)

    monkeypatch.setattr(storage, "write_named", on_a_full_disk)
    out, junit = tmp_path / "verdict.json", tmp_path / "verdict.xml"
    assert main(["validate", URL, "--out", str(out), "--junit", str(junit)]) == DiskShort.exit_code
    assert ElementTree.parse(junit).getroot().tag == "testsuites"
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].startswith("pass: ")
    assert "error[disk-short]" in printed.err
    assert not out.exists()


@pytest.mark.parametrize("when", ["in a check", "after the checks"])
def test_ctrl_c_several_times_loses_no_finding(
    when: str, checks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupts(*_: Any) -> Iterator[Finding]:
        yield Finding("one", "fail", "It is so.")
        for _number in range(3):
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)

    checks(check("domain", interrupts if when == "in a check" else finding("fail")))
    closed, write = Subject.__exit__, storage.write_named

    def closes(subject: Subject, *error: object) -> None:
        signal.raise_signal(signal.SIGINT)
        closed(subject, *error)

    def writes(path: Path, content: str) -> None:
        signal.raise_signal(signal.SIGINT)
        write(path, content)

    monkeypatch.setattr(Subject, "__exit__", closes)
    monkeypatch.setattr(storage, "write_named", writes)
    out = tmp_path / "verdict.json"
    assert main(["validate", URL, "--out", str(out)]) == 130
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["checks"]["domain"]["findings"][0]["outcome"] == "fail"
    assert kept["complete"] is (when == "after the checks")
    assert "fail: " in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(("command", "said"), [("validate", "begins anew"), ("build", "goes on from there")])
def test_an_interrupt_says_what_is_left(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.interrupted(command) == 130
    assert said in capsys.readouterr().err


def test_ctrl_c_while_modules_are_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeship.cli.streams.prepare", interrupted)
    with pytest.raises(SystemExit, match="130"):
        entry()
    assert capfd.readouterr().err == "\ninterrupted\n"
