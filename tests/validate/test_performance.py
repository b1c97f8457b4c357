from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from edgeship import targets
from edgeship.errors import MemoryShort
from edgeship.settings import Settings
from edgeship.validate import performance
from edgeship.validate.performance import CHECK, PerformanceBounds
from edgeship.validate.subject import Against, Effort, Subject
from edgeship.validate.verdict import Finding
from tests.measure.load.scripted_server import Script, scripted

LOADED = {"load": 1.0, "rss_after_load": 1e8}
Loads = Callable[[str], dict[str, float]]


def found(subject: Subject, **bounds: float) -> dict[str, Finding]:
    return {one.name: one for one in CHECK.run(subject, PerformanceBounds(**bounds), lambda *_: None)}


def pair(settings: Settings, effort: Effort = "default") -> Subject:
    a, b = (targets.resolve(name, settings) for name in ("old", "new"))
    return Subject(b, Against(baseline=a, effort=effort))


def loads(monkeypatch: pytest.MonkeyPatch, of: Loads) -> list[str]:
    """Nothing is asked, and what loading takes is said by the test. Which were loaded, in their order."""
    seen: list[str] = []

    def load(target: Any) -> dict[str, float]:
        seen.append(target.name)
        return of(target.name)

    monkeypatch.setattr(performance, "_load", load)
    monkeypatch.setattr(performance, "compare", lambda *_, **__: SimpleNamespace(judged=()))
    return seen


def test_without_baseline_and_budget_nothing_is_measured(settings: Settings) -> None:
    with Subject(targets.resolve("new", settings)) as subject:
        told = found(subject)
    assert [one.outcome for one in told.values()] == ["skipped"]
    assert "--baseline" in told["budget"].told
    assert "max_ttft_ms" in told["budget"].told


def test_both_are_loaded_in_turns(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = loads(monkeypatch, lambda _: LOADED)
    told = found(pair(settings))
    assert seen == ["old", "new"] * 5
    assert {name: one.outcome for name, one in told.items()} == {"load-time": "pass", "memory-after-load": "pass"}
    assert told["load-time"].figure == 1.0
    assert "The time to load is 1.000 times the baseline's (1.000 to 1.000 times" in told["load-time"].told


def test_twice_the_memory_and_twice_the_time_to_load_fail(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = {name: 2 * value for name, value in LOADED.items()}
    seen = loads(monkeypatch, lambda name: twice if name == "new" else LOADED)
    told = found(pair(settings))
    assert {name: one.outcome for name, one in told.items()} == {"load-time": "fail", "memory-after-load": "fail"}
    assert len(seen) == 20  # what fails has to fail twice
    assert {one.outcome for one in found(pair(settings), most_load_ratio=3, most_memory_ratio=3).values()} == {"pass"}


def test_what_noise_hides_is_looked_at_longer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[float] = iter([1.0, 1.0, 1.0, 4.0] * 20)
    seen = loads(monkeypatch, lambda name: LOADED | ({"load": next(times)} if name == "new" else {}))
    told = found(pair(settings))["load-time"]
    assert len(seen) == 40
    assert told.outcome == "undecided"
    assert "turns would decide it" in (told.decided_by or "")


def test_a_server_and_a_quick_look_are_not_loaded_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = loads(monkeypatch, lambda _: LOADED)
    quick = found(pair(settings, "quick"))
    server = Subject(targets.resolve("http://localhost:1", settings), Against(baseline=targets.resolve("a", settings)))
    for told, reason in ((quick, "a quick look"), (found(server), "a server was loaded before")):
        assert {one.outcome for one in told.values()} == {"skipped"}
        assert reason in told["load-time"].told
    assert seen == []


def test_a_budget_for_loading_needs_no_baseline(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    loads(monkeypatch, lambda _: LOADED)
    monkeypatch.setattr(performance, "_alone", lambda *_: [])
    alone = Subject(targets.resolve("new", settings))
    assert found(alone, max_load_s=0.5)["load-time-budget"].outcome == "fail"
    told = found(alone, max_load_s=1.5)
    assert [one.outcome for one in told.values()] == ["pass"]
    assert told["load-time-budget"].told.startswith("The time to load is 1,000.0 ms (1,000.0 to 1,000.0 ms")


def test_two_that_do_not_fit_side_by_side_are_undecided(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: Any, **__: Any) -> Any:
        raise MemoryShort("both are loaded at the same time")

    monkeypatch.setattr(performance, "compare", short)
    told = found(pair(settings))["fits"]
    assert (told.outcome, told.decided_by) == ("undecided", "a machine with more memory")


@pytest.mark.slow
def test_slow_answers_fail_beside_a_baseline_and_by_a_budget(settings: Settings) -> None:
    with scripted(Script(tokenizes=True, gap_s=0.001)) as fast, scripted(Script(tokenizes=True, gap_s=0.02)) as slow:
        a, b = (targets.resolve(server.url, settings) for server in (fast, slow))
        beside = found(Subject(b, Against(baseline=a, effort="quick")), most_ttft_ratio=1000, most_memory_ratio=2)
        assert beside["decode"].outcome == "fail"
        assert beside["decode"].figure
        assert beside["decode"].figure > 1.15
        assert beside["ttft"].outcome == "pass"
        assert beside["memory-peak"].outcome == "pass"
        alone = found(Subject(b, Against(effort="quick")), min_tokens_per_s=100, max_ttft_ms=9e6)
    assert {name: one.outcome for name, one in alone.items()} == {"ttft-budget": "pass", "decode-budget": "fail"}
