"""Two targets in turns: servers that answer as they are told to, held against their own records."""

from __future__ import annotations

import csv
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship import targets
from edgeship.errors import MemoryShort, UsageError
from edgeship.measure.load import pair, pair_tables
from edgeship.measure.load.bench import Plan
from edgeship.measure.load.conditions import read
from edgeship.measure.load.driver import Bounds, Load
from edgeship.measure.load.looks import Looks
from edgeship.measure.load.pair import Pair, compare, in_turns, openings
from edgeship.measure.load.subject import Access, Asked
from edgeship.settings import Settings
from tests.chat_server import Handler, Server
from tests.measure.load.scripted_server import Script, scripted

PLAN = Plan(Asked(20, 12), Bounds(3, None, 10.0), (Load(3),), repeats=5, warm_up=0)
AT_ONCE: dict[str, Any] = {"first_s": 0.0, "gap_s": 0.0, "tokenizes": True}


@contextmanager
def both(a: Script, b: Script) -> Iterator[tuple[Server, Server]]:
    with scripted(a) as first, scripted(b) as second:
        yield first, second


def compared(servers: tuple[Server, Server], settings: Settings, plan: Plan = PLAN, *fail_if: str) -> Pair:
    a, b = (targets.resolve(server.url, settings) for server in servers)
    return compare((a, b), plan, Access(), [read(text) for text in fail_if])


@pytest.mark.slow
def test_ratios_are_what_the_servers_did(settings: Settings) -> None:
    a = Script(tokenizes=True, first_s=0.2, gap_s=0.015)
    b = Script(tokenizes=True, first_s=0.3, gap_s=0.012)
    with both(a, b) as servers:
        document = compared(servers, settings, PLAN, "ttft_p50 > 0.1x", "tpot_mean > 10x").document
    assert len(a.sent) == len(b.sent) == 15
    [load] = document["loads"]
    found = {name: one["ratio"] for name, one in load["figures"].items()}

    # Servers and client are threads of one process: on a busy machine all of them are late, and the client knows it.
    late_s = max(document[side]["levels"][0]["cost"]["client_late_p99_s"] for side in "ab")

    def near(figure: str, of: Callable[[Iterable[float]], float], name: str) -> bool:
        """Within 2 % of what the servers saw themselves, and of how late they may have seen it."""
        truths = [of([getattr(one, name) for one in script.sent]) for script in (a, b)]
        shortest_s = min(getattr(one, name) * (11 if name == "tpot_s" else 1) for one in (*a.sent, *b.sent))
        return bool(found[figure] == pytest.approx(truths[1] / truths[0], rel=0.02 + late_s / shortest_s))

    assert near("ttft_mean", statistics.fmean, "ttft_s")
    assert near("ttft_p50", statistics.median, "ttft_s")
    assert near("tpot_mean", statistics.fmean, "tpot_s")
    low, high = load["figures"]["ttft_mean"]["ratio_interval"]
    assert low < high
    assert [one["verdict"] for one in document["conditions"]] == ["holds", "fails"]
    assert document["outcome"] == "fail"
    assert document["schema"] == "edgeship/bench-pair/1"
    assert (document["turns"], document["a"]["target"]["name"]) == (5, servers[0].url)


def test_turns_alternate_and_ask_both_the_same(settings: Settings) -> None:
    scripts = Script(**AT_ONCE), Script(**AT_ONCE)
    with both(*scripts) as servers:
        done = compared(servers, settings)
    began = sorted((one.asked_s, side) for side, script in enumerate(scripts) for one in script.sent)
    assert [side for _, side in began] == [0, 0, 0, 1, 1, 1] * 5
    prompts = [
        sorted(str(body["messages"]) for path, _, body in server.asked if body.get("max_tokens") == 12)
        for server in servers
    ]
    assert prompts[0] == prompts[1]
    assert len(set(prompts[0])) == 15
    assert [facts for facts, _ in done.records] == [{"target": side, "level": "concurrency 3"} for side in ("a", "b")]
    assert [len(records) for _, records in done.records] == [15, 15]


