"""A whole bench: against a server that answers as it is told to, and against the real engine."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import targets
from edgeship.errors import UsageError
from edgeship.measure.load import figures, records, tables
from edgeship.measure.load.bench import Bench, Plan, bench
from edgeship.measure.load.driver import Bounds, Load
from edgeship.measure.load.figures import Slo
from edgeship.measure.load.records import Record
from edgeship.measure.load.subject import Access, Asked
from edgeship.progress import Progress
from edgeship.serve import create_app
from edgeship.settings import Settings
from tests.chat_server import Handler
from tests.measure.load.scripted_server import Script, Sent, scripted
from tests.serve.serving import serving

Figures = dict[str, tuple[Callable[[Record], float], Callable[[Sent], float]]]
FEW = Bounds(3, None, 10.0)
_TRIES = 6
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
    return [text for text in level["warnings"] if not text.startswith(("machine-busy", "client-", "bursts"))]


def agree(make: Callable[[], Script], figures: Figures, settings: Settings, **facts: Any) -> dict[str, Any]:
    """A level in which each figure of a request is within 2 % of what the server itself saw of that request.

    Each time one of four: a machine that is busy delays what goes between the two, and a wrong figure is always wrong.
    """
    worst: dict[str, float] = {}
    for _ in range(_TRIES):
        script = make()
        with scripted(script) as server:
            done = run(server.url, settings, bounds=Bounds(4, None, 10.0), clients=1, **facts)
        [(_, kept)] = done.records
        assert len(kept) == len(script.sent) == 4
        worst = {
            name: min(abs(ours(one) / theirs(sent) - 1) for one, sent in zip(kept, script.sent, strict=True))
            for name, (ours, theirs) in figures.items()
        }
        if max(worst.values()) < 0.02:
            break
    assert max(worst.values()) < 0.02, worst
    return dict(done.document["levels"][0])


def known(value: float | None) -> float:
    assert value is not None
    return value


def tpot_s(record: Record) -> float:
    return known(figures.tpot_s(record, record.reply.output_tokens))


@pytest.mark.slow
def test_the_figures_are_what_the_server_did(settings: Settings) -> None:
    level = agree(
        lambda: Script(tokenizes=True),
        {
            "ttft": (lambda one: known(figures.ttft_s(one)), lambda sent: sent.ttft_s),
            "first text": (lambda one: known(figures.first_text_s(one)), lambda sent: sent.ttft_s),
            "tpot": (tpot_s, lambda sent: sent.tpot_s),
            "itl": (
                lambda one: statistics.fmean(figures.gaps_s(one, shown_only=True)),
                lambda sent: statistics.fmean(sent.gaps_s),
            ),
            "e2e": (figures.e2e_s, lambda sent: sent.end_s - sent.asked_s),
        },
        settings,
    )
    assert (level["errors"], of_target(level), level["refused"]) == (0, [], {})
    assert (level["output_tokens"]["mean"], level["prompt_tokens"]) == (12, {"mean": 20, "min": 20, "max": 20})
    assert level["itl_s"]["values"] == 4 * 11


@pytest.mark.slow
def test_a_server_that_merges_chunks_and_tells_their_tokens_tells_tpot_and_no_itl(settings: Settings) -> None:
    # A piece is sent with its last token.
    level = agree(
        lambda: Script(merge=4, continuous=True),
        {
            "ttft": (lambda one: known(figures.ttft_s(one)), lambda sent: sent.tokens[3] - sent.asked_s),
            "tpot": (tpot_s, lambda sent: (sent.tokens[-1] - sent.tokens[3]) / 8),
        },
        settings,
    )
    assert (level["itl_s"]["mean"], level["refused"]) == (None, {"itl_s": "merged-chunks"})
    assert level["tpot_s"]["mean"] > 0


@pytest.mark.slow
def test_thoughts_come_first_and_text_after_them(settings: Settings) -> None:
    level = agree(
        lambda: Script(thoughts=4, tokenizes=True),
        {
            "ttft": (lambda one: known(figures.ttft_s(one)), lambda sent: sent.ttft_s),
            "first text": (lambda one: known(figures.first_text_s(one)), lambda sent: sent.tokens[4] - sent.asked_s),
        },
        settings,
    )
    assert [text.split(":")[0] for text in of_target(level)] == ["thinking"]


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


def stall(handler: Handler) -> None:
    handler.begin()
    handler.event({"choices": [{"index": 0, "delta": {"content": "a"}}]})
    handler.wait_until_the_client_is_gone()


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
        (hang, "timeout", "nothing of the answer came in 0.3 s"),
        (stall, "timeout", "the answer was not complete in 0.3 s"),
        (fail, "remote-failed", r"failed (500): out of memory"),
        (break_off, "remote-failed", "broke"),
        (malformed, "malformed-stream", "no JSON"),
        (Script(model="another", **QUICK).answer, "another-model", "test-model was asked, and another answered"),
    ],
    ids=["hangs", "stalls", "500", "closes", "malformed", "another model"],
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


def test_a_server_that_hangs_ends_the_run_with_what_came_before(settings: Settings) -> None:
    script, asked = Script(tokenizes=True, **QUICK), itertools.count()

    def hangs_later(handler: Handler) -> None:
        # A first short request and one to warm up come before those that count.
        (script.answer if next(asked) < 2 + 3 else Handler.wait_until_the_client_is_gone)(handler)

    with scripted(script, completions=hangs_later) as server:
        plan = Plan(Asked(20, 12), Bounds(50, None, 0.3), (Load(1), Load(2)), repeats=2)
        whole = bench(targets.resolve(server.url, settings), plan, Access()).document
    assert (whole["complete"], whole["stopped"]) == (False, "silent")
    [level] = whole["levels"]
    assert (level["completed"], level["errors"], level["ended"]) == (3, 2, "silent")
    assert [one["what"] for one in level["error_kinds"]] == ["nothing of the answer came in 0.3 s"]
    assert any(text.startswith("stopped-early: the target said nothing") for text in level["warnings"])


def interrupting(begin: str, time_of_it: int = 1) -> Callable[[str, float | None], None]:
    """A progress that is Ctrl-C, the time that a message begins so."""
    left = itertools.count(time_of_it, -1)

    def tell(message: str, fraction: float | None = None) -> None:
        del fraction
        if message.startswith(begin) and next(left) == 1:
            raise KeyboardInterrupt

    return tell


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer is told."""
    monkeypatch.setattr("edgeship.measure.load.driver._TOLD_EVERY_S", 0.0)


