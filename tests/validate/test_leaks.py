from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeship import targets
from edgeship.engine.api import Conversation, Sampling, Token, Usage
from edgeship.errors import ConstraintInvalid, EngineFailed
from edgeship.settings import Settings
from edgeship.system.processes import Family, Held
from edgeship.validate import leaks
from edgeship.validate.leaks import CHECK, LeakBounds
from edgeship.validate.subject import Against, Effort, Subject
from edgeship.validate.verdict import Finding
from tests.validate.faulty import faulty_process

PAGE = 4096


class Leaky:
    """A chat that holds what a test says: one after another of its methods are called for each request."""

    context_tokens = 2048

    def __init__(self) -> None:
        self.asked = self.cut = self.words = 0
        self.kinds: list[str] = []

    def converse(self, conversation: Conversation, sampling: Sampling) -> Any:
        """Four steps."""
        self.refuse(sampling)
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
                return Token(1, "a", usage=Usage(words, 6, 0.1, 0.2) if self.given == 6 else None)

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
        anew=anew, target=SimpleNamespace(kind="package", name="x"), effort=effort, against=Against()
    )
    monkeypatch.setattr(leaks, "_at_rest", lambda *_: chat.held())
    findings = CHECK.run(cast(Subject, subject), LeakBounds(**bounds), lambda *_: None)
    return {finding.name: finding for finding in findings}


def failing(findings: Mapping[str, Finding]) -> set[str]:
    assert {one.outcome for one in findings.values()} <= {"pass", "fail", "skipped"}
    return {name for name, one in findings.items() if one.outcome == "fail"}


KINDS = {f"memory-{name}" for name in ("short", "middle", "long", "cut", "constrained")}


@pytest.mark.parametrize("effort", ["quick", "default"])
@pytest.mark.parametrize(
    ("chat", "expected"),
    [
        (Leaky, set()),
        (LeakyMemory, KINDS),
        (LeakyCut, {"memory-cut"}),
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
    assert asked == [100, 500, 10_000]


def test_a_leak_that_is_too_small_for_500_requests_shows_in_10_000(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(chat: Leaky) -> Leaky:
        monkeypatch.setattr(chat, "held", lambda: Held(10**8 + 3_000 * chat.asked, 10, 5))
        return chat

    assert failing(found(small(Leaky()), monkeypatch)) == set()
    assert failing(found(small(Leaky()), monkeypatch, "long")) == KINDS


def test_bounds_move_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing(found(LeakyMemory(), monkeypatch, most_bytes_per_request=60_000)) == set()
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


def test_what_a_target_does_not_take_or_a_system_does_not_tell_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = found(Refusing(), monkeypatch)
    assert findings["memory-constrained"].outcome == "skipped"
    assert "there are no schemas here" in findings["memory-constrained"].told
    assert findings["memory-cut"].outcome == "pass"  # asked for without a schema
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
def test_a_real_server_is_judged_by_its_process(tmp_path: Path, settings: Settings) -> None:
    with (
        faulty_process("leaks-memory", tmp_path) as (url, _),
        Subject(targets.resolve(url, settings), Against(effort="quick")) as subject,
    ):
        assert CHECK.not_for(subject) is None
        findings = {one.name: one for one in CHECK.run(subject, LeakBounds(), lambda *_: None)}
    assert {name for name, one in findings.items() if one.outcome == "fail"} == KINDS
