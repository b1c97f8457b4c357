"""Whether an evaluation's cases can be asked: known before anything is built, and before the first is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgeship.checkpoint import Checkpoint, require_template
from edgeship.engine.api import Chat
from edgeship.errors import ConstraintInvalid, ContextFull, EvalInvalid, NotSupported, PromptInvalid, TemplateInvalid
from edgeship.measure.cases.evalset import LISTED_FAULTS, EvalCase, EvalMessage
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
    _require_short(_counted(cases, checkpoint), checkpoint.context_tokens)
    return tuple(cases)


def require_judgeable(cases: Sequence[EvalCase], *, embeds: bool) -> None:
    """Raises EvalInvalid for cases whose answers are compared by meaning, where there is no model to do it by."""
    named = [repr(case.id) for case in cases if any(each.base == "similar" for each in case.asserted)]
    if named and not embeds:
        more = f"; and {len(named) - LISTED_FAULTS} more" if len(named) > LISTED_FAULTS else ""
        raise EvalInvalid(
            f"there is no embedding model for the assertion similar of {', '.join(named[:LISTED_FAULTS])}{more}",
            hint="Name the URL of one where the command takes it (`edgeship eval`), or assert what a text must have.",
        )


def require_schemas(cases: Sequence[EvalCase], file: Path | None) -> None:
    """Raises EvalInvalid, before a model is opened, for cases with a schema of their own that no answer can be held to.

    What only a model's own tokenizer makes impossible is refused once that is known.
    """
    from edgeship.engine.grammar import Grammars

    end = 256
    grammars = Grammars([*(bytes([byte]) for byte in range(end)), b"<end>"], end + 1, [end], [end])
    faults = []
    for case in cases:
        if case.constraint is not None:
            try:
                grammars.matcher(case.constraint)
            except ConstraintInvalid as error:
                faults.append(f"the schema of case {case.id!r}: {error.what}")
    if faults:
        more = f"; and {len(faults) - LISTED_FAULTS} more" if len(faults) > LISTED_FAULTS else ""
        hint = "Mend the schemas, or leave them out."
        raise EvalInvalid("; ".join(faults[:LISTED_FAULTS]) + more, where=str(file) if file else None, hint=hint)


def require_askable_by(chat: Chat, cases: Sequence[EvalCase]) -> None:
    """Raises EvalInvalid for cases that a target with a tokenizer cannot be asked, as `require_askable`.

    Of a target that shows no tokens nothing can be known beforehand.
    """
    codec, limit = chat.codec, chat.context_tokens
    if codec is None or limit is None:
        return

    def count(case: EvalCase) -> int:
        try:
            asked = codec.render(case.asked).tokens
        except ContextFull:
            return limit
        return len(asked) + len(codec.encode(case.right_answer or "", special=False).tokens)

    with_counts = []
    for case in cases:
        with _named(case):
            with_counts.append((case, count(case)))
    _require_short(with_counts, limit)


def _counted(cases: Sequence[EvalCase], checkpoint: Checkpoint) -> Iterator[tuple[EvalCase, int]]:
    tokenizer, limit = checkpoint.tokenizer.load(), checkpoint.context_tokens
    for case in cases:
        text = _rendered(case, checkpoint) + (case.right_answer or "")
        # There are never more tokens than bytes, so most texts need no counting.
        count = len(text.encode())
        yield case, count if count < limit else len(tokenizer.encode(text, special=False))


def _require_short(counted: Iterable[tuple[EvalCase, int]], limit: int) -> None:
    counts = list(counted)
    long = [f"{case.id!r} has {count:,}" for case, count in counts if count >= limit]
    if long:
        more = f"; and {len(long) - LISTED_FAULTS} more" if len(long) > LISTED_FAULTS else ""
        raise EvalInvalid(
            f"{len(long)} of {len(counts)} cases are longer than the context of {limit:,} tokens, question and answer "
            f"together: {', '.join(long[:LISTED_FAULTS])}{more}",
            hint="Shorten them, or leave them out.",
        )


def _without_system(case: EvalCase) -> EvalCase:
    messages = template.with_instructions_in_first_question(case.conversation)
    return case.model_copy(update={"messages": tuple(EvalMessage.model_validate(dict(each)) for each in messages)})


def _rendered(case: EvalCase, checkpoint: Checkpoint) -> str:
    with _named(case):
        return template.render(
            require_template(checkpoint),
            case.conversation,
            special_tokens=checkpoint.special_tokens,
            tools=case.tools,
        )


@contextmanager
def _named(case: EvalCase) -> Iterator[None]:
    """What a template or a tokenizer refuses is told with the case."""
    try:
        yield
    except (PromptInvalid, TemplateInvalid, NotSupported) as error:
        what = f"case {case.id!r} cannot be asked: {error.what}"
        raise EvalInvalid(what, where=error.where, hint=error.hint) from error