def interrupted(settings: Settings, progress: Progress, **facts: Any) -> Bench:
    plan = Plan(Asked(20, 12), Bounds(5, None, 10.0), (Load(1), Load(2)), **facts)
    with scripted(Script(tokenizes=True, **QUICK)) as server:
        return bench(targets.resolve(server.url, settings), plan, Access(), progress=progress)


@pytest.mark.usefixtures("talkative")
def test_ctrl_c_keeps_whole_levels_and_what_came_of_the_last(settings: Settings, tmp_path: Path) -> None:
    done = interrupted(settings, interrupting("concurrency 2: 3 of 5"))
    whole = done.document
    assert (whole["complete"], whole["stopped"]) == (False, "interrupted")
    assert [(level["completed"], level["ended"]) for level in whole["levels"]] == [(5, "requests"), (3, "interrupted")]
    assert any(text.startswith("stopped-early: the run was interrupted") for text in whole["levels"][1]["warnings"])
    assert len(done.records) == 2
    assert "This is a part: the run was interrupted." in tables.as_markdown(whole)
    lines = tables.as_csv(whole).splitlines()
    assert lines[0].endswith(",stopped")
    assert all(line.endswith(",interrupted") for line in lines[1:])
    file = tmp_path / "records.jsonl"
    records.write(file, done.records, whole["stopped"])
    assert {level["stopped"] for level, _ in records.read(file, UsageError)} == {"interrupted"}


@pytest.mark.usefixtures("talkative")
def test_ctrl_c_keeps_whole_repeats_alone_where_there_are_any(settings: Settings) -> None:
    whole = interrupted(settings, interrupting("concurrency 1: 3 of 5", 2), repeats=3).document
    assert [(level["completed"], level["ended"]) for level in whole["levels"]] == [(5, "requests")] * 2
    assert [len(level["repeats"]) for level in whole["levels"]] == [1, 1]
    assert whole["stopped"] == "interrupted"


@pytest.mark.parametrize("when", ["opening", "concurrency 1: warming up"])
def test_ctrl_c_before_anything_was_measured_is_nothing_but_that(when: str, settings: Settings) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(settings, interrupting(when))


@pytest.mark.usefixtures("talkative")
def test_ctrl_c_while_a_load_warms_up_keeps_the_loads_before(settings: Settings) -> None:
    whole = interrupted(settings, interrupting("concurrency 2: warming up")).document
    assert [level["concurrency"] for level in whole["levels"]] == [1]


@pytest.mark.usefixtures("talkative")
def test_a_sweep_that_was_interrupted_has_not_reached_its_knee(settings: Settings) -> None:
    first = interrupted(settings, interrupting("concurrency 1: 3 of 5"), sweep=True).document
    assert ([level["ended"] for level in first["levels"]], first["knee"]) == (["interrupted"], None)
    second = interrupted(settings, interrupting("concurrency 2: 3 of 5"), sweep=True).document
    assert [level["ended"] for level in second["levels"]] == ["requests", "interrupted"]
    assert (second["knee"]["concurrency"], second["knee"]["reached"]) == (1, False)


