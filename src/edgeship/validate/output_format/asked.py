"""The answers whose format is looked at: the evaluation's, some of them the other way, or a few built-in ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from edgeship.engine.answer import Answer
from edgeship.engine.api import Constraint, Conversation, FinishReason, Sampling, ToolCall
from edgeship.engine.thinking import answer_of
from edgeship.errors import DependencyMissing, EdgeshipError, UsageError
from edgeship.measure.cases.evalset import EvalCase, take_evenly
from edgeship.measure.evaluation.asking import Question, side_by_side
from edgeship.measure.evaluation.target import SERVER_CONCURRENCY
from edgeship.progress import Progress
from edgeship.validate import requests
from edgeship.validate.output_format import shape
from edgeship.validate.output_format.shape import Shape
from edgeship.validate.output_format.text import scripts
from edgeship.validate.subject import Subject

_SAMPLED, _SAMPLED_QUICKLY = 24, 6
_TIMEOUT_S = 300.0
_GIVE_UP_AFTER = 4
"""So many errors and no answer, and no more is asked: each may have taken the whole timeout."""
_BUILT_IN = (
    "What is the capital of France? Answer with one word.",
    "Name three colours.",
    "Is seven an odd number? Answer yes or no.",
    "Say good morning in German.",
    "What is 12 plus 30? Answer with the number alone.",
    "Complete the proverb in a few words: the early bird catches",
    "Which day comes after Monday?",
    "Write one short sentence about the sea.",
)
"""Asked where there is no evaluation: a model that stops by itself has said all that is wanted within a few words."""
_BUILT_IN_TOKENS = 160
_BUILT_IN_QUICKLY = 5
"""Of fewer, all would have to be truncated before it could not be chance, where half of them may be."""
_BUILT_IN_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "maxLength": 40}, "sure": {"type": "boolean"}},
    "required": ["answer", "sure"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Said:
    """One answer, and what it is held against.

    name: of what was asked. wanted: the structure that it must have; None where any will do. constrained: it was
    made under that constraint. expected: right answers as texts. open: more may stand around what is expected, or
    nothing is. request: as evidence keeps it. thought: it has thoughts before its text.
    """

    name: str
    request: Mapping[str, Any]
    text: str
    finish: FinishReason
    question: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    wanted: Constraint | None = None
    constrained: bool = False
    expected: tuple[str, ...] = ()
    open: bool = True
    tools: Sequence[Mapping[str, Any]] = ()
    thought: bool = False

    @property
    def is_cut_in_thought(self) -> bool:
        """Whether its tokens were used up before its text began."""
        return self.finish == "length" and self.thought and not self.text


Missed = tuple[Said, EdgeshipError]
"""What was asked, and the error that came instead of an answer."""


@dataclass(frozen=True)
class Gathered:
    """answers: all of them. shapes: inferred from right answers, by the slice they are of; "" is all slices.

    longest: of the right answers, in characters. scripts: that right answers are written in.
    refused: why the target takes no constraint; None where it does.
    own: they answer questions of an evaluation, and not the built-in ones.
    missed: of what was asked beside the evaluation. besides: so much was.
    """

    answers: tuple[Said, ...]
    shapes: Mapping[str, Shape]
    longest: int
    scripts: frozenset[str]
    refused: str | None
    own: bool
    missed: tuple[Missed, ...] = ()
    besides: int = 0


def gather(subject: Subject, progress: Progress) -> Gathered:
    """The answers. Raises what asking raises."""
    if not subject.against.cases:
        return _of_built_in(subject, progress)
    shapes = _shapes(subject.against.cases)
    asked = _of_evaluation(subject, shapes, progress)
    others = _the_other_way(subject, asked, progress)
    texts = [text for case in subject.against.cases for text in right_texts(case)]
    letters = sum((scripts(text) for text in texts), Counter[str]())
    return Gathered(
        (*asked, *others.answers),
        shapes,
        max(map(len, texts), default=0),
        frozenset(letters),
        others.refused,
        True,
        others.missed,
        others.count,
    )


def right_texts(case: EvalCase) -> tuple[str, ...]:
    """Right answers as texts, without thoughts; none where more may stand around them, or assertions alone tell."""
    if case.is_open:
        return ()
    if isinstance(case.expected, list) and case.match == "exact":
        return tuple(answer_of(str(text)).strip() for text in case.expected)
    return (answer_of(case.right_answer or "").strip(),)


def _shapes(cases: Sequence[EvalCase]) -> dict[str, Shape]:
    """The shape of all right answers, or else of each slice's."""

    def of(some: Sequence[EvalCase]) -> Shape | None:
        told = [right_texts(case) for case in some if not case.tools]
        return shape.infer([text for texts in told for text in texts]) if all(told) else None

    if found := of(cases):
        return {"": found}
    slices: dict[str, list[EvalCase]] = {}
    for case in cases:
        slices.setdefault(case.slice, []).append(case)
    return {name: found for name, some in slices.items() if (found := of(some))}


# --- of an evaluation ------------------------------------------------------------------------------------------------


def _of_evaluation(subject: Subject, shapes: Mapping[str, Shape], progress: Progress) -> list[Said]:
    """What came of the cases as it ships; answers that were asked for already are not asked again."""
    way, *_ = subject.evaluation(progress)
    cases = {case.id: case for case in subject.cases}
    return [
        replace(
            _blank(cases[record.id], subject, shapes),
            request=subject.request_of(way, record.id, record.attempt),
            text=record.answer,
            finish=record.finish,
            tool_calls=record.tool_calls,
            thought=bool(record.thinking),
        )
        for record in (way.result.records if way.result else ())
    ]


