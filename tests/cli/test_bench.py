"""`bench`: what it prints and keeps, its exit codes, and options that cannot be."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeship.cli import main
from edgeship.cli.bench import REQUESTS, AskedOptions, LoadOptions, _plan
from edgeship.measure.load.driver import Bounds, Load
from edgeship.measure.load.subject import Subject
from tests.chat_server import Handler, Server
from tests.measure.load.scripted_server import Script, scripted

FEW = ["--requests", "2", "--new-tokens", "12", "--prompt-tokens", "20"]


@pytest.fixture
def server() -> Iterator[Server]:
    with scripted(Script(tokenizes=True, first_s=0.0, gap_s=0.0)) as found:
        yield found


def test_a_document_of_every_level(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", server.url, *FEW, "--concurrency", "1,2", "--slo", "ttft=10s", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "edgeship/bench/1"
    assert told["target"]["kind"] == "url"
    assert [level["concurrency"] for level in told["levels"]] == [1, 2]
    for level in told["levels"]:
        for figure in ("ttft_s", "first_text_s", "tpot_s", "itl_s", "e2e_s"):
            assert {"mean", "p50", "p90", "p95", "p99", "needs"} <= level[figure].keys()
            assert level[figure]["p99"] is None
            assert level[figure]["needs"]["p99"] > 0
        assert level["output_tokens_per_s"] > 0
        assert (level["errors"], level["refused"]) == (0, {})


def test_a_table_and_files(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = {name: tmp_path / name for name in ("records", "markdown", "csv", "out")}
    files = [text for name, path in places.items() for text in (f"--{name}", str(path))]
    assert main(["bench", server.url, *FEW, "--rate", "100", "--arrivals", "fixed", *files]) == 0
    told = capsys.readouterr()
    assert "rate 100/s" in told.out
    assert "needs 9" in told.out
    assert len(places["records"].read_text(encoding="utf-8").splitlines()) == 2
    assert "| rate 100/s | 2 | 0 |" in places["markdown"].read_text(encoding="utf-8")
    assert places["csv"].read_text(encoding="utf-8").startswith("name,concurrency,")
    kept = json.loads(places["out"].read_text(encoding="utf-8"))
    assert (kept["schema"], kept["complete"], kept["stopped"]) == ("edgeship/bench/1", True, None)
    assert kept["levels"][0]["completed"] == 2


def test_a_target_that_answers_nothing_fails_and_what_was_seen_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(handler: Handler) -> None:
        handler.say({"error": {"message": "out of memory"}}, 500)

    prompts, kept = tmp_path / "prompts.jsonl", tmp_path / "records.jsonl"
    prompts.write_text('{"prompt": "a"}\n', encoding="utf-8")
    with scripted(Script(), completions=fail) as server:
        code = main(["bench", server.url, *FEW, "--prompts", str(prompts), "--records", str(kept), "--json"])
    told = capsys.readouterr()
    [level] = json.loads(told.out)["levels"]
    assert (code, level["errors"], level["completed"]) == (5, 2, 0)
    assert "no request was answered: the server failed (500): out of memory" in told.err
    assert len(kept.read_text(encoding="utf-8").splitlines()) == 2


def interrupt_after(records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, once so many answers of a level have come."""

    def tell(self: Any) -> None:
        if len(self._records) == records:
            raise KeyboardInterrupt

    monkeypatch.setattr("edgeship.measure.load.driver._Drive._tell", tell)


