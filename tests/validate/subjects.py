"""Subjects of the gate whose answers a test makes up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeship import settings as settings_module
from edgeship.engine.api import Chat, Limits, Sampling
from edgeship.measure.cases.evalset import EvalCase
from edgeship.progress import silent
from edgeship.settings import Settings
from edgeship.targets import Target
from edgeship.validate.bounds import Bounds
from edgeship.validate.check import Check
from edgeship.validate.subject import Against, Subject
from edgeship.validate.verdict import Finding
from tests.measure.evaluation.test_target import Server


def case(name: str, expected: Any = "yes", **more: Any) -> EvalCase:
    """A case that is asked by its name."""
    asked = {"id": name, "messages": [{"role": "user", "content": name}], "expected": expected}
    return EvalCase.model_validate({key: value for key, value in (asked | more).items() if value is not None})


def sampling_server(say: Callable[[str, bool], str]) -> Chat:
    """A server that is asked greedily too. say: its answer to a question, and whether it is greedy."""
    return Server(lambda question, sampling: say(question, _is_greedy(sampling)))


def _is_greedy(sampling: Sampling) -> bool:
    return sampling.temperature == 0


def subject_of(chat: Chat, settings: Settings, cases: Sequence[EvalCase] = (), **against: Any) -> Subject:
    """A subject over this chat, as of a server: there is no folder to look into."""
    subject = Subject(Target("url", "http://127.0.0.1:9/v1", settings), Against(cases=tuple(cases), **against))
    vars(subject)["chat"] = chat
    return subject


def found_by(check: Check, subject: Subject, bounds: Bounds | None = None) -> dict[str, Finding]:
    """What a check finds, by name."""
    return {finding.name: finding for finding in check.run(subject, bounds or check.bounds(), silent)}


class Opened(Subject):
    """A subject whose chats this makes, without a package."""

    folder: Path | None = None

    def __init__(self, make: Callable[[], Chat], against: Against | None = None) -> None:
        super().__init__(Target("folder", "made-up", settings_module.resolve()), against)
        self._make = make

    @contextmanager
    def anew(self, limits: Limits | None = None) -> Iterator[Chat]:  # noqa: ARG002 - the chat has its own
        """See Subject."""
        with self._make() as chat:
            yield chat

    def _opened(self, limits: Limits | None = None) -> Chat:  # noqa: ARG002 - the same
        return self._make()
