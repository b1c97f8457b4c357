from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from edgeship.engine.api import AnswerSteps, Conversation, EngineFault, OnStep, Sampling, Token, Usage
from edgeship.engine.steps import Relay
from edgeship.errors import ContextFull, DeadlinePassed, EdgeshipError, EngineBusy, EngineFailed
from edgeship.measure.evaluation import asking
from edgeship.measure.evaluation.asking import Question, side_by_side
from tests.scripted import Made, ScriptedEngine


def question(text: str, **settings: Any) -> Question:
    return Question(Conversation([{"role": "user", "content": text}]), Sampling(**settings))


def answered(found: object) -> str:
    assert not isinstance(found, EdgeshipError)
    return found.text  # type: ignore[attr-defined, no-any-return]


class Refusing(ScriptedEngine):
    """Raises what `refuse` gives for a question, at once; counts what is asked and what is asked at a time."""

    def __init__(self, answers: dict[str, str], refuse: Callable[[str], Exception | None], **options: Any) -> None:
        super().__init__(answers, **options)
        self.refuse, self.asked = refuse, list[str]()
        self.now = self.most = 0

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        text = str(conversation.messages[-1]["content"])
        self.asked.append(text)
        if error := self.refuse(text):
            raise error
        assert on_step
        tell = on_step
        self.now += 1
        self.most = max(self.most, self.now)

        def count(step: Token | Exception) -> None:
            self.now -= isinstance(step, Exception) or step.finish is not None
            tell(step)

        return super().converse(conversation, sampling, cancel=cancel, deadline_s=deadline_s, on_step=Relay(count))


class Ending(ScriptedEngine):
    """Ends each answer with an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__({})
        self._error = error

    def converse(self, *_: object, on_step: OnStep | None = None, **__: object) -> AnswerSteps:
        assert on_step
        on_step(self._error)
        return Made()


def test_every_question_is_answered_and_never_more_at_a_time() -> None:
    names = [f"q{number}" for number in range(12)]
    with Refusing({name: name * 3 for name in names}, lambda _: None, slots=4) as engine:
        found = dict(side_by_side(engine, [question(name) for name in names], 3))
        assert {index: answered(found[index]) for index in found} == {n: names[n] * 3 for n in range(12)}
        assert engine.most == 3
        assert sorted(engine.asked) == sorted(names)


def test_each_comes_as_it_ends() -> None:
    with ScriptedEngine({"long": "x" * 200, "short": "y"}, slots=2) as engine:
        order = [index for index, _ in side_by_side(engine, [question("long"), question("short")], 2)]
    assert order == [1, 0]


def test_an_error_is_one_questions_own() -> None:
    with Refusing({}, lambda text: ContextFull("too long") if text == "b" else None) as engine:
        found = dict(side_by_side(engine, [question(name) for name in "abc"], 2))
    assert [type(found[index]).__name__ for index in range(3)] == ["Answer", "ContextFull", "Answer"]
    with Ending(EngineFailed("gone")) as engine:
        assert [type(each) for _, each in side_by_side(engine, [question("a")] * 3, 2)] == [EngineFailed] * 3


def test_a_fault_of_ours_is_raised() -> None:
    with Ending(EngineFault("bug")) as engine, pytest.raises(EngineFault, match="bug"):
        list(side_by_side(engine, [question("a")], 1))


def test_a_busy_chat_is_asked_again_and_less_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("edgeship.measure.evaluation.asking.time.sleep", slept.append)
    refused = iter([None, EngineBusy("full"), None, None, EngineBusy("full"), EngineBusy("full")])
    with Refusing({}, lambda _: next(refused, None)) as engine:
        found = dict(side_by_side(engine, [question(name) for name in "abcd"], 4))
        assert sorted(found) == [0, 1, 2, 3]
        assert not any(isinstance(each, EdgeshipError) for each in found.values())
        assert len(engine.asked) == 7
    assert slept
    with Refusing({}, lambda _: EngineBusy("always")) as engine:
        found = dict(side_by_side(engine, [question("a")], 1))
        assert isinstance(found[0], EngineBusy)
        assert len(engine.asked) == asking.BUSY_TRIES + 1


class Hanging(ScriptedEngine):
    """Says nothing to some questions, and that their time is over long before it is: others need theirs."""

    def __init__(self, hangs: Callable[[str], bool]) -> None:
        super().__init__({})
        self._hangs, self.asked = hangs, 0

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        self.asked += 1
        assert on_step
        if not self._hangs(str(conversation.messages[-1]["content"])):
            return super().converse(conversation, sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step)
        threading.Timer(0.02, on_step, [Token(None, "", "deadline", usage=Usage(0, 0, 0.0, 0.0))]).start()
        return Made()


def test_a_chat_that_says_nothing_any_more_is_not_asked_on() -> None:
    questions = [question(name) for name in "abcdefghij"]
    with (
        Hanging(lambda text: text > "c") as engine,
        pytest.raises(EngineFailed, match="nothing of 2 answers in a row came within 30 s"),
    ):
        list(side_by_side(engine, questions, 1, timeout_s=30))
    assert engine.asked == 5


def test_answers_that_come_meanwhile_are_signs_of_life() -> None:
    names = ["a", "hang", "b", "hang", "c", "hang", "d"]
    with Hanging(lambda text: text == "hang") as engine:
        found = dict(side_by_side(engine, [question(name) for name in names], 1, timeout_s=30))
    assert [isinstance(found[index], DeadlinePassed) for index in range(7)] == [False, True] * 3 + [False]
    assert "nothing of the answer came within 30 s" in str(found[1])


def test_an_answer_that_takes_too_long_is_an_error() -> None:
    with ScriptedEngine({"a": "x" * 1000}, delay_s=0.01) as engine:
        found = dict(side_by_side(engine, [question("a")], 1, timeout_s=0.05))
    assert isinstance(found[0], DeadlinePassed)


def test_what_is_answered_before_the_time_runs_out_is_kept() -> None:
    with ScriptedEngine({"a": "x", "b": "x" * 3000}, delay_s=0.002, slots=1) as engine:
        found = dict(side_by_side(engine, [question("a"), *[question("b")] * 3], 2, until=time.monotonic() + 0.5))
        assert list(found) == [0]
        deadline = time.monotonic() + 10
        while engine.stats().running and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.stats().running == 0


def test_whoever_closes_it_ends_the_answers() -> None:
    with ScriptedEngine({"a": "x", "b": "x" * 3000}, delay_s=0.002, slots=2) as engine:
        found = side_by_side(engine, [question("a"), question("b")], 2)
        assert next(found)[0] == 0
        found.close()
        deadline = time.monotonic() + 10
        while engine.stats().running and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.stats().running == 0