def test_what_was_measured_before_ctrl_c_is_printed_and_kept(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(4, monkeypatch)
    out = tmp_path / "bench.json"
    words = ["bench", server.url, *FEW[2:], "--requests", "9"]
    assert main([*words, "--out", str(out), "--json"]) == 130
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told == json.loads(out.read_text(encoding="utf-8"))
    assert (told["complete"], told["stopped"]) == (False, "interrupted")
    assert [(level["completed"], level["ended"]) for level in told["levels"]] == [(4, "interrupted")]
    assert "This is a part: the run was interrupted." in printed.err
    assert main(words) == 130
    printed = capsys.readouterr()
    assert "concurrency 1" in printed.out
    assert "This is a part: the run was interrupted." in printed.err


def test_ctrl_c_before_anything_was_measured(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(1, monkeypatch)  # while it warms up
    assert main(["bench", server.url, *FEW]) == 130
    assert capsys.readouterr().out == ""


def test_a_server_that_hangs_ends_the_command_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, script, left = tmp_path / "prompts.jsonl", Script(tokenizes=True, first_s=0.0, gap_s=0.0), [None] * 4
    prompts.write_text('{"prompt": "a"}\n', encoding="utf-8")

    def answer(handler: Handler) -> None:
        if left:
            left.pop()
            script.answer(handler)
        else:
            handler.wait_until_the_client_is_gone()

    with scripted(script, completions=answer) as server:
        words = ["bench", server.url, "--new-tokens", "12", "--prompts", str(prompts), "--timeout", "0.3"]
        assert main([*words, "--concurrency", "1,2,3"]) == 5
        told = capsys.readouterr()
        assert "error: 2 x timeout: nothing of the answer came in 0.3 s" in " ".join(told.err.split())
        assert "This is a part: a target said nothing for as long as a request may take" in told.err
        assert ("concurrency 1" in told.out, "concurrency 2" in told.out) == (True, False)
        assert main([*words, "--json"]) == 5
    told = capsys.readouterr()
    [level] = json.loads(told.out)["levels"]
    assert (level["requests"], level["ended"]) == (1, "silent")
    assert "no request was answered: nothing of the answer came in 0.3 s" in told.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--concurrency", "0"], "--concurrency is '0'; it must be whole numbers from 1"),
        (["--concurrency", "1,x"], "--concurrency is '1,x'"),
        (["--concurrency", "2,2"], "each once"),
        (["--concurrency", ""], "--concurrency is ''"),
        (["--rate", "-1"], "--rate is '-1'; it must be numbers from 0.001 to 1,000,000"),
        (["--rate", "1e-300"], "--rate is '1e-300'; it must be numbers from 0.001"),
        (["--rate", "nan"], "--rate is 'nan'"),
        (["--rate", "inf"], "--rate is 'inf'"),
        (["--rate", "1", "--sweep"], "--rate and --sweep exclude each other"),
        (["--concurrency", "1", "--rate", "1"], "--concurrency and --rate exclude each other"),
        (["--duration", "soon"], "--duration is 'soon'; it must be seconds"),
        (["--timeout", "0"], "--timeout is 0"),
        (["--slo", "ttft"], "'ttft' is no limit"),
        (["--slo", "speed=1s"], "'speed=1s' is no limit"),
        (["--slo", "ttft=1s,ttft=2s"], "is no limit"),
        (["--slo", "ttft=fast"], "--slo ttft is 'fast'"),
        (["--replay"], "--replay needs conversations"),
        (["--records", "."], "that is a folder"),
        (["--out", "."], "that is a folder"),
        (["--api-key-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE is not set"),
        (["--slots", "2"], "a server decides on its slots"),
        (["--prompts", "no-such-file"], "prompts file cannot be read"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: list[str], told: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", server.url, *options]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def late() -> Iterator[Server]:
    """A server that answers late."""
    with scripted(Script(tokenizes=True, first_s=0.05, gap_s=0.0)) as found:
        yield found


TURNS = ["--requests", "3", "--repeat", "5", "--warm-up", "0", "--new-tokens", "12", "--prompt-tokens", "20"]


@pytest.mark.parametrize(
    ("conditions", "code", "outcome"),
    [
        (["ttft_p50 > 1.1x", "ttft_p99 > 1.1x"], 1, "fail"),
        (["ttft_p50 < 0.9x", "errors > 0%"], 0, "pass"),
        (["ttft_p50 < 0.9x", "ttft_p99 > 1.1x"], 8, "undecided"),
    ],
)
def test_conditions_on_two_targets_are_a_gate(
    conditions: list[str],
    code: int,
    outcome: str | None,
    server: Server,
    late: Server,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [word for text in conditions for word in ("--fail-if", text)]
    assert main(["bench", "--compare", server.url, late.url, *TURNS, *options, "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["outcome"]) == ("edgeship/bench-pair/1", outcome)
    assert [one["condition"] for one in told["conditions"]] == conditions


def test_two_targets_in_tables_and_files(
    server: Server, late: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {name: tmp_path / name for name in ("records", "markdown", "csv", "out")}
    files = [text for name, path in places.items() for text in (f"--{name}", str(path))]
    conditions = ["--fail-if", "ttft_p50 > 1.1x", "--fail-if", "e2e_p95 > 2s"]
    assert main(["bench", server.url, late.url, "--compare", *TURNS, *conditions, *files]) == 1
    told = capsys.readouterr()
    assert "B/A" in told.out
    assert "holds: B fails" in told.out
    assert "outcome: fail" in told.out
    assert "e2e_p95 > 2s is undecided: A: it takes 115 requests more" in " ".join(told.err.split())
    assert len(places["records"].read_text(encoding="utf-8").splitlines()) == 30
    assert "| ttft_p50 > 1.1x | concurrency 1 |" in places["markdown"].read_text(encoding="utf-8")
    kept = json.loads(places["out"].read_text(encoding="utf-8"))
    assert (kept["schema"], kept["outcome"], kept["complete"]) == ("edgeship/bench-pair/1", "fail", True)
    rows = places["csv"].read_text(encoding="utf-8").splitlines()
    assert rows[0] == "load,figure,unit,a,b,ratio,ratio_low,ratio_high,why,stopped"
    assert any(row.startswith("concurrency 1,ttft_p50,s,0.") for row in rows)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a", "b"], "2 targets are named, and one is measured"),
        (["a", "--compare"], "--compare takes two targets, and 1 are named"),
        (["a", "b", "c", "--compare"], "--compare takes two targets, and 3 are named"),
        (["a", "b", "--compare", "--sweep"], "--sweep and --compare exclude each other"),
        (["a", "--fail-if", "ttft_p50 > 1.1x"], "--fail-if needs two targets"),
        (["a", "b", "--compare", "--fail-if", "tfft_p50 > 1.1x"], "Did you mean ttft_p50?"),
    ],
)
def test_words_that_compare_nothing_are_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_target_of_two_that_answers_nothing_decides_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(handler: Handler) -> None:
        handler.say({"error": {"message": "out of memory"}}, 500)

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a"}\n', encoding="utf-8")
    with scripted(Script(tokenizes=True), completions=fail) as broken:
        words = ["bench", "--compare", server.url, broken.url, *TURNS, "--fail-if", "ttft_p50 > 1.1x"]
        assert main([*words, "--prompts", str(prompts)]) == 5
    assert "no request was answered" in capsys.readouterr().err


def interrupt_at_drive(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, at the so-and-so many time that either target is asked."""
    drives, drive = itertools.count(1), Subject.drive

    def driven(self: Subject, *given: Any, **named: Any) -> Any:
        if next(drives) == number:
            raise KeyboardInterrupt
        return drive(self, *given, **named)

    monkeypatch.setattr(Subject, "drive", driven)


def test_turns_before_ctrl_c_are_told_and_decide_nothing(
    server: Server, late: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at_drive(6, monkeypatch)
    words = ["bench", "--compare", server.url, late.url, *TURNS, "--fail-if", "ttft_p50 > 1.1x", "--json"]
    assert main(words) == 130
    told = json.loads(capsys.readouterr().out)
    assert (told["turns"], told["stopped"], told["outcome"]) == (2, "interrupted", "undecided")


def test_conditions_that_were_met_in_part_of_the_turns_do_not_pass(
    server: Server, late: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at_drive(12, monkeypatch)
    words = ["bench", "--compare", server.url, late.url, *TURNS, "--repeat", "6", "--fail-if", "ttft_p50 < 0.9x"]
    assert main([*words, "--json"]) == 130
    told = json.loads(capsys.readouterr().out)
    assert (told["turns"], told["conditions"][0]["verdict"], told["outcome"]) == (5, "fails", "undecided")


def test_how_much_two_targets_are_asked_where_that_is_not_said() -> None:
    made = _plan(AskedOptions(), LoadOptions(concurrency="1,8"), compared=True)
    assert (made.bounds.requests, made.repeats) == (8, 12)
    made = _plan(AskedOptions(), LoadOptions(duration="5s", repeat=6), compared=True)
    assert (made.bounds, made.repeats) == (Bounds(None, 5.0, 300.0), 6)


def test_a_package_has_no_key_and_no_choice_of_models(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del own_home
    assert main(["bench", "nothing", "--model", "m"]) == 2
    assert "only a server has a choice of models" in capsys.readouterr().err
    assert main(["bench", "nothing"]) == 4


def plan(**load: Any) -> tuple[Bounds, tuple[Load, ...]]:
    made = _plan(AskedOptions(), LoadOptions(**load))
    return made.bounds, made.loads


def test_how_much_is_asked_where_that_is_not_said() -> None:
    assert plan() == (Bounds(REQUESTS, None, 300.0), (Load(1),))
    assert plan(duration="30s")[0] == Bounds(None, 30.0, 300.0)
    assert plan(duration="1m", requests=5, timeout="9")[0] == Bounds(5, 60.0, 9.0)
    assert plan(rate="0.5,2")[1] == (Load(rate_per_s=0.5), Load(rate_per_s=2.0))
