from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.cli import main
from edgeship.cli.eval import SHOWN_MAX_DROP, JudgedOptions
from edgeship.engine.api import Limits
from tests.chat_server import Handler, answers_of, models, serving
from tests.scripted import ScriptedEngine

LINES = [
    {"id": "a", "slice": "seen", "tags": ["short"], "messages": [{"role": "user", "content": "a"}], "expected": "yes"},
    {"id": "b", "slice": "new", "messages": [{"role": "user", "content": "b"}], "expected": "no"},
    {"id": "c", "slice": "new", "messages": [{"role": "user", "content": "c"}], "expected": "no"},
]


@pytest.fixture
def cases(tmp_path: Path) -> str:
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES), encoding="utf-8")
    return str(path)


@pytest.fixture
def opened() -> list[dict[str, Any]]:
    """How the package was opened."""
    return []


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[dict[str, Any]]) -> str:
    """A folder that looks like a package, run by a scripted engine."""

    def load_chat(*_: object, **given: Any) -> ScriptedEngine:
        opened.append(given)
        return ScriptedEngine({"a": "yes", "b": "no", "c": "yes"}, slots=given["limits"].slots or given["slots"])

    monkeypatch.setattr("edgeship.targets.load_chat", load_chat)
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "genai_config.json").write_text("{}", encoding="utf-8")
    return str(folder)


