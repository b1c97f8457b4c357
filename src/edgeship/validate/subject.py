"""What is validated: a target, opened when a check needs it, with what it is asked and held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from edgeship.engine.api import Chat, Constraint, Engine, Limits, Sampling
from edgeship.engine.remote import RemoteChat
from edgeship.errors import EdgeshipError, PromptInvalid
from edgeship.measure.cases.evalset import EvalCase, take_evenly
from edgeship.measure.evaluation.target import INTERRUPTED, EvalOptions, WayResult, evaluate_target, sampling_of
from edgeship.progress import Progress, silent
from edgeship.targets import Target
from edgeship.validate import requests
from edgeship.validate.server import Server, served

Effort = Literal["quick", "default", "long"]
QUICK_CASES = 48
"""So many cases are asked where there is less than a minute: 43 right answers among them show a rate of 80 %."""
QUICK_PAIRS = 310
"""So many are asked beside an original: they show that 2 % of the answers are not lost, where 2 % of them differ."""
DEADLINE_S = 300.0
"""Far more than a target that is of use takes for a short answer; one that hangs would hold up the gate without it."""
UNKNOWN_CONTEXT_TOKENS = 2048
"""The context of a target that does not tell its own, as servers do not: few models have a shorter one."""
THOUGHTS_TOKENS = 4096
"""So many tokens more an answer may have where thoughts count: with servers, which cannot be told otherwise."""


@dataclass(frozen=True)
class Against:
    """What a target is asked, and what it is held against.

    cases: of the evaluation; none without one. constraint: what answers may be held to (`--schema`).
    original: what the target was made of, for the paired comparison: a target that is asked the same, or a file that
    `edgeship eval --out` wrote. measured: how the target itself answered the cases greedily before, where that is
    known: a quick look holds these answers against the original's. original_build: the original of such a
    file, where what the file lacks may be asked of it. baseline: the version in production.
    max_tokens: of an answer to a case; None for twice the longest right one, and room for thoughts.
    model, api_key: for a URL.
    """

    cases: tuple[EvalCase, ...] = ()
    eval_file: Path | None = None
    constraint: Constraint | None = None
    max_tokens: int | None = None
    original: Target | Path | None = None
    measured: WayResult | None = None
    original_build: Target | None = None
    baseline: Target | None = None
    effort: Effort = "default"
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)


class Subject:
    """See the module. To be closed, which ends every process that was started for it."""

    def __init__(self, target: Target, against: Against | None = None) -> None:
        self.target, self.against = target, against or Against()
        self._open = ExitStack()
        self._fault: EdgeshipError | None = None
        self._evaluation: tuple[WayResult, ...] | EdgeshipError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def effort(self) -> Effort:
        """How much time may be taken."""
        return self.against.effort

    @cached_property
    def cases(self) -> tuple[EvalCase, ...]:
        """Those of the evaluation that there is time for."""
        against = self.against
        if against.effort != "quick":
            return self.different_cases
        beside = against.original is not None and against.measured is None
        return take_evenly(self.different_cases, QUICK_PAIRS if beside else QUICK_CASES)

    @cached_property
    def different_cases(self) -> tuple[EvalCase, ...]:
        """Those of the evaluation, of copies under several names the first: asked twice, a question shows no more."""
        first = {case.sameness: case for case in reversed(self.against.cases)}
        return tuple(case for case in self.against.cases if first[case.sameness] is case)

    @cached_property
    def case_by_id(self) -> Mapping[str, EvalCase]:
        """All cases of the evaluation, by what they are called."""
        return {case.id: case for case in self.against.cases}

    @property
    def eval_options(self) -> EvalOptions:
        """How they are asked."""
        return EvalOptions(constraint=self.against.constraint, max_tokens=self.against.max_tokens)

    def evaluation(self, progress: Progress = silent) -> tuple[WayResult, ...]:
        """What came of the cases, asked once for all checks that look at answers.

        Raises as `evaluate_target`, and each time the same: who has answered nothing is not asked it all again.
        """
        if self._evaluation is None:
            try:
                self._evaluation = self._answers(progress)
            except EdgeshipError as error:
                self._evaluation = error
        if isinstance(self._evaluation, EdgeshipError):
            raise self._evaluation
        if any(way.stopped == INTERRUPTED for way in self._evaluation):
            raise KeyboardInterrupt  # a part of the answers is no ground for a verdict
        return self._evaluation

    @property
    def thoughts_tokens(self) -> int:
        """How many tokens more an answer may have where its thoughts count."""
        context = self.chat.context_tokens
        return min(THOUGHTS_TOKENS, context // 2) if context else THOUGHTS_TOKENS

    def _answers(self, progress: Progress) -> tuple[WayResult, ...]:
        """What came of the cases; asked once more where thoughts took the tokens that were meant for answers."""
        options = self.eval_options
        found = evaluate_target(self.chat, self.cases, options, progress)
        cut = [int(way.sampling["max_tokens"]) for way in found if _has_cut_thoughts(way)]
        if not cut or options.max_tokens or isinstance(self.chat, Engine) or found[-1].stopped == INTERRUPTED:
            return found
        more = replace(options, max_tokens=max(cut) + self.thoughts_tokens)
        try:
            return evaluate_target(self.chat, self.cases, more, progress)
        except PromptInvalid:  # so much does not fit into a context whose length the server does not tell
            return found

    def sampling_of(self, way: WayResult, case: EvalCase, attempt: int = 1) -> Sampling:
        """How a case was answered in a way."""
        most = int(way.sampling["max_tokens"])
        return sampling_of(way.way, most, case, self.chat, self.eval_options, attempt)

    def request_of(self, way: WayResult, name: str, attempt: int = 1) -> dict[str, Any]:
        """How the case of that name was asked in a way, as evidence keeps it."""
        case = self.case_by_id[name]
        return requests.asked(case.asked, self.sampling_of(way, case, attempt))

    @cached_property
    def folder(self) -> Path | None:
        """The package's; None of a server. Raises what `Target.package_folder` raises."""
        if self.target.kind == "url":
            return None
        return self.target.registered_folder() if self.target.kind == "foundry" else self.target.package_folder()

    @cached_property
    def chat(self) -> Chat:
        """The target, opened once for all checks that leave it as it was. Raises what opening raises, each time."""
        if self._fault is not None:
            raise self._fault
        try:
            return self._open.enter_context(self._opened())
        except EdgeshipError as error:
            self._fault = error
            raise

    @cached_property
    def server(self) -> Server:
        """The target over HTTP, for all checks that ask it so: a server as it is, anything else by one of ours.

        Raises what `served` raises, and what opening a server's URL does.
        """
        if self.target.kind != "url":
            return self._open.enter_context(served(self.target))
        chat = self.chat
        assert isinstance(chat, RemoteChat), "a URL is opened as one"
        return Server(chat.url, chat.model, self.against.api_key)

    def close_shared(self) -> None:
        """Ends the chat and the server that checks share, for a check that needs the memory; they are opened again."""
        self._open.close()
        for name in ("chat", "server"):
            vars(self).pop(name, None)

    @property
    def fault(self) -> EdgeshipError | None:
        """Why the target could not be opened; None where nobody tried, or it could."""
        return self._fault

    @contextmanager
    def anew(self, limits: Limits | None = None) -> Iterator[Chat]:
        """The target opened once more, for checks that need a process without a past; a server is only connected to."""
        with self._opened(limits) as chat:
            yield chat

    def _opened(self, limits: Limits | None = None) -> Chat:
        """In a process of its own, as under `edgeship serve`: what that holds is the model's alone."""
        if self.target.kind == "url":
            return self.target.open(model=self.against.model, api_key=self.against.api_key)
        return self.target.open_apart(limits or Limits())


def _has_cut_thoughts(way: WayResult) -> bool:
    records = way.result.records if way.result else ()
    return any(record.thinking and record.finish == "length" for record in records)
