from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeship import targets
from edgeship.engine.api import Conversation, FinishReason, Sampling, Token, Usage
from edgeship.errors import ConstraintInvalid, DeadlinePassed, EngineFailed
from edgeship.measure.statistics.intervals import Interval
from edgeship.settings import Settings
from edgeship.system.processes import Family, Held
from edgeship.validate import leaks
from edgeship.validate.growth import Growth
from edgeship.validate.leaks import CHECK, LeakBounds
from edgeship.validate.subject import DEADLINE_S, Against, Effort, Subject
from edgeship.validate.verdict import Finding
from tests.validate.faulty import faulty_process

PAGE = 4096


class Leaky:
    """A chat that holds what a test says: one after another of its methods are called for each request."""

    context_tokens = 2048
    finish: FinishReason = "stop"

    def __init__(self) -> None:
        self.asked = self.cut = self.words = 0
        self.deadlines: set[float] = set()

    def converse(self, conversation: Conversation, sampling: Sampling, *, deadline_s: float) -> Any:
        """Six steps."""
        self.refuse(sampling)
        self.deadlines.add(deadline_s)
        self.asked += 1
        words = len(str(conversation.messages[0]["content"]).split())
        self.words += words
        chat = self

        class Steps:
            def __init__(self) -> None:
                self.given = 0

            def __iter__(self) -> Steps:
                return self

            def __next__(self) -> Token:
                self.given += 1
                if self.given > 6:
                    raise StopIteration
                if self.given == 6:
                    return Token(1, "a", chat.finish, usage=Usage(words, 6, 0.1, 0.2))
                return Token(1, "a")

            def close(self) -> None:
                chat.cut += self.given < 6

        return Steps()

    def refuse(self, sampling: Sampling) -> None:
        """It takes everything."""

    def held(self) -> Held:
        """Memory steps now and then for other reasons, and settles."""
        return Held(10**8 + PAGE * min(self.asked, 40), 10, 5)