def test_turns_are_added_until_conditions_are_settled(settings: Settings) -> None:
    with both(Script(**AT_ONCE), Script(**AT_ONCE | {"first_s": 0.02})) as servers:
        first, second = (targets.resolve(server.url, settings) for server in servers)

        def looked(condition: str) -> tuple[int, str]:
            with ExitStack() as stack:
                a, b = (stack.enter_context(each) for each in openings((first, second), PLAN, Access()))
                [levels], _ = in_turns((a, b), PLAN, looks := Looks(5, 8), [read(condition)])
            assert [len(level.repeats) for level in levels] == [looks.made] * 2
            return looks.made, looks.judged[0].verdict

        assert looked("ttft_mean > 1000x") == (5, "fails")
        assert looked("ttft_mean > 0.01x") == (8, "holds")  # what holds has to hold once more
        assert looked("ttft_p99 > 1x") == (5, "undecided")  # nothing tells it, and more turns would not


def test_one_target_twice_is_not_asked_twice_the_same(settings: Settings) -> None:
    with scripted(Script(**AT_ONCE)) as server:
        document = compared((server, server), settings).document
        asked = [str(body["messages"]) for _, _, body in server.asked if body.get("max_tokens") == 12]
    assert len(asked) == len(set(asked)) == 30
    assert document["a"]["levels"][0]["refused"] == document["b"]["levels"][0]["refused"] == {}


def until(servers: tuple[Server, Server], settings: Settings, message: str, plan: Plan = PLAN) -> Pair:
    """As far as it comes before Ctrl-C, at the message that begins so."""

    def tell(said: str, fraction: float | None = None) -> None:
        del fraction
        if said.startswith(message):
            raise KeyboardInterrupt

    a, b = (targets.resolve(server.url, settings) for server in servers)
    return compare((a, b), plan, Access(), [read("ttft_mean > 1000x")], progress=tell)


def test_ctrl_c_keeps_the_turns_in_which_both_were_asked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeship.measure.load.driver._TOLD_EVERY_S", 0.0)
    with both(Script(**AT_ONCE), Script(**AT_ONCE)) as servers:
        done = until(servers, settings, "turn 3 of 5, B: concurrency 3: 2 of")
        plan = replace(PLAN, loads=(Load(1), Load(2)))
        loads = until(servers, settings, "turn 1 of 5, A: concurrency 2: 1 of", plan).document
        with pytest.raises(KeyboardInterrupt):
            until(servers, settings, "turn 1 of 5, B: concurrency 3: 1 of")
    document = done.document
    assert (done.ended_by, document["complete"], document["stopped"]) == ("interrupted", False, "interrupted")
    assert document["turns"] == 2
    assert [len(document[side]["levels"][0]["repeats"]) for side in "ab"] == [2, 2]
    assert document["loads"][0]["figures"]["ttft_mean"]["ratio"] > 0
    assert document["conditions"][0]["verdict"] == "undecided"
    assert "This is a part: the run was interrupted." in pair_tables.as_markdown(document)
    assert [load["name"] for load in loads["loads"]] == ["concurrency 1"]
    assert len(loads["b"]["levels"]) == 1


def test_ctrl_c_while_ratios_are_worked_out_keeps_all_turns(settings: Settings) -> None:
    with both(Script(**AT_ONCE), Script(**AT_ONCE)) as servers:
        done = until(servers, settings, "working out")
    document = done.document
    assert (document["turns"], document["complete"], document["stopped"]) == (5, False, "interrupted")
    figure = document["loads"][0]["figures"]["ttft_mean"]
    assert figure["ratio"] == pytest.approx(figure["b"] / figure["a"])
    assert (figure["ratio_interval"], figure["why"]) == (None, "its interval was not worked out")
    [condition] = document["conditions"]
    assert (condition["verdict"], condition["why"], document["outcome"]) == ("undecided", figure["why"], "undecided")
    header, *rows = csv.reader(pair_tables.as_csv(document).splitlines())
    assert header[-1] == "stopped"
    assert {row[-1] for row in rows} == {"interrupted"}


