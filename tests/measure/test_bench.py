"""A whole bench: against a server that answers as it is told to, and against the real engine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeship import targets
from edgeship.errors import EngineFailed, UsageError
from edgeship.measure.bench import Bench, Plan, bench
from edgeship.measure.load import records, tables
from edgeship.measure.load.driver import Bounds, Load
from edgeship.measure.load.figures import Slo
from edgeship.measure.load.subject import Access, Asked
from edgeship.settings import Settings
from tests.chat_server import Handler
from tests.measure.load.scripted_server import Script, scripted

FEW = Bounds(3, None, 10.0)
QUICK: dict[str, Any] = {"first_s": 0.0, "gap_s": 0.0}


def run(url: str, settings: Settings, *, bounds: Bounds = FEW, clients: int = 3, **facts: Any) -> Bench:
    asked: dict[str, Any] = {"prompt_tokens": 20, "new_tokens": 12}
    asked |= {name: facts.pop(name) for name in ("new_tokens", "prompts", "replay") if name in facts}
    plan = Plan(Asked(**asked), bounds, (Load(clients),), **facts)
    return bench(targets.resolve(url, settings), plan, Access())


def level_of(script: Script, settings: Settings, **facts: Any) -> dict[str, Any]:
    with scripted(script) as server:
        [level] = run(server.url, settings, **facts).document["levels"]
    return dict(level)


def of_target(level: dict[str, Any]) -> list[str]:
    """What is doubted of the target: the machine of the tests may be busy, and its client late."""
    return [text for text in level["warnings"] if not text.startswith(("machine-busy", "client-"))]


def near(value: float, truth: list[float]) -> bool:
    """Within 2 % of what the server itself saw."""
    return value == pytest.approx(statistics.fmean(truth), rel=0.02)


def test_the_figures_are_what_the_server_did(settings: Settings) -> None:
    script = Script(tokenizes=True)
    level = level_of(script, settings)
    assert len(script.sent) == 3
    assert near(level["ttft_s"]["mean"], [one.ttft_s for one in script.sent])
    assert near(level["tpot_s"]["mean"], [one.tpot_s for one in script.sent])
    assert near(level["itl_s"]["mean"], [gap for one in script.sent for gap in one.gaps_s])
    assert near(level["e2e_s"]["mean"], [one.end_s - one.asked_s for one in script.sent])
    assert (level["errors"], of_target(level), level["refused"]) == (0, [], {})
    assert (level["output_tokens"]["mean"], level["prompt_tokens"]) == (12, {"mean": 20, "min": 20, "max": 20})


def test_a_server_that_merges_chunks_and_tells_their_tokens_tells_tpot_and_no_itl(settings: Settings) -> None:
    script = Script(merge=4, continuous=True)
    level = level_of(script, settings, new_tokens=16)
    # A piece is sent with its last token.
    assert near(level["ttft_s"]["mean"], [one.tokens[3] - one.asked_s for one in script.sent])
    assert near(level["tpot_s"]["mean"], [(one.tokens[-1] - one.tokens[3]) / 12 for one in script.sent])
    assert (level["itl_s"]["mean"], level["refused"]) == (None, {"itl_s": "merged-chunks"})


@pytest.mark.parametrize(
    ("script", "refused"),
    [
        (Script(merge=4, **QUICK), {"itl_s": "merged-chunks", "tpot_s": "merged-chunks"}),
        (Script(empty=True, **QUICK), {}),
        (Script(thoughts=4, **QUICK), {}),
        (Script(ends_after=9, tokenizes=True, **QUICK), {}),
        (Script(usage=None, **QUICK), dict.fromkeys(("itl_s", "tpot_s", "output_tokens_per_s"), "usage-missing")),
        (
            Script(usage=0.5, **QUICK),
            dict.fromkeys(("itl_s", "tpot_s", "output_tokens_per_s"), "usage-differs"),
        ),
        (
            Script(usage=2.0, tokenizes=True, **QUICK),
            dict.fromkeys(("itl_s", "tpot_s", "output_tokens_per_s"), "usage-differs"),
        ),
        (
            Script(cached=16, **QUICK),
            dict.fromkeys(("ttft_s", "first_text_s", "e2e_s", "input_tokens_per_s"), "prefix-cache"),
        ),
    ],
    ids=["merged", "empty", "thinking", "short", "no usage", "half of usage", "twice the usage", "cached"],
)
def test_what_cannot_be_believed_is_refused_by_name(
    script: Script, refused: dict[str, str], settings: Settings
) -> None:
    prompts = {"prompts": None} if script.usage is not None or script.tokenizes else {"prompts": questions(settings)}
    level = level_of(script, settings, **prompts)
    assert level["refused"] == refused
    assert (level["errors"], level["completed"]) == (0, 3)
    for figure in refused:
        value = level[figure]
        assert (value["mean"] if isinstance(value, dict) else value) is None
    assert of_target(level)


def questions(settings: Settings) -> Path:
    file = settings.home / "questions.jsonl"
    file.write_text('{"prompt": "one"}\n{"prompt": "two"}\n{"prompt": "three"}\n', encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "refuses", [(), ("ignore_eos",), ("continuous_usage_stats",), ("ignore_eos", "stream_options")]
)
def test_a_server_that_refuses_what_is_asked_besides_is_asked_without_it(
    refuses: tuple[str, ...], settings: Settings
) -> None:
    script = Script(refuses=refuses, usage=1.0, tokenizes=True, **QUICK)
    with scripted(script) as server:
        [level] = run(server.url, settings).document["levels"]
        last = server.asked[-1][2] if server.asked[-1][0].endswith("completions") else server.asked[-4][2]
    assert (level["errors"], level["completed"]) == (0, 3)
    assert not any(name in str(last) for name in refuses)
    assert ("ignore_eos" in str(last)) == ("ignore_eos" not in refuses)


def hang(handler: Handler) -> None:
    handler.begin()
    time.sleep(0.5)


def fail(handler: Handler) -> None:
    handler.say({"error": {"message": "out of memory"}}, 500)


def break_off(handler: Handler) -> None:
    handler.begin()
    handler.event({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    handler.cut()


def malformed(handler: Handler) -> None:
    handler.begin()
    handler.event("{broken")
    handler.event("[DONE]")
    handler.end()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (hang, "timeout", "not complete in 0.3 s"),
        (fail, "remote-failed", r"failed (500): out of memory"),
        (break_off, "remote-failed", "broke"),
        (malformed, "malformed-stream", "no JSON"),
        (Script(model="another", **QUICK).answer, "another-model", "test-model was asked, and another answered"),
    ],
    ids=["hangs", "500", "closes", "malformed", "another model"],
)
def test_a_target_that_fails_has_errors_and_no_fast_answers(
    answer: Callable[[Handler], None], kind: str, words: str, settings: Settings
) -> None:
    with scripted(Script(), completions=answer) as server:
        bounds = Bounds(2, None, 0.3)
        [level] = run(server.url, settings, bounds=bounds, clients=2, prompts=questions(settings)).document["levels"]
    assert (level["errors"], level["completed"], level["requests"]) == (2, 0, 2)
    assert [one["kind"] for one in level["error_kinds"]] == [kind]
    assert words in level["error_kinds"][0]["what"]
    assert (level["ttft_s"]["mean"], level["e2e_s"]["mean"], level["requests_per_s"]) == (None, None, 0.0)


def test_a_server_that_tells_no_lengths_is_asked_the_users_questions(settings: Settings) -> None:
    with (
        scripted(Script(usage=None, **QUICK)) as server,
        pytest.raises(EngineFailed, match="exact length"),
    ):
        run(server.url, settings)


def test_a_budget_of_time_keeps_what_was_measured(settings: Settings) -> None:
    script = Script(first_s=0.0, gap_s=0.002, tokenizes=True)
    level = level_of(script, settings, bounds=Bounds(None, 0.3, 10.0), clients=1)
    assert level["ended"] == "duration"
    assert level["completed"] == level["requests"] >= 1
    assert level["wall_s"] < 5


def test_a_sweep_ends_where_more_clients_gain_nothing_and_tells_the_knee(settings: Settings) -> None:
    script = Script(first_s=0.0, gap_s=0.004, tokenizes=True)
    with scripted(script) as server:
        whole = run(server.url, settings, sweep=True, bounds=Bounds(4, None, 10.0)).document
    clients = [level["concurrency"] for level in whole["levels"]]
    assert clients == [2**power for power in range(len(clients))]
    assert whole["knee"]["concurrency"] in clients
    # Four requests gain nothing by more than four clients.
    assert whole["knee"]["reached"]
    assert whole["knee"]["concurrency"] <= 8


def test_two_levels_ask_no_prompt_twice(settings: Settings) -> None:
    with scripted(Script(tokenizes=True, **QUICK)) as server:
        plan = Plan(Asked(20, 12), Bounds(5, None, 10.0), (Load(1), Load(2)), repeats=2)
        whole = bench(targets.resolve(server.url, settings), plan, Access())
        asked = [body["messages"][0]["content"] for path, _, body in server.asked if path.endswith("completions")]
    assert len(asked) == len(set(asked)) > 20
    assert [len(level["repeats"]) for level in whole.document["levels"]] == [2, 2]


def test_records_are_kept_without_any_text_and_give_the_figures_again(settings: Settings, tmp_path: Path) -> None:
    with scripted(Script(tokenizes=True, **QUICK)) as server:
        done = run(server.url, settings, slo=Slo({"ttft": 10.0}))
    file = tmp_path / "records.jsonl"
    records.write(file, done.records)
    assert "word3" not in file.read_text(encoding="utf-8")
    read = list(records.read(file, UsageError))
    [(_, kept)] = done.records
    assert [record for _, record in read] == list(kept)
    assert read[0][0] == {"level": "concurrency 3"}
    file.write_text(file.read_text(encoding="utf-8").splitlines()[0] + "\n{}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2 is no record"):
        list(records.read(file, UsageError))


def test_tables_have_every_level(settings: Settings) -> None:
    with scripted(Script(tokenizes=True, merge=4, **QUICK)) as server:
        whole = run(server.url, settings, slo=Slo({"ttft": 10.0})).document
    markdown, lines = tables.as_markdown(whole), tables.as_csv(whole).splitlines()
    assert "| concurrency 3 | 3 | 0 |" in markdown
    assert "needs 8" in markdown
    assert "- concurrency 3: merged-chunks: " in markdown
    assert len(lines) == 2
    cells = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert (cells["name"], cells["requests"], cells["ttft_p99_s"], cells["tpot_mean_s"]) == (
        "concurrency 3",
        "3",
        "",
        "",
    )
    assert float(cells["ttft_mean_s"]) == whole["levels"][0]["ttft_s"]["mean"]
    assert cells["goodput_share"] == "1.0"


@pytest.mark.slow
def test_a_package_is_measured_in_a_process_of_its_own(example: Path, settings: Settings) -> None:
    plan = Plan(Asked(48, 16), Bounds(12, None, 60.0), (Load(1), Load(4)), slo=Slo({"ttft": 60.0}))
    whole = bench(targets.resolve(example, settings), plan, Access()).document
    assert whole["schema"] == "edgeship/bench/1"
    assert whole["target"]["load_s"] > 0
    assert whole["target"]["first_request"]["cold"]["ttft_s"] > 0
    for level in whole["levels"]:
        assert (level["completed"], level["errors"], of_target(level), level["refused"]) == (12, 0, [], {})
        assert level["cost"]["rss_peak_bytes"] > 0
        assert (level["prompt_tokens"]["mean"], level["output_tokens"]["mean"]) == (48, 16)
        assert level["itl_s"]["values"] == 12 * 15
        assert level["cached_tokens"] == 0
        assert 0 < level["ttft_s"]["p50"] < level["e2e_s"]["p50"]
        assert level["goodput"]["share"] == 1.0


@pytest.mark.slow
def test_a_prompt_beyond_the_context_is_refused_before_anything_is_asked(example: Path, settings: Settings) -> None:
    for asked in (Asked(10**6, 16), Asked(prompts=long_question(settings))):
        with pytest.raises(UsageError, match="context of"):
            bench(targets.resolve(example, settings), Plan(asked, FEW), Access())


def long_question(settings: Settings) -> Path:
    file = settings.home / "long.jsonl"
    file.write_text('{"prompt": "' + "word " * 3000 + '"}\n', encoding="utf-8")
    return file