def _blank(case: EvalCase, subject: Subject, shapes: Mapping[str, Shape]) -> Said:
    """What is known of an answer before it is made."""
    stated = case.constraint or subject.against.constraint
    inferred = shapes.get("") or shapes.get(case.slice)
    wanted = stated or (inferred.constraint if inferred and right_texts(case) and not case.tools else None)
    question = " ".join(message.content for message in case.messages)
    return Said(
        case.id,
        {},
        "",
        "stop",
        question,
        wanted=wanted,
        constrained=stated is not None,
        expected=right_texts(case),
        open=case.is_open,
        tools=case.tools,
    )


def _the_other_way(subject: Subject, asked: Sequence[Said], progress: Progress) -> _Answered:
    """Some of what was asked without a constraint, under one, and without one what was asked under it."""
    structured = [one for one in asked if one.wanted]
    some = take_evenly(structured, _SAMPLED_QUICKLY if subject.effort == "quick" else _SAMPLED)
    way, *_ = subject.evaluation()
    cases = {case.id: case for case in subject.cases}
    questions = [
        Question(
            cases[one.name].asked,
            replace(subject.sampling_of(way, cases[one.name]), constraint=None if one.constrained else one.wanted),
        )
        for one in some
    ]
    blanks = [replace(one, constrained=not one.constrained) for one in some]
    return _answered(subject, blanks, questions, progress)


# --- without one -----------------------------------------------------------------------------------------------------


def _of_built_in(subject: Subject, progress: Progress) -> Gathered:
    texts = take_evenly(_BUILT_IN, _BUILT_IN_QUICKLY if subject.effort == "quick" else None)
    most = subject.against.max_tokens or _BUILT_IN_TOKENS
    found = _built_in(subject, texts, most, progress)
    if not subject.against.max_tokens and any(one.is_cut_in_thought for one in found.answers):
        found = _built_in(subject, texts, most + subject.thoughts_tokens, progress)
    return found


def _built_in(subject: Subject, texts: Sequence[str], most_tokens: int, progress: Progress) -> Gathered:
    sampling = Sampling(max_tokens=most_tokens, seed=0, thoughts_count=False)
    wanted = subject.against.constraint or Constraint("json_schema", json.dumps(_BUILT_IN_SCHEMA))
    blanks = [Said(f"built-in-{number}", {}, "", "stop", text) for number, text in enumerate(texts, 1)]
    asked = [Question(Conversation([{"role": "user", "content": text}]), sampling) for text in texts]
    unconstrained = _answered(subject, blanks, asked, progress)
    if not unconstrained.answers:
        raise unconstrained.missed[0][1]
    constrained = _answered(
        subject,
        [replace(one, wanted=wanted, constrained=True) for one in blanks],
        [replace(one, sampling=replace(sampling, constraint=wanted)) for one in asked],
        progress,
    )
    return Gathered(
        (*unconstrained.answers, *constrained.answers),
        {},
        0,
        frozenset(),
        constrained.refused,
        False,
        (*unconstrained.missed, *constrained.missed),
        unconstrained.count + constrained.count,
    )


# --- asking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answered:
    """refused: why the target takes no constraint, which not every target does."""

    answers: tuple[Said, ...] = ()
    missed: tuple[Missed, ...] = ()
    refused: str | None = None

    @property
    def count(self) -> int:
        """What was asked, and came to an answer or an error."""
        return len(self.answers) + len(self.missed)


def _answered(subject: Subject, blanks: Sequence[Said], questions: Sequence[Question], progress: Progress) -> _Answered:
    """Raises what says nothing about an answer: a library that is missing, and a fault of our own."""
    answers: dict[int, Said] = {}
    missed: list[Missed] = []
    chat = subject.chat
    outcomes = side_by_side(chat, questions, chat.stats().slots or SERVER_CONCURRENCY, timeout_s=_TIMEOUT_S)
    with closing(outcomes):
        for number, (index, outcome) in enumerate(outcomes, 1):
            blank, question = blanks[index], questions[index]
            progress(f"{number} of {len(questions)} answers{', constrained' if blank.constrained else ''}", None)
            if isinstance(outcome, Answer):
                answers[index] = _with(blank, question, outcome)
                continue
            if isinstance(outcome, DependencyMissing) or type(outcome) is EdgeshipError:
                raise outcome
            # The same questions were answered, or are, without a constraint: that is what is refused.
            if question.sampling.constraint and isinstance(outcome, UsageError) and not answers:
                return _Answered(refused=outcome.what)
            missed.append((replace(blank, request=requests.asked(question.conversation, question.sampling)), outcome))
            if len(missed) >= _GIVE_UP_AFTER and not answers:
                break
    return _Answered(tuple(answers[index] for index in sorted(answers)), tuple(missed))


def _with(blank: Said, question: Question, answer: Answer) -> Said:
    return replace(
        blank,
        request=requests.asked(question.conversation, question.sampling),
        text=answer.text,
        finish=answer.finish,
        tool_calls=answer.tool_calls,
        thought=bool(answer.thinking),
    )