def asked_of(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """The document of a run that ends with this code."""
    capsys.readouterr()
    assert main(["eval", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_it_is_told(package: str, cases: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", package, "--eval", cases]) == 0
    out, err = capsys.readouterr()
    assert "3 cases of" in out
    assert "66.7 %" in out
    assert "c\n    asked     c\n    expected  no\n    answer    yes\n" in out
    assert "because" not in out
    assert "greedily the answers are the same" in err
    assert "times are of answers made 16 at a time" in err


def test_the_document_is_printed_and_kept(
    package: str, cases: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kept.json"
    found = asked_of(capsys, package, "--eval", cases, "--out", str(out), "--seed", "3", "--template-var", "mood=calm")
    assert json.loads(out.read_text(encoding="utf-8")) == found
    assert (found["schema"], found["complete"], found["file"]) == ("edgeship/eval/1", True, cases)
    assert found["target"] == {
        "kind": "folder",
        "name": package,
        "model": None,
        "engine": "scripted",
        "context_tokens": 4096,
    }
    assert (found["settings"]["seed"], found["settings"]["template_variables"]) == (3, {"mood": "calm"})
    assert found["ways"]["shipped"]["pass_rate"] == pytest.approx(2 / 3)


def test_an_engine_has_as_many_slots_as_are_asked_for(
    package: str, cases: str, opened: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked_of(capsys, package, "--eval", cases)["ways"]["shipped"]["concurrency"] == 16
    assert asked_of(capsys, package, "--eval", cases, "--concurrency", "2")["ways"]["shipped"]["concurrency"] == 2
    assert [(given["slots"], given["limits"]) for given in opened] == [(16, Limits()), (16, Limits(slots=2))]


def test_some_of_the_cases(package: str, cases: str, capsys: pytest.CaptureFixture[str]) -> None:
    def ids(*options: str) -> list[str]:
        return [case["id"] for case in asked_of(capsys, package, "--eval", cases, *options)["cases"]]

    assert ids("--slice", "new") == ["b", "c"]
    assert ids("--tag", "short") == ["a"]
    assert ids("--slice", "seen", "--slice", "new", "--limit", "2") == ["a", "b"]
    assert main(["eval", package, "--eval", cases, "--slice", "old"]) == 2
    assert "There are: new, seen." in capsys.readouterr().err
    assert main(["eval", package, "--eval", cases, "--slice", "new", "--tag", "short"]) == 2
    assert main(["eval", package, "--eval", cases, "--tag", "long"]) == 2


@pytest.mark.parametrize(("least", "code"), [("0.6", 0), ("0.7", 1)])
def test_too_few_right_answers(least: str, code: int, package: str, cases: str) -> None:
    assert main(["eval", package, "--eval", cases, "--min-pass-rate", least]) == code


def test_beside_what_was_kept_and_beside_another_target(
    package: str, cases: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = str(tmp_path / "kept.json")
    assert main(["eval", package, "--eval", cases, "--out", kept]) == 0
    worse = ScriptedEngine({"b": "no"})
    monkeypatch.setattr("edgeship.targets.load_chat", lambda *_, **__: worse)
    capsys.readouterr()
    assert main(["eval", package, "--eval", cases, "--baseline", kept]) == 8
    out = capsys.readouterr().out
    assert "33.3 points below" in out
    assert "undecided whether it lost more than 2.0 points: about" in out
    assert out.index("a, which the baseline passes") < out.index("c, as the baseline does")
    engines = iter([ScriptedEngine({"b": "no"}), ScriptedEngine({"a": "yes", "b": "no", "c": "no"})])
    monkeypatch.setattr("edgeship.targets.load_chat", lambda *_, **__: next(engines))
    change = asked_of(capsys, package, "--eval", cases, "--baseline", package, code=8)["baseline"]["ways"]["shipped"]
    assert (change["lost"], change["baseline_pass_rate"]) == (["a", "c"], 1.0)
    assert main(["eval", package, "--eval", cases, "--baseline", cases]) == 2


@pytest.mark.parametrize(
    ("lost", "options", "code", "outcome", "said"),
    [
        (0, [], 0, "holds", "it surely lost no more than 2.0 points"),
        (40, [], 1, "fails", "it surely lost more than 2.0 points"),
        (40, ["--max-drop", "0.4"], 0, "holds", "it surely lost no more than 40.0 points"),
        (3, [], 0, "holds", "it lost no more than 2.0 points, and surely no more than 4.0"),
        (5, [], 8, "undecided", "undecided whether it lost more than 2.0 points: about"),
        (5, ["--min-pass-rate", "1"], 1, "undecided", "undecided whether it lost more than 2.0 points"),
    ],
)
def test_a_drop_is_held_to_a_margin(
    lost: int,
    options: list[str],
    code: int,
    outcome: str,
    said: str,
    package: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"q{number}" for number in range(200)]
    lines = [{"id": name, "messages": [{"role": "user", "content": name}], "expected": "yes"} for name in names]
    cases, kept = tmp_path / "many.jsonl", tmp_path / "kept.json"
    cases.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    engines = iter(ScriptedEngine(dict.fromkeys(names[wrong:], "yes"), slots=16) for wrong in (0, lost))
    monkeypatch.setattr("edgeship.targets.load_chat", lambda *_, **__: next(engines))
    assert main(["eval", package, "--eval", str(cases), "--as", "greedy", "--out", str(kept)]) == 0
    now = tmp_path / "now.json"
    words = ["eval", package, "--eval", str(cases), "--as", "greedy", "--baseline", str(kept), "--out", str(now)]
    assert main([*words, *options]) == code
    assert said in capsys.readouterr().out
    found = json.loads(now.read_text(encoding="utf-8"))["baseline"]
    assert (found["outcome"], found["ways"]["greedy"]["outcome"]) == (outcome, outcome)
    assert len(found["ways"]["greedy"]["lost"]) == lost


def test_the_margin_is_the_release_gates() -> None:
    from edgeship.validate.domain import DomainBounds

    assert JudgedOptions().margin() == DomainBounds().max_drop == float(SHOWN_MAX_DROP.split(",")[0])


def test_ctrl_c_while_the_baseline_is_asked_keeps_what_the_target_answered(
    package: str, cases: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeship.measure.evaluation.evaluate import answers

    given: list[int] = []

    def interrupted(*asked: Any, **options: Any) -> Any:
        given.append(0)
        if len(given) > 1:
            yield next(answers(*asked, **options))
            raise KeyboardInterrupt
        yield from answers(*asked, **options)

    monkeypatch.setattr("edgeship.measure.evaluation.target.answers", interrupted)
    out = tmp_path / "kept.json"
    words = ["eval", package, "--eval", cases, "--baseline", package, "--concurrency", "1", "--out", str(out)]
    assert main(words) == 130
    found = json.loads(out.read_text(encoding="utf-8"))
    assert (found["ways"]["shipped"]["cases"], found["baseline"]["ways"]["shipped"]["cases"]) == (3, 1)


def test_what_was_answered_is_kept_though_the_baseline_is_of_other_cases(
    package: str, cases: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, kept, out = tmp_path / "other.jsonl", tmp_path / "kept.json", tmp_path / "out.json"
    other.write_text(json.dumps(LINES[0] | {"expected": "something else"}), encoding="utf-8")
    assert main(["eval", package, "--eval", str(other), "--out", str(kept)]) == 0
    assert main(["eval", package, "--eval", cases, "--baseline", str(kept), "--out", str(out)]) == 2
    assert "no case that was answered in the same way" in capsys.readouterr().err
    assert json.loads(out.read_text(encoding="utf-8"))["ways"]["shipped"]["cases"] == 3


def test_a_server_is_judged_by_the_same_cases(cases: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answers_of(ScriptedEngine({"a": "yes", "b": "no", "c": "no"})), models("small")) as server:
        found = asked_of(capsys, server.url, "--eval", cases, "--as", "greedy")
        assert (found["target"]["model"], found["ways"]["greedy"]["passed"]) == ("small", 3)
        assert main(["eval", server.url, "--eval", cases, "--as", "greedy"]) == 0
        assert "4 at a time, with what a server lets them wait" in capsys.readouterr().err
        assert {body["temperature"] for path, _, body in server.asked if path.endswith("completions")} == {0}


def test_answers_that_do_not_come_are_errors(cases: str, capsys: pytest.CaptureFixture[str]) -> None:
    scripted = answers_of(ScriptedEngine({"a": "yes", "b": "no"}))

    def fails_at_c(handler: Handler) -> None:
        if handler.server.asked[-1][2]["messages"][-1]["content"] == "c":
            handler.say({"error": {"message": "out of luck"}}, 500)
        else:
            scripted(handler)

    with serving(fails_at_c, models("small")) as server:
        arguments = [server.url, "--eval", cases, "--as", "shipped", "--concurrency", "1"]
        way = asked_of(capsys, *arguments, "--min-pass-rate", "1", code=5)["ways"]["shipped"]
        assert (way["cases"], way["passed"], way["pass_rate"]) == (2, 2, 1.0)
        assert [(each["id"], each["code"]) for each in way["errors"]] == [("c", "remote-failed")]
        assert main(["eval", *arguments]) == 5
        assert "1 x remote-failed: the server failed (500): out of luck (such as c)" in capsys.readouterr().out
        only = [*arguments, "--slice", "new", "--limit", "1"]
        assert main(["eval", *only]) == 0


def test_another_models_answer_is_no_answer(cases: str, capsys: pytest.CaptureFixture[str]) -> None:
    def another(handler: Handler) -> None:
        handler.begin()
        handler.event(
            {"model": "other", "choices": [{"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}]}
        )
        handler.event("[DONE]")
        handler.end()

    with serving(another, models("small")) as server:
        assert main(["eval", server.url, "--eval", cases]) == 5
    assert "another model than the one that was asked answered: 'other'" in capsys.readouterr().err


def test_a_server_that_answers_nothing_is_the_error(cases: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda handler: handler.say("no", 500), models("small")) as server:
        assert main(["eval", server.url, "--eval", cases]) == 5
    assert "error[remote-failed]: the server failed (500): no" in capsys.readouterr().err


def test_a_server_that_hangs_is_not_waited_for_again_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"q{number}" for number in range(40)]
    lines = [{"id": name, "messages": [{"role": "user", "content": name}], "expected": "yes"} for name in names]
    cases = tmp_path / "many.jsonl"
    cases.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    scripted = answers_of(ScriptedEngine(dict.fromkeys(names, "yes")))

    def hangs(handler: Handler) -> None:
        if handler.server.asked[-1][2]["messages"][-1]["content"] == "q0":
            scripted(handler)
        else:
            handler.wait_until_the_client_is_gone()

    with serving(hangs, models("small")) as server:
        words = [server.url, "--eval", str(cases), "--timeout", "0.3", "--concurrency", "4"]
        found = asked_of(capsys, *words, code=5)
        assert len(server.asked) < 10
        assert list(found["ways"]) == ["shipped"]
        way = found["ways"]["shipped"]
        assert (way["cases"], len(way["errors"]), found["complete"]) == (1, 4, False)
        assert way["stopped"] == "nothing of 4 answers in a row came within 0.3 s"
        assert {each["what"] for each in way["errors"]} == {"nothing of the answer came within 0.3 s"}
        others = tmp_path / "others.jsonl"
        others.write_text("".join(json.dumps(line) + "\n" for line in lines[1:]), encoding="utf-8")
        assert main(["eval", server.url, "--eval", str(others), *words[3:]]) == 5
    assert "error[engine-failed]: nothing of the answer came within 0.3 s" in capsys.readouterr().err


def test_what_is_answered_before_ctrl_c_is_printed_and_kept(
    package: str, cases: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeship.measure.evaluation.evaluate import answers

    def interrupted(*given: Any, **options: Any) -> Any:
        yield next(answers(*given, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeship.measure.evaluation.target.answers", interrupted)
    out = tmp_path / "kept.json"
    found = asked_of(capsys, package, "--eval", cases, "--concurrency", "1", "--out", str(out), code=130)
    assert found == json.loads(out.read_text(encoding="utf-8"))
    assert (found["complete"], found["ways"]["shipped"]["stopped"]) == (False, "interrupted")
    assert [record["id"] for record in found["ways"]["shipped"]["records"]] == ["a"]
    assert main(["eval", package, "--eval", cases, "--concurrency", "1"]) == 130
    assert "this is a part: interrupted after 1 of 3 answers" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--timeout", "soon"],
        ["--duration", "0"],
        ["--as", "others"],
        ["--repeat", "0"],
        ["--template-var", "x"],
        ["--model", "x"],
        ["--baseline", "nothing/there"],
        ["--max-drop", "0.1"],
        ["--max-drop", "2"],
    ],
)
def test_options_that_mean_nothing(options: list[str], package: str, cases: str) -> None:
    assert main(["eval", package, "--eval", cases, *options]) in (2, 4)


def test_a_result_that_could_not_be_kept_is_refused_before_anything_is_asked(
    package: str, cases: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", package, "--eval", cases, "--out", str(tmp_path)]) == 2
    found = capsys.readouterr()
    assert "that is a folder, and a file is to be written" in found.err
    assert "answers" not in found.out + found.err


def test_a_schema_is_for_all_cases(package: str, cases: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked_of(capsys, package, "--eval", cases, "--schema", '{"enum": ["yes", "no"]}')
    assert found["settings"]["constraint"]["kind"] == "json_schema"
    assert {record["answer"] for record in found["ways"]["shipped"]["records"]} <= {'"yes"', '"no"'}


def test_what_is_similar_needs_a_model(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = tmp_path / "similar.jsonl"
    line = {"id": "a", "messages": LINES[0]["messages"], "assert": [{"type": "similar", "value": "yes"}]}
    cases.write_text(json.dumps(line), encoding="utf-8")
    assert main(["eval", package, "--eval", str(cases)]) == 2
    assert "Give --similar-by URL" in capsys.readouterr().err

    def embed(handler: Handler) -> None:
        texts = handler.server.asked[-1][2]["input"]
        handler.say({"data": [{"index": place, "embedding": [1.0, 0.0]} for place in range(len(texts))]})

    with serving(embed, models("small")) as server:
        server.answers["/v1/embeddings"] = embed
        found = asked_of(capsys, package, "--eval", str(cases), "--similar-by", server.url)
        assert found["ways"]["shipped"]["by_assertion"] == {"similar": {"passed": 1, "cases": 1}}
        server.answers["/v1/embeddings"] = lambda handler: handler.say("no", 500)
        assert main(["eval", package, "--eval", str(cases), "--similar-by", server.url]) == 5
