"""The answers whose format is looked at: the evaluation's, some of them the other way, or a few built-in ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeship.engine.answer import Answer
from edgeship.engine.api import Constraint, Conversation, FinishReason, Sampling, ToolCall
from edgeship.engine.thinking import answer_of
from edgeship.errors import ConstraintInvalid, EdgeshipError, NotSupported
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
_BUILT_IN_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "maxLength": 40}, "sure": {"type": "boolean"}},
    "required": ["answer", "sure"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Said:
    """One answer, and what it is held against.

    name: of what was asked. wanted: the structure that it must have; None where any will do. held: it was made under
    that constraint. expected: right answers as texts. open: more may stand around what is expected, or nothing is.
    request: as evidence keeps it.
    """

    name: str
    request: Mapping[str, Any]
    text: str
    finish: FinishReason
    question: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    wanted: Constraint | None = None
    held: bool = False
    expected: tuple[str, ...] = ()
    open: bool = True
    tools: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Gathered:
    """answers: all of them. shapes: inferred from right answers, by the slice they are of; "" is all slices.

    longest: of the right answers, in characters. scripts: that right answers are written in.
    unheld: why none could be held to a constraint; None where they could.
    own: they answer questions of an evaluation, and not the built-in ones.
    """

    answers: tuple[Said, ...]
    shapes: Mapping[str, Shape]
    longest: int
    scripts: frozenset[str]
    unheld: str | None
    own: bool


def gather(subject: Subject, progress: Progress) -> Gathered:
    """The answers. Raises what asking raises."""
    if not subject.against.cases:
        return _of_built_in(subject, progress)
    shapes = _shapes(subject.against.cases)
    asked = _of_evaluation(subject, shapes, progress)
    others, unheld = _the_other_way(subject, asked, progress)
    texts = [text for case in subject.against.cases for text in right_texts(case)]
    letters = sum((scripts(text) for text in texts), Counter[str]())
    return Gathered((*asked, *others), shapes, max(map(len, texts), default=0), frozenset(letters), unheld, True)


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
        held=stated is not None,
        expected=right_texts(case),
        open=case.is_open,
        tools=case.tools,
    )


def _the_other_way(subject: Subject, asked: Sequence[Said], progress: Progress) -> tuple[list[Said], str | None]:
    """Some of what was asked free, held to its structure, and free what was held to it."""
    structured = [one for one in asked if one.wanted]
    some = take_evenly(structured, _SAMPLED_QUICKLY if subject.effort == "quick" else _SAMPLED)
    way, *_ = subject.evaluation()
    cases = {case.id: case for case in subject.cases}
    questions = [
        Question(
            cases[one.name].asked,
            replace(subject.sampling_of(way, cases[one.name]), constraint=None if one.held else one.wanted),
        )
        for one in some
    ]
    blanks = [replace(one, held=not one.held) for one in some]
    return _answered(subject, blanks, questions, progress)


# --- without one -----------------------------------------------------------------------------------------------------


def _of_built_in(subject: Subject, progress: Progress) -> Gathered:
    texts = take_evenly(_BUILT_IN, 4 if subject.effort == "quick" else None)
    sampling = Sampling(max_tokens=_BUILT_IN_TOKENS, seed=0, thoughts_count=False)
    wanted = subject.against.constraint or Constraint("json_schema", json.dumps(_BUILT_IN_SCHEMA))
    free = [Said(f"built-in-{number}", {}, "", "stop", text) for number, text in enumerate(texts, 1)]
    held = [replace(one, wanted=wanted, held=True) for one in free]
    asked = [Question(Conversation([{"role": "user", "content": text}]), sampling) for text in texts]
    constrained = [replace(one, sampling=replace(sampling, constraint=wanted)) for one in asked]
    answers, _ = _answered(subject, free, asked, progress)
    others, unheld = _answered(subject, held, constrained, progress)
    return Gathered((*answers, *others), {}, 0, frozenset(), unheld, False)


def _answered(
    subject: Subject, blanks: Sequence[Said], questions: Sequence[Question], progress: Progress
) -> tuple[list[Said], str | None]:
    """The answers, and why those held to a constraint could not be: not every target can."""
    answers: dict[int, Said] = {}
    chat = subject.chat
    outcomes = side_by_side(chat, questions, chat.stats().slots or SERVER_CONCURRENCY, timeout_s=_TIMEOUT_S)
    for number, (index, outcome) in enumerate(outcomes, 1):
        blank, question = blanks[index], questions[index]
        progress(f"{number} of {len(questions)} answers{', held to a structure' if blank.held else ''}", None)
        if isinstance(outcome, NotSupported | ConstraintInvalid) and question.sampling.constraint:
            return [], outcome.what
        if isinstance(outcome, EdgeshipError):
            raise outcome
        answers[index] = _with(blank, question, outcome)
    return [answers[index] for index in sorted(answers)], None


def _with(blank: Said, question: Question, answer: Answer) -> Said:
    return replace(
        blank,
        request=requests.asked(question.conversation, question.sampling),
        text=answer.text,
        finish=answer.finish,
        tool_calls=answer.tool_calls,
    )
