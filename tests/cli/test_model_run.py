"""`model run` with a prompt: settings and constraints reach the engine, and what cannot be read is named."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from edgeship.cli import main
from edgeship.cli.model_run import AnswerOptions
from edgeship.engine.api import Constraint, Conversation, Limits, Sampling
from edgeship.errors import ConstraintInvalid, UsageError
from tests.chat_server import answers_of, models, serving
from tests.checkpoints import make_checkpoint
from tests.scripted import ScriptedEngine

ANSWER = '{"ok": true} and more'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that looks like a package, run by a scripted engine."""
    (tmp_path / "genai_config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("edgeship.targets.load_chat", lambda *_, **__: ScriptedEngine({"hello": ANSWER}))
    return str(tmp_path)


def test_a_stop_text_ends_the_answer(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "run", package, "hello", "--stop", "never", "--stop", " and"]) == 0
    assert capsys.readouterr().out == '{"ok": true}\n'


def test_settings_out_of_range_are_refused(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "run", package, "hello", "--min-p", "1.5"]) == 2
    assert "min_p is 1.5" in capsys.readouterr().err


def test_every_setting_reaches_the_engine(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sampling] = []

    def answer_once(_: object, __: object, sampling: Sampling, **___: object) -> int:
        seen.append(sampling)
        return 0

    monkeypatch.setattr("edgeship.cli.chat.answer_once", answer_once)
    options = {
        "temperature": 0.5,
        "top-p": 0.9,
        "top-k": 7,
        "min-p": 0.1,
        "repetition-penalty": 1.1,
        "presence-penalty": 0.2,
        "frequency-penalty": -0.3,
        "max-tokens": 9,
        "thinking-tokens": 0,
        "seed": 3,
        "regex": "a+",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["model", "run", package, "hello", *words]) == 0
    wanted = {name.replace("-", "_"): value for name, value in options.items() if name != "regex"}
    assert seen == [Sampling(**wanted, constraint=Constraint("regex", "a+"))]  # type: ignore[arg-type]


def test_constraints_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "constraint"
    file.write_text('start: "ü"', encoding="utf-8")
    assert AnswerOptions(grammar=file).constraint() == Constraint("lark", 'start: "ü"')
    schema = tmp_path / "schema.json"
    schema.write_text('{"const": "ü"}', encoding="utf-8")
    assert AnswerOptions(schema=str(schema)).constraint() == Constraint("json_schema", '{"const": "ü"}')
    assert AnswerOptions(regex="").constraint() == Constraint("regex", "")
    assert AnswerOptions().constraint() is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_schema_may_be_written_by_powershell(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "schema.json").write_text("{}", encoding=encoding)
    assert AnswerOptions(schema=str(tmp_path / "schema.json")).constraint() == Constraint("json_schema", "{}")


@pytest.mark.parametrize(
    ("prompt", "piped", "asked"),
    [
        (["Summarise this:"], "My order is S-77777\n", "Summarise this:\n\nMy order is S-77777"),
        (["hello"], "\n", "hello"),
        ([], "\ufeffhello\r\n", "hello"),
    ],
)
def test_what_is_piped_in_follows_the_prompt(
    prompt: list[str], piped: str, asked: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def answer_once(_: object, conversation: Conversation, *__: object, **___: object) -> int:
        seen.append(conversation.messages)
        return 0

    monkeypatch.setattr("edgeship.cli.chat.answer_once", answer_once)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped.encode())))
    assert main(["model", "run", package, *prompt]) == 0
    assert seen == [[{"role": "user", "content": asked}]]


