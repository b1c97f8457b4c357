from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from edgeship import targets
from edgeship.engine.api import Limits
from edgeship.errors import EdgeshipError, EngineFailed, MemoryShort, PackageDamaged, UsageError
from edgeship.measure.load import pair
from edgeship.measure.load.doubts import Expected
from edgeship.measure.load.driver import Driven, Stopped
from edgeship.measure.load.records import Failure
from edgeship.measure.load.subject import Access, Asked
from edgeship.measure.load.watch import Cost
from edgeship.settings import Settings
from edgeship.targets import Target
from edgeship.validate import performance
from edgeship.validate.performance import CHECK
from edgeship.validate.performance_bounds import PerformanceBounds
from edgeship.validate.subject import Against, Effort, Subject
from edgeship.validate.verdict import Finding
from tests.measure.load.samples import record
from tests.measure.load.scripted_server import Script, scripted

FAILED = Failure("timeout", "too late")
TOKENS = 8
ELSEWHERE = "the server runs on another machine"


@dataclass
class Side:
    """What a target shows that nobody asks: times of each question, memory, and which questions of a turn fail.

    told: of usage, for each token. raises: what opening it ends with. silent_in: from which turn on it says nothing.
    interrupted_in: in which turn Ctrl-C comes. asked, turns: what was asked for, and how often.
    """

    first_s: float = 0.1
    gap_s: float = 0.02
    memory: int | None = 10**8
    fails: Callable[[int], int] = lambda _: 0
    told: float | None = 1.0
    load_s: float = 1.0
    after_load: int | None = 10**8
    raises: Exception | None = None
    silent_in: float = math.inf
    interrupted_in: float = math.inf
    asked: list[Asked] = field(default_factory=list)
    turns: int = 0

    seed, expected = 0, Expected()

    def drive(self, *_: Any, **__: Any) -> Driven:
        """Four questions."""
        failing = self.fails(self.turns)
        self.turns += 1
        if self.turns > self.interrupted_in:
            raise KeyboardInterrupt
        # No two turns are the same.
        pace = 1 + 0.001 * (self.turns % 3)
        times = [pace * (self.first_s + self.gap_s * step) for step in range(TOKENS)]
        told = None if self.told is None else round(TOKENS * self.told)
        records = [record(times, number=number, asked=TOKENS, output_tokens=told) for number in range(4 - failing)]
        records += [record([9.0], number=number, failure=FAILED) for number in range(4 - failing, 4)]
        unknown = {} if self.memory else {"rss_peak_bytes": ELSEWHERE}
        stopped: Stopped | None = "silent" if self.turns > self.silent_in else None
        cost = Cost(2.0, here=True, rss_peak_bytes=self.memory, unknown=unknown)
        return Driven(tuple(records), 2.0, stopped, cost)

    def to_dict(self) -> dict[str, Any]:
        """What is told of how it was opened."""
        told = {"name": "x", "slots": 4, "context_tokens": 2048}
        return told | {"load_s": self.load_s, "rss_after_load_bytes": self.after_load}


Measure = Callable[..., dict[str, Finding]]