def test_a_server_that_tells_no_lengths_is_asked_as_many_words(settings: Settings) -> None:
    script = Script(usage=None, **QUICK)
    level = level_of(script, settings)
    assert [text.split(":")[0] for text in of_target(level)] == ["usage-missing", "prompt-unknown"]
    assert level["prompt_tokens"]["mean"] is None


def test_a_server_that_only_fails_is_counted_though_nothing_of_it_is_known(settings: Settings) -> None:
    with scripted(Script(), completions=fail) as server:
        [level] = run(server.url, settings).document["levels"]
        asked = [path for path, _, _ in server.asked]
    assert (level["errors"], level["completed"], level["requests"]) == (3, 0, 3)
    assert len(asked) == 4  # a first try, and neither counting nor a warm-up


def test_a_budget_of_time_keeps_what_was_measured(settings: Settings) -> None:
    script = Script(first_s=0.0, gap_s=0.002, tokenizes=True)
    level = level_of(script, settings, bounds=Bounds(None, 0.3, 10.0), clients=1)
    assert level["ended"] == "duration"
    assert level["completed"] == level["requests"] >= 1


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
    assert read[0][0] == {"level": "concurrency 3", "repeat": 0}
    file.write_text(file.read_text(encoding="utf-8").splitlines()[0] + "\n{}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2 is no record"):
        list(records.read(file, UsageError))


def test_percentiles_are_those_of_the_raw_records(settings: Settings, tmp_path: Path) -> None:
    with scripted(Script(tokenizes=True, **QUICK)) as server:
        done = run(server.url, settings, bounds=Bounds(64, None, 10.0))
    file = tmp_path / "records.jsonl"
    records.write(file, done.records)
    raw = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    times = [[one["at_s"] for one in each["arrivals"]] for each in raw]
    by_hand = {
        "ttft_s": [each[0] - one["sent_s"] for one, each in zip(raw, times, strict=True)],
        "tpot_s": [(one["end_s"] - each[0]) / (one["output_tokens"] - 1) for one, each in zip(raw, times, strict=True)],
        "itl_s": list(np.concatenate([np.diff(each) for each in times])),
        "e2e_s": [one["end_s"] - one["sent_s"] for one in raw],
    }
    [level] = done.document["levels"]
    for figure, values in by_hand.items():
        told = level[figure]
        assert told["mean"] == pytest.approx(np.mean(values))
        for name, percent in (("p50", 50), ("p90", 90)):
            assert told[name] == pytest.approx(np.percentile(values, percent))
        low, high = told["interval"]["mean"]
        assert low <= told["mean"] <= high
    wall_s = max(one["end_s"] for one in raw)
    assert level["output_tokens_per_s"] == pytest.approx(sum(one["output_tokens"] for one in raw) / wall_s)


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
        assert whole["target"]["rss_after_load_bytes"] > 0
        assert level["cost"]["rss_peak_bytes"] > 0
        assert (level["prompt_tokens"]["mean"], level["output_tokens"]["mean"]) == (48, 16)
        assert level["itl_s"]["values"] == 12 * 15
        assert level["cached_tokens"] == 0
        assert 0 < level["ttft_s"]["p50"] < level["e2e_s"]["p50"]
        assert level["goodput"]["share"] == 1.0


@pytest.mark.slow
def test_a_server_of_ours_is_measured_as_any_other(example: Path, settings: Settings) -> None:
    with serving(lambda: create_app(str(example))) as url:
        whole = run(url, settings, bounds=Bounds(8, None, 60.0), clients=2).document
    [level] = whole["levels"]
    assert (level["completed"], level["errors"], level["refused"]) == (8, 0, {})
    assert {text.split(":")[0] for text in of_target(level)} <= {"template-cached"}
    assert level["prompt_tokens"] == {"mean": 20, "min": 20, "max": 20}
    assert level["output_tokens"] == {"mean": 12, "min": 12, "max": 12}
    assert whole["target"]["load_s"] is None
    assert 0 < level["ttft_s"]["mean"] < level["e2e_s"]["mean"]


@pytest.mark.slow
def test_a_prompt_beyond_the_context_is_refused_before_anything_is_asked(example: Path, settings: Settings) -> None:
    for asked in (Asked(10**6, 16), Asked(prompts=long_question(settings))):
        with pytest.raises(UsageError, match="context of"):
            bench(targets.resolve(example, settings), Plan(asked, FEW), Access())


def long_question(settings: Settings) -> Path:
    file = settings.home / "long.jsonl"
    file.write_text('{"prompt": "' + "word " * 3000 + '"}\n', encoding="utf-8")
    return file
