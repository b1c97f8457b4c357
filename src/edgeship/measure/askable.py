"""Whether a checkpoint can be asked an evaluation's cases: known before anything is built."""

from __future__ import annotations

from collections.abc import Sequence

from edgeship.checkpoint import Checkpoint, require_template
from edgeship.errors import EvalInvalid, TemplateInvalid
from edgeship.measure.evalset import LISTED_FAULTS, EvalCase, EvalMessage
from edgeship.package import template
from edgeship.progress import Progress, silent


def require_askable(
    cases: Sequence[EvalCase], checkpoint: Checkpoint, progress: Progress = silent
) -> tuple[EvalCase, ...]:
    """The cases as the checkpoint's template takes them.

    Raises EvalInvalid for one that the template refuses, or that is longer than the context with its expected answer.
    """
    chat_template, tokens = require_template(checkpoint), tuple(checkpoint.special_tokens.items())
    if any(message.role == "system" for case in cases for message in case.messages) and not (
        template.takes_instructions(chat_template, tokens)
    ):
        progress("note: this model has no system role, so instructions go before the first question", None)
        cases = [_without_system(case) for case in cases]
    _require_short(cases, checkpoint)
    return tuple(cases)


def _require_short(cases: Sequence[EvalCase], checkpoint: Checkpoint) -> None:
    tokenizer, limit = checkpoint.tokenizer.load(), checkpoint.context_tokens
    long = []
    for case in cases:
        text = _rendered(case, checkpoint) + case.expected_text
        # There are never more tokens than bytes, so most texts need no counting.
        count = len(text.encode())
        if count >= limit and (count := len(tokenizer.encode(text, special=False))) >= limit:
            long.append(f"{case.id!r} has {count:,}")
    if long:
        more = f"; and {len(long) - LISTED_FAULTS} more" if len(long) > LISTED_FAULTS else ""
        raise EvalInvalid(
            f"{len(long)} of {len(cases)} cases are longer than the context of {limit:,} tokens, question and answer "
            f"together: {', '.join(long[:LISTED_FAULTS])}{more}",
            hint="Shorten them, or leave them out.",
        )


def _without_system(case: EvalCase) -> EvalCase:
    messages = template.with_instructions_in_first_question(case.conversation)
    return case.model_copy(update={"messages": tuple(EvalMessage.model_validate(dict(each)) for each in messages)})


def _rendered(case: EvalCase, checkpoint: Checkpoint) -> str:
    chat_template = require_template(checkpoint)
    try:
        return template.render(chat_template, case.conversation, special_tokens=checkpoint.special_tokens)
    except TemplateInvalid as error:
        what = f"case {case.id!r} cannot be asked: {error.what}"
        raise EvalInvalid(what, where=error.where, hint=error.hint) from error