@pytest.fixture
def measure(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """What is found of a target, beside a baseline where one is given. None of both exists."""
    sides: dict[str, Side] = {}

    @contextmanager
    def opened(target: Target, asked: Asked, *_: Any, **__: Any) -> Iterator[Side]:
        side = sides[target.name]
        side.asked.append(asked)
        if side.raises:
            raise side.raises
        yield side

    for module in (performance, pair):
        monkeypatch.setattr(module, "opened", opened)
    monkeypatch.setattr(pair, "_require_memory", lambda _: None)
    monkeypatch.setattr(performance, "_room", lambda *_: (1, math.inf))

    def found(new: Side, old: Side | None = None, effort: Effort = "quick", **bounds: float) -> dict[str, Finding]:
        sides.update({"new": new} if old is None else {"new": new, "old": old})
        baseline = targets.resolve("old", settings) if old else None
        subject = Subject(targets.resolve("new", settings), Against(baseline=baseline, effort=effort))
        return {one.name: one for one in CHECK.run(subject, PerformanceBounds(**bounds), lambda *_: None)}

    return found


def outcomes(found: Mapping[str, Finding]) -> dict[str, str]:
    return {name: one.outcome for name, one in found.items()}


ASKED = {"answers": "pass", "ttft": "pass", "decode": "pass", "memory-peak": "pass"}
NOT_LOADED = {"memory-after-load": "skipped", "load-time": "skipped"}
LOADED = {"memory-after-load": "pass", "load-time": "pass"}


def test_without_baseline_and_budget_nothing_is_measured(measure: Measure) -> None:
    told = measure(new := Side())
    assert outcomes(told) == {"budget": "skipped"}
    assert "--baseline" in told["budget"].told
    assert "max_ttft_ms" in told["budget"].told
    assert new.asked == []


# --- asking ----------------------------------------------------------------------------------------------------------


def test_the_same_passes_by_one_look(measure: Measure) -> None:
    old, new = Side(), Side()
    told = measure(new, old)
    assert outcomes(told) == ASKED | NOT_LOADED
    assert (old.turns, new.turns) == (5, 5)
    assert told["ttft"].figure == pytest.approx(1)
    assert told["answers"].told == "0 of 20 questions got no answer (0.0 %; 0.0 % may)."


@pytest.mark.parametrize(
    ("new", "caught"),
    [
        (Side(first_s=0.2), "ttft"),
        (Side(gap_s=0.024), "decode"),
        (Side(memory=12 * 10**7), "memory-peak"),
    ],
)
def test_what_is_slower_or_larger_fails_by_its_name_in_two_looks(new: Side, caught: str, measure: Measure) -> None:
    assert outcomes(measure(replace(new), Side())) == ASKED | NOT_LOADED | {caught: "fail"}
    fails = replace(new, turns=0)
    measure(fails, Side())
    assert fails.turns == 10


def test_budgets_need_no_baseline(measure: Measure) -> None:
    budgets = {"max_ttft_ms": 150.0, "min_tokens_per_s": 40.0, "max_memory_bytes": 2e8}
    told = measure(new := Side(), **budgets)
    assert outcomes(told) == {
        "answers": "pass",
        "ttft-budget": "pass",
        "decode-budget": "pass",
        "memory-peak-budget": "pass",
    }
    assert new.turns == 5
    speed = told["decode-budget"]
    assert speed.bound == pytest.approx(40)
    assert (speed.unit, speed.is_least) == ("tokens/s", True)
    assert speed.figure is not None
    assert speed.figure > 40
    assert speed.interval is not None
    assert speed.interval[0] <= speed.figure <= speed.interval[1]
    assert "40 tokens/s must be" in speed.told
    for name, slow in (
        ("ttft", Side(first_s=0.2)),
        ("decode", Side(gap_s=0.03)),
        ("memory-peak", Side(memory=3 * 10**8)),
    ):
        failing = [one.name for one in measure(slow, **budgets).values() if one.outcome == "fail"]
        assert failing == [f"{name}-budget"]


def test_a_target_that_answers_nothing_fails(measure: Measure) -> None:
    silent = Side(fails=lambda _: 4)
    told = measure(silent, Side())
    assert (
        outcomes(told)
        == {
            "answers": "fail",
            "ttft": "undecided",
            "decode": "undecided",
            "memory-peak": "pass",
        }
        | NOT_LOADED
    )
    assert told["answers"].told.endswith("(100.0 %; 0.0 % may): timeout, too late.")
    assert told["ttft"].decided_by == "a target that answers"
    assert measure(replace(silent, turns=0), max_ttft_ms=1000)["answers"].outcome == "fail"


def test_a_part_that_is_not_answered_fails_where_it_is_surely_more_than_may_be(measure: Measure) -> None:
    assert measure(Side(fails=lambda _: 1), Side())["answers"].outcome == "fail"
    assert measure(Side(fails=lambda _: 1), Side(), max_unanswered_share=0.3)["answers"].outcome == "pass"
    once = measure(Side(fails=lambda turn: int(turn == 2)), Side())["answers"]
    assert (once.outcome, once.figure) == ("undecided", 1 / 40)
    assert once.decided_by


def test_a_baseline_that_answers_nothing_is_not_the_target_s_fault(measure: Measure) -> None:
    told = measure(Side(), Side(fails=lambda _: 4))
    assert outcomes(told) == ASKED | NOT_LOADED | {"ttft": "undecided", "decode": "undecided"}
    assert told["decode"].decided_by == "a baseline that answers"


def test_what_a_target_does_not_tell_is_skipped_and_takes_no_more_turns(measure: Measure) -> None:
    new = Side(memory=None, told=None)
    told = measure(new, Side(), effort="long")
    assert outcomes(told) == ASKED | LOADED | {"memory-peak": "skipped", "decode": "skipped"}
    assert ELSEWHERE in told["memory-peak"].told
    assert "usage-missing" in told["decode"].told
    assert new.turns == 24


def test_what_answers_contradict_is_undecided(measure: Measure) -> None:
    told = measure(Side(told=0.5), Side())
    assert outcomes(told) == ASKED | NOT_LOADED | {"decode": "undecided"}
    assert "usage-differs" in told["decode"].told


def test_without_time_figures_are_undecided_and_say_how_there_is_more(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = {name: replace(effort, spend_s=0.0) for name, effort in performance._EFFORTS.items()}
    monkeypatch.setattr(performance, "_EFFORTS", hurried)
    slow = Side(first_s=1.0, load_s=3.0)
    told = measure(slow, Side(), effort="default")
    assert slow.turns == 1
    assert outcomes(told) == {"answers": "pass"} | dict.fromkeys([*ASKED, *LOADED][1:], "undecided")
    assert {one.decided_by for one in told.values() if one.outcome == "undecided"} == {hurried["default"].longer}
    assert measure(Side(fails=lambda _: 4), Side())["answers"].outcome == "fail"


def test_a_target_that_falls_silent_fails_and_is_asked_no_more(measure: Measure) -> None:
    with pytest.raises(EngineFailed, match="nothing of any answer came for"):
        measure(beside := Side(silent_in=2), Side())
    with pytest.raises(EngineFailed, match="nothing of any answer came for"):
        measure(alone := Side(silent_in=2), max_ttft_ms=1000)
    with pytest.raises(EngineFailed):
        measure(Side(silent_in=2), Side(silent_in=2))
    assert (beside.turns, alone.turns) == (3, 3)


def test_turns_that_are_interrupted_are_no_findings(measure: Measure) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure(Side(interrupted_in=2), Side())
    with pytest.raises(KeyboardInterrupt):
        measure(Side(interrupted_in=2), max_ttft_ms=1000)


# --- whose fault it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [PackageDamaged("a byte is another one"), UsageError("which model?")])
def test_a_baseline_that_cannot_be_measured_is_not_the_target_s_fault(error: Exception, measure: Measure) -> None:
    told = measure(Side(), Side(raises=error))
    assert outcomes(told) == {"baseline": "undecided"}
    assert told["baseline"].told == f"The baseline could not be measured: {error}."


def test_a_baseline_that_falls_silent_is_not_the_target_s_fault(measure: Measure) -> None:
    told = measure(Side(), Side(silent_in=2))
    assert outcomes(told) == {"baseline": "undecided"}
    assert "nothing of any answer came for" in told["baseline"].told


def test_a_target_that_cannot_be_measured_and_faults_of_our_own_are_raised(measure: Measure) -> None:
    with pytest.raises(EngineFailed):
        measure(Side(raises=EngineFailed("it ended")), Side())
    for fault in (EdgeshipError("ours"), RuntimeError("ours")):
        with pytest.raises(type(fault)):
            measure(Side(), Side(raises=fault))


def test_two_that_do_not_fit_side_by_side_are_undecided(measure: Measure) -> None:
    told = measure(Side(), Side(raises=MemoryShort("both are loaded at the same time")))["memory-for-both"]
    assert (told.outcome, told.decided_by) == ("undecided", "a machine with more memory")


# --- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "prompt_tokens", "new_tokens"),
    [
        ((1, math.inf), 64, 32),
        ((20, 4096), 64, 32),
        ((70, math.inf), 86, 32),
        ((1, 64), 48, 16),
        ((10, 16), 12, 4),
    ],
)
def test_questions_are_as_long_as_both_sides_have_room_for(
    room: tuple[int, float], prompt_tokens: int, new_tokens: int, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performance, "_room", lambda side, _: room if side.name == "old" else (1, math.inf))
    new = Side()
    measure(new, Side())
    assert [(one.prompt_tokens, one.new_tokens) for one in new.asked] == [(prompt_tokens, new_tokens)]


def test_a_context_without_room_is_not_asked(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance, "_room", lambda *_: (20, 24))
    new = Side()
    told = measure(new, Side(), effort="default")
    assert set(outcomes(told).values()) == {"skipped"}
    assert "no room" in told["ttft"].told
    assert new.asked == []


def test_the_room_of_a_server_is_counted_with_its_template(settings: Settings) -> None:
    with scripted(Script(tokenizes=True, first_s=0.0, gap_s=0.0)) as server:
        target = targets.resolve(server.url, settings)
        assert performance._room(target, Access()) == (4, math.inf)


def test_two_packages_get_as_much_memory_each(settings: Settings) -> None:
    package, url = targets.resolve("a", settings), targets.resolve("http://127.0.0.1:1", settings)
    subject = Subject(package)
    beside = performance._access(subject, [package, package]).limits
    assert beside.kv_bytes
    assert performance._access(subject, [package]).limits == Limits()
    assert performance._access(subject, [url, package]).limits == Limits()


def test_what_checks_share_is_closed_before(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(Subject, "close_shared", lambda _: seen.append("closed"))
    new = Side(raises=EngineFailed("it is opened"))
    with pytest.raises(EngineFailed):
        measure(new, Side())
    assert seen == ["closed"]


# --- loading ---------------------------------------------------------------------------------------------------------

Loads = Callable[[str], dict[str, float | None]]
TOOK: dict[str, float | None] = {"load": 1.0, "rss_after_load": 1e8}


def loads(monkeypatch: pytest.MonkeyPatch, of: Loads) -> list[str]:
    """What loading takes is said by the test. Which were loaded, in their order."""
    seen: list[str] = []

    def load(target: Target, _: Asked) -> dict[str, float | None]:
        seen.append(target.name)
        return of(target.name)

    monkeypatch.setattr(performance, "_load", load)
    return seen


def test_both_are_loaded_in_turns(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = loads(monkeypatch, lambda _: TOOK)
    told = measure(Side(), Side(), effort="default")
    assert seen == ["old", "new"] * 5
    assert outcomes(told) == ASKED | LOADED
    assert told["load-time"].figure == 1.0
    assert "The time to load is 1.000 times the baseline's (1.000 to 1.000 times" in told["load-time"].told


def test_twice_the_memory_and_twice_the_time_to_load_fail(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = {name: 2 * (value or 0) for name, value in TOOK.items()}
    seen = loads(monkeypatch, lambda name: dict(twice) if name == "new" else TOOK)
    told = measure(Side(), Side(), effort="default")
    assert outcomes(told) == ASKED | dict.fromkeys(LOADED, "fail")
    assert len(seen) == 20  # what fails has to fail twice
    may = {"max_load_ratio": 3, "max_memory_ratio": 3}
    assert outcomes(measure(Side(), Side(), effort="default", **may)) == ASKED | LOADED


def test_what_noise_hides_is_looked_at_longer(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[float] = iter([1.0, 1.0, 1.0, 4.0] * 20)
    seen = loads(monkeypatch, lambda name: TOOK | ({"load": next(times)} if name == "new" else {}))
    told = measure(Side(), Side(), effort="default")["load-time"]
    assert len(seen) == 40
    assert told.outcome == "undecided"
    assert told.decided_by
    assert "turns would decide it" in told.decided_by
    assert told.decided_by.endswith("What helps: a quieter machine, --long, or a wider bound in the gate file.")


def test_memory_that_cannot_be_seen_after_loading_is_skipped(measure: Measure) -> None:
    for new, old in ((Side(after_load=None), Side()), (Side(), Side(after_load=None))):
        told = measure(new, old, effort="default")
        assert outcomes(told) == ASKED | LOADED | {"memory-after-load": "skipped"}
        assert "cannot be seen" in told["memory-after-load"].told


def test_a_server_and_a_quick_look_are_not_loaded_again(
    measure: Measure, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = loads(monkeypatch, lambda _: TOOK)
    assert "a quick look" in measure(Side(), Side())["load-time"].told
    sides = targets.resolve("a", settings), targets.resolve("http://localhost:1", settings)
    measuring = performance._Measuring(sides, Access(), performance._EFFORTS["default"], lambda *_: None)
    assert measuring._not_loaded() == "a server was loaded before"
    assert seen == []


def test_a_budget_for_loading_needs_no_baseline_and_no_questions(measure: Measure) -> None:
    new = Side()
    assert outcomes(measure(new, effort="default", max_load_s=0.5)) == {"load-time-budget": "fail"}
    told = measure(new, effort="default", max_load_s=1.5)
    assert outcomes(told) == {"load-time-budget": "pass"}
    assert told["load-time-budget"].told.startswith("The time to load is 1.00 s (1.00 to 1.00 s")
    assert new.turns == 0


# --- the real thing --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_slow_answers_of_a_server_fail_beside_a_baseline_and_by_a_budget(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performance, "_NEW_TOKENS", 9)
    fast, slow = (Script(tokenizes=True, first_s=0.0, gap_s=gap_s) for gap_s in (0.0, 0.005))
    with scripted(fast) as first, scripted(slow) as second:
        a, b = (targets.resolve(server.url, settings) for server in (first, second))
        bounds = PerformanceBounds(max_ttft_ratio=1000, max_memory_ratio=2)
        beside = list(CHECK.run(Subject(b, Against(baseline=a, effort="quick")), bounds, lambda *_: None))
        budgets = PerformanceBounds(min_tokens_per_s=400, max_ttft_ms=9e6)
        alone = list(CHECK.run(Subject(b, Against(effort="quick")), budgets, lambda *_: None))
    assert outcomes({one.name: one for one in beside}) == ASKED | NOT_LOADED | {"decode": "fail"}
    assert [(one.name, one.outcome) for one in alone] == [
        ("answers", "pass"),
        ("ttft-budget", "pass"),
        ("decode-budget", "fail"),
    ]