def test_template_variables_reach_an_answer_and_a_chat(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def take(*_: object, variables: object, **__: object) -> int:
        seen.append(variables)
        return 0

    def answer_once(_: object, conversation: Conversation, *__: object, **___: object) -> int:
        return take(variables=conversation.variables)

    monkeypatch.setattr("edgeship.cli.chat.answer_once", answer_once)
    monkeypatch.setattr("edgeship.cli.chat.chat", take)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    options = ["--template-var", "enable_thinking=false", "--template-var", "mood=calm"]
    assert main(["model", "run", package, "hello", *options]) == 0
    assert seen == [{"enable_thinking": False, "mood": "calm"}]


def test_functions_are_called(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tools.json"
    schema = {"properties": {"city": {"const": "Bonn"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}} for name in ("weather", "time")]
    file.write_text(json.dumps(tools), encoding="utf-8")
    run = ["model", "run", package, "hello", "--tools", str(file)]
    assert main(run) == 0
    assert capsys.readouterr().out == '{"ok": true} and more\n'
    assert main([*run, "--tool-choice", "time", "--max-tokens", "500"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"name": "time", "arguments": {"city": "Bonn"}} in lines
    assert main([*run, "--tool-choice", "time", "--max-tokens", "5"]) == 8
    assert "the answer is incomplete" in capsys.readouterr().err
    assert main([*run, "--tool-choice", "weather", "--max-tokens", "500", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["answer"], found["finish"], found["tool_calls"][0]["name"]) == ("", "tool_calls", "weather")


@pytest.mark.parametrize(
    ("content", "words", "why"),
    [
        (None, ["hello"], "the tools cannot be read"),
        ("[", ["hello"], "the tools cannot be read"),
        ("{}", ["hello"], "the tools are no list"),
        ("[1]", ["hello"], "tool 1 is no object"),
        ("[]", ["hello", "--tool-choice", "time"], "no tool has that name"),
        ('[{"function": {"name": "f"}}]', [], "--tools needs a prompt"),
    ],
)
def test_tools_that_cannot_be_used(
    content: str | None,
    words: list[str],
    why: str,
    package: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    file = tmp_path / "tools.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert main(["model", "run", package, *words, "--tools", str(file)]) == 2
    assert why in capsys.readouterr().err


def test_nothing_to_answer(package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" \n")))
    assert main(["model", "run", package]) == 2
    assert "nothing was piped in" in capsys.readouterr().err


def test_constraints_as_people_have_them(tmp_path: Path) -> None:
    for schema in (' {"type": "object"}', "true"):
        assert AnswerOptions(schema=schema).constraint() == Constraint("json_schema", schema)
    gbnf = tmp_path / "yes.gbnf"
    gbnf.write_text('root ::= "yes" | "no"\n', encoding="utf-8")
    made = AnswerOptions(grammar=gbnf).constraint()
    assert made is not None
    assert (made.kind, "start" in made.text, "::=" in made.text) == ("lark", True, False)
    gbnf.write_text('root ::= "yes', encoding="utf-8")
    with pytest.raises(ConstraintInvalid, match="GBNF"):
        AnswerOptions(grammar=gbnf).constraint()


def test_stop_texts_may_hold_escapes() -> None:
    options = AnswerOptions(stop=[r"\n\n", r"a\\n", r"\d", "plain"])
    assert options.sampling().stop == ("\n\n", r"a\n", r"\d", "plain")


def test_a_prompt_needs_no_quotes(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "run", package, "hello", "again", "--stop", " and"]) == 0
    assert capsys.readouterr().out == "I do not know.\n"


def test_settings_without_effect_are_told(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "run", package, "hello", "--top-k", "5", "--seed", "1"]) == 0
    assert "the answer is greedy, so --top-k, --seed will do nothing" in capsys.readouterr().err
    assert main(["model", "run", package, "hello", "--top-k", "5", "--temperature", "1"]) == 0
    assert "note" not in capsys.readouterr().err


def test_context_and_memory_reach_the_engine(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Limits] = []

    def load_chat(*_: object, limits: Limits, **__: object) -> ScriptedEngine:
        seen.append(limits)
        return ScriptedEngine({})

    monkeypatch.setattr("edgeship.targets.load_chat", load_chat)
    assert main(["model", "run", package, "hello", "--context", "100", "--kv-memory", "1MB"]) == 0
    assert seen == [Limits(slots=1, context_tokens=100, kv_bytes=10**6)]
    assert main(["model", "run", "http://localhost:1", "hello", "--context", "100"]) == 2


def test_a_context_that_the_model_does_not_have_is_told(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    has = ScriptedEngine({}).context_tokens
    assert main(["model", "run", package, "hello", "--context", str(has)]) == 0
    assert "--context" not in capsys.readouterr().err
    assert main(["model", "run", package, "hello", "--context", str(has + 1)]) == 0
    assert f"takes {has:,} tokens, and no --context makes that more" in capsys.readouterr().err


def test_what_is_no_package_is_told_as_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.gguf").touch()
    assert main(["model", "run", str(tmp_path / "model.gguf"), "hello"]) == 4
    assert "llama.cpp" in capsys.readouterr().err
    checkpoint = make_checkpoint(tmp_path / "tiny")
    assert main(["model", "run", str(checkpoint), "hello"]) == 4
    assert f"build {checkpoint}" in capsys.readouterr().err


def test_one_constraint_at_most(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        AnswerOptions(schema=str(tmp_path), regex="a").constraint()


def test_a_constraint_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConstraintInvalid, match="cannot be read"):
        AnswerOptions(schema=str(tmp_path / "nowhere.json")).constraint()
    (tmp_path / "bytes").write_bytes(b"\xff\xfea")
    with pytest.raises(ConstraintInvalid, match="cannot be read") as caught:
        AnswerOptions(grammar=tmp_path / "bytes").constraint()
    assert caught.value.hint == "Give a regular file with the grammar in it."


@pytest.mark.parametrize(
    "words",
    [("--schema", '{"type": "objec"}'), ("--schema", " false"), ("--regex", "(a"), ("--grammar", "broken.lark")],
)
def test_a_constraint_that_is_broken_is_refused_before_a_model_is_opened(
    words: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgeship.targets.Target.open", lambda *_, **__: pytest.fail("it was opened"))
    Path("broken.lark").write_text('start: "a', encoding="utf-8")
    assert main(["model", "run", "http://127.0.0.1:1", "hello", *words]) == 2
    assert "constraint-invalid" in capsys.readouterr().err


def test_a_server_is_asked_by_its_address(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SERVER_KEY", "hunter2")
    with serving(answers_of(ScriptedEngine({"hello": ANSWER})), models("small", "large")) as server:
        command = ["model", "run", server.url.removesuffix("/v1"), "hello"]
        assert main([*command, "--model", "large", "--api-key-env", "SERVER_KEY", "--temperature", "0"]) == 0
        assert capsys.readouterr().out == ANSWER + "\n"
        _, headers, body = server.asked[-1]
        assert (body["model"], headers["Authorization"]) == ("large", "Bearer hunter2")
        assert main(command) == 2
        assert "small, large" in capsys.readouterr().err


@pytest.mark.parametrize(("variable", "shown"), [("NO_SUCH_KEY", True), ("sk-hunter2", False)])
def test_a_key_that_is_not_set(variable: str, shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "run", "http://localhost:1", "hello", "--api-key-env", variable]) == 2
    error = capsys.readouterr().err
    assert "is not set" in error
    assert (variable in error) == shown


@pytest.mark.slow
def test_what_of_a_schema_is_not_enforced_is_refused_or_said(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.dumps({"type": "array", "items": {"type": "boolean"}, "maxItems": 1, "uniqueItems": True})
    asked = ["model", "run", package, "hello", "--schema", "{" + schema[1:]]
    assert main(asked) == 2
    assert "uniqueItems at # cannot be enforced" in capsys.readouterr().err
    assert main([*asked, "--schema-lenient"]) == 0
    assert "note: not enforced, so check the answer for it: uniqueItems at #" in capsys.readouterr().err


@pytest.mark.slow
def test_an_answer_is_held_to_a_schema(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(
        json.dumps({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}), encoding="utf-8"
    )
    assert main(["model", "run", package, "hello", "--schema", str(schema)]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True}
    schema.write_text('{"type": 3}', encoding="utf-8")
    assert main(["model", "run", package, "hello", "--schema", str(schema)]) == 2
    assert "json schema cannot be used" in capsys.readouterr().err