class LeakyMemory(Leaky):
    def held(self) -> Held:
        return Held(10**8 + 50_000 * self.asked // PAGE * PAGE, 10, 5)


class LeakyTokens(Leaky):
    def held(self) -> Held:
        return Held(10**8 + 200 * self.words, 10, 5)


class LeakyCut(Leaky):
    def held(self) -> Held:
        return Held(10**8 + 50_000 * self.cut, 10, 5)


class LeakyHandles(Leaky):
    def held(self) -> Held:
        return Held(10**8, 10 + self.asked // 10, 5)


class LeakyThreads(Leaky):
    def held(self) -> Held:
        return Held(10**8, 10, 5 + self.asked // 20)


class Stepping(Leaky):
    """Its allocator takes 64 MB in the middle of what a first look judges, once."""

    def held(self) -> Held:
        return Held(10**8 + 2**26 * (self.asked > 5 + 70), 10, 5)


class LeaksLate(Leaky):
    """Its memory goes up and down for 800 requests, and then it leaks."""

    up = 0

    def held(self) -> Held:
        if self.asked > 800:
            return Held(10**8 + 50_000 * (self.asked - 800), 10, 5)
        self.up = 2**22 - self.up
        return Held(10**8 + self.up, 10, 5)


class Refusing(Leaky):
    def refuse(self, sampling: Sampling) -> None:
        if sampling.constraint:
            raise ConstraintInvalid("there are no schemas here")


class Untold(Leaky):
    def held(self) -> Held:
        return Held(10**8, None, 5)


def found(
    chat: Leaky, monkeypatch: pytest.MonkeyPatch, effort: Effort = "default", **bounds: float
) -> dict[str, Finding]:
    """What the check says of it."""

    @contextmanager
    def anew() -> Iterator[Leaky]:
        yield chat

    subject = SimpleNamespace(
        anew=anew,
        close_shared=lambda: None,
        target=SimpleNamespace(kind="package", name="x"),
        effort=effort,
        against=Against(),
    )
    monkeypatch.setattr(leaks, "_at_rest", lambda *_: chat.held())
    findings = CHECK.run(cast(Subject, subject), LeakBounds(**bounds), lambda *_: None)
    return {finding.name: finding for finding in findings}


def failing(findings: Mapping[str, Finding]) -> set[str]:
    assert {one.outcome for one in findings.values()} <= {"pass", "fail", "skipped"}
    return {name for name, one in findings.items() if one.outcome == "fail"}


KINDS = {f"memory-{name}" for name in ("short", "middle", "long", "cancelled", "constrained")}


@pytest.mark.parametrize("effort", ["quick", "default"])
@pytest.mark.parametrize(
    ("chat", "expected"),
    [
        (Leaky, set()),
        (LeakyMemory, KINDS),
        (LeakyCut, {"memory-cancelled"}),
        (LeakyHandles, {"handles"}),
        (LeakyTokens, {"memory-long", "memory-per-token"}),
        (Stepping, set()),
    ],
)
def test_each_leak_is_caught_and_nothing_else(
    chat: type[Leaky], expected: set[str], effort: Effort, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = found(chat(), monkeypatch, effort)
    assert failing(findings) == expected
    assert set(findings) == KINDS | {"memory-per-token", "handles", "threads"}


def test_a_thread_of_each_twentieth_request_is_seen_in_500(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing(found(LeakyThreads(), monkeypatch)) == {"threads"}


def test_so_many_requests_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    efforts: tuple[Effort, ...] = ("quick", "default", "long")
    for effort in efforts:
        monkeypatch.setattr(chat := Leaky(), "held", lambda: Held(10**8, 10, 5))
        found(chat, monkeypatch, effort)
        asked.append(chat.asked // 10 * 10)  # and one of each kind, to see whether it is taken
    assert asked == [160, 500, 10_000]


def test_a_leak_that_is_too_small_for_500_requests_shows_in_10_000(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(chat: Leaky) -> Leaky:
        monkeypatch.setattr(chat, "held", lambda: Held(10**8 + 3_000 * chat.asked, 10, 5))
        return chat

    assert failing(found(small(Leaky()), monkeypatch)) == set()
    assert failing(found(small(Leaky()), monkeypatch, "long")) == KINDS


def test_bounds_move_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing(found(LeakyMemory(), monkeypatch, max_bytes_per_request=60_000)) == set()
    told = found(LeakyMemory(), monkeypatch)["memory-short"]
    assert told.bound == 10_000
    assert told.figure == pytest.approx(50_000, rel=0.05)
    assert "bytes of memory stay of each request" in told.told


def test_what_noise_hides_is_undecided_and_says_what_would_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Leaky()
    # It grows in ever larger steps, once in each look.
    monkeypatch.setattr(chat, "held", lambda: Held(10**8 + 2 ** (20 + chat.asked.bit_length()), 10, 5))
    told = found(chat, monkeypatch)["memory-short"]
    assert told.outcome == "undecided"
    assert told.decided_by
    assert "requests of this kind; --long asks 2,000" in told.decided_by


def test_what_fails_for_the_first_time_in_the_last_look_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(LeaksLate(), monkeypatch)["memory-short"]
    assert told.interval
    assert told.interval[0] > LeakBounds().max_bytes_per_request
    assert told.outcome == "undecided"
    assert "what fails has to fail in two looks" in (told.decided_by or "")


def test_the_last_looks_at_two_kinds_are_two_looks() -> None:
    kind = leaks._Kind("short", "Short questions", Conversation([{"role": "user", "content": "a"}]), Sampling())
    passes = leaks._Judged(kind, Growth(0.0, Interval(0.0, 0.0), 100), "pass")
    once = leaks._Judged(kind, Growth(0.1, Interval(0.08, 0.12), 100), "undecided", once=True)
    looked: list[Any] = [{"memory": passes, "handles": once, "threads": passes}]
    for kinds, outcome in ((1, "undecided"), (2, "fail")):
        found = {one.name: one for one in leaks._findings(looked * kinds, LeakBounds(), "default")}
        assert found["handles"].outcome == outcome
        assert found["threads"].outcome == "pass"


class Clock:
    """Stands still but for requests."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def slowed(chat: Leaky, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[], float]) -> Clock:
    """The chat, each of whose answers takes so long."""
    clock = Clock()
    monkeypatch.setattr(leaks, "time", clock)
    monkeypatch.setattr(chat, "refuse", lambda _: clock.sleep(seconds()))
    return clock


@pytest.mark.parametrize(("seconds", "fewer"), [(0.1, False), (2.0, True), (5.0, True), (10.0, True)])
def test_a_slow_target_is_asked_as_much_as_there_is_time_for(
    seconds: float, fewer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = slowed(chat := Leaky(), monkeypatch, lambda: seconds)
    findings = found(chat, monkeypatch)
    assert "fail" not in {one.outcome for one in findings.values()}
    assert findings["memory-constrained"].outcome == "pass"
    assert (chat.asked < 500) is fewer
    assert clock.now_s < 700


def test_a_slow_target_that_leaks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = slowed(chat := LeakyMemory(), monkeypatch, lambda: 1.0)
    assert failing(found(chat, monkeypatch)) == KINDS
    assert clock.now_s < 700


def test_a_target_that_is_too_slow_is_undecided_and_says_what_would_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = slowed(chat := Leaky(), monkeypatch, lambda: 40.0)
    findings = found(chat, monkeypatch)
    assert {name: one.outcome for name, one in findings.items()} == dict.fromkeys(KINDS, "undecided")
    assert findings["memory-short"].told == (
        "Short questions take 40.0 s each: there was no time for the 20 that it takes to see what stays of them."
    )
    assert findings["memory-short"].decided_by == "more time: --long takes up to three hours"
    assert clock.now_s < 600


def test_a_first_request_that_is_slow_is_not_taken_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Leaky()
    slowed(chat, monkeypatch, lambda: 60.0 if chat.asked == 1 else 0.1)
    assert failing(found(chat, monkeypatch)) == set()
    assert chat.asked > 500


def test_a_target_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Leaky()
    found(chat, monkeypatch)
    assert chat.deadlines == {DEADLINE_S}
    monkeypatch.setattr(chat, "finish", "deadline")
    with pytest.raises(DeadlinePassed, match="within 300 s"):
        found(chat, monkeypatch)


def test_what_a_target_does_not_take_or_a_system_does_not_tell_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = found(Refusing(), monkeypatch)
    assert findings["memory-constrained"].outcome == "skipped"
    assert "there are no schemas here" in findings["memory-constrained"].told
    assert findings["memory-cancelled"].outcome == "pass"  # asked for without a schema
    assert found(Untold(), monkeypatch)["handles"].outcome == "skipped"


def test_a_target_that_is_gone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_SETTLED_S", 0.0)
    with pytest.raises(EngineFailed, match="has ended"):
        leaks._at_rest(Family([2**22 + 1]), None)


def test_a_server_elsewhere_is_not_looked_at(settings: Settings) -> None:
    with Subject(targets.resolve("http://192.0.2.1:8080", settings)) as subject:
        assert "runs on another machine" in (CHECK.not_for(subject) or "")
    with Subject(targets.resolve("some-package", settings)) as subject:
        assert CHECK.not_for(subject) is None


@pytest.mark.slow
def test_foundry_local_is_looked_at_in_a_process_of_its_own(
    example: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []

    def family(pids: Iterable[int]) -> Family:
        looked_at.extend(pids)
        return Family(looked_at)

    monkeypatch.setattr(targets.Target, "registered_folder", lambda _: example)
    monkeypatch.setattr(leaks, "Family", family)
    with Subject(targets.resolve("foundry:triage", settings), Against(effort="quick")) as subject:
        findings = {one.name for one in CHECK.run(subject, LeakBounds(), lambda *_: None) if one.outcome != "skipped"}
    assert len(looked_at) == 1
    assert looked_at[0] != os.getpid()
    assert findings >= KINDS


@pytest.mark.slow
def test_a_real_server_is_judged_by_its_process(tmp_path: Path, settings: Settings) -> None:
    with (
        faulty_process("leaks-memory", tmp_path) as (url, _),
        Subject(targets.resolve(url, settings), Against(effort="quick")) as subject,
    ):
        assert CHECK.not_for(subject) is None
        findings = {one.name: one for one in CHECK.run(subject, LeakBounds(), lambda *_: None)}
    assert {name for name, one in findings.items() if one.outcome == "fail"} == KINDS