def test_a_target_that_falls_silent_ends_the_turns(settings: Settings) -> None:
    script, asked = Script(**AT_ONCE), itertools.count()

    def hangs_later(handler: Handler) -> None:
        (script.answer if next(asked) < 4 else Handler.wait_until_the_client_is_gone)(handler)

    plan = replace(PLAN, bounds=Bounds(3, None, 0.3))
    with scripted(script, completions=hangs_later) as a, scripted(Script(**AT_ONCE)) as b:
        done = compared((a, b), settings, plan)
    document = done.document
    assert (done.ended_by, document["turns"]) == ("silent", 2)
    assert [document[side]["levels"][0]["errors"] for side in "ab"] == [3, 0]


def test_each_load_is_compared_with_its_like(settings: Settings) -> None:
    plan = replace(PLAN, loads=(Load(1), Load(2)))
    with both(Script(**AT_ONCE), Script(**AT_ONCE | {"first_s": 0.02})) as servers:
        document = compared(servers, settings, plan, "ttft_mean > 100x", "ttft_p99 > 1x").document
    assert [load["name"] for load in document["loads"]] == ["concurrency 1", "concurrency 2"]
    assert all(load["figures"]["ttft_mean"]["ratio"] > 1 for load in document["loads"])
    assert [(one["load"], one["verdict"]) for one in document["conditions"]] == [
        ("concurrency 1", "fails"),
        ("concurrency 1", "undecided"),
        ("concurrency 2", "fails"),
        ("concurrency 2", "undecided"),
    ]
    assert document["conditions"][1]["why"] == "A: it takes 647 requests more"
    assert document["outcome"] == "undecided"


def test_limits_are_of_what_is_loaded_and_keys_of_servers(settings: Settings, tmp_path: Path) -> None:
    from edgeship.engine.api import Limits

    (tmp_path / "genai_config.json").write_text("{}", encoding="utf-8")
    whole = Access(Limits(slots=2), "m", "key")
    package, url = targets.resolve(tmp_path, settings), targets.resolve("http://127.0.0.1:1", settings)
    assert pair._of_its_kind(whole, package, {True, False}) == Access(Limits(slots=2))
    assert pair._of_its_kind(whole, url, {True, False}) == Access(model="m", api_key="key")
    for kinds in ({True}, {False}):
        assert pair._of_its_kind(whole, url, kinds) == whole


def test_slots_for_two_servers_are_refused(settings: Settings) -> None:
    from edgeship.engine.api import Limits

    with both(Script(**AT_ONCE), Script(**AT_ONCE)) as (a, b), pytest.raises(UsageError, match="slots"):
        compare((targets.resolve(a.url, settings), targets.resolve(b.url, settings)), PLAN, Access(Limits(slots=2)))


def test_two_packages_that_do_not_fit_into_memory_are_not_loaded(tmp_path: Path, settings: Settings) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        (folder / "genai_config.json").write_text("{}", encoding="utf-8")
        (folder / "model.onnx.data").write_bytes(b"0" * 600_000)
    small = replace(settings, memory_bytes=1_000_000)
    a, b = (targets.resolve(folder, small) for folder in folders)
    with pytest.raises(MemoryShort, match="both are loaded at the same time"):
        compare((a, b), PLAN, Access())


def test_targets_that_are_not_equal_are_told() -> None:
    def told(**facts: Any) -> dict[str, Any]:
        return {"target": {"slots": 4, "context_tokens": 4096} | facts}

    assert pair._warnings([told(), told()]) == []
    assert pair._warnings([told(), told(slots=None)]) == []
    assert pair._warnings([told(), told(context_tokens=2048)]) == [
        "unequal: A has 4096 tokens of context, and B 2048. --slots and --context give both the same."
    ]


@pytest.mark.slow
def test_a_package_beside_itself(example: Path, settings: Settings) -> None:
    target = targets.resolve(example, settings)
    plan = Plan(Asked(48, 16), Bounds(4, None, 60.0), (Load(2),), repeats=6)
    document = compare((target, target), plan, Access(), [read("errors > 0%"), read("rss_peak > 100GB")]).document
    assert document["outcome"] == "pass"
    [load] = document["loads"]
    assert load["figures"]["rss_peak"]["ratio"] == pytest.approx(1, rel=0.1)
    assert load["figures"]["cpu_s_per_token"]["ratio_interval"]
    assert document["warnings"] == []
