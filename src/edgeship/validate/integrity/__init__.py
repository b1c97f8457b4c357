"""Is whole, and what it says of itself is true. Nothing here is measured: the same package always finds the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeship.errors import EdgeshipError
from edgeship.progress import Progress
from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.check import Check
from edgeship.validate.integrity import declared, harmless, opens, prompts, vocabulary, whole
from edgeship.validate.integrity.looked_at import LookedAt, unreadable
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Finding


@dataclass(frozen=True)
class IntegrityBounds(Bounds):
    """What the figures are held to."""

    max_unmade_tokens: int = bound(
        0,
        "Tokens that the tokenizer's merges no longer make. Those of eleven families of models that were looked at "
        "make all of theirs but bytes, reserved tokens, tags and runs of blanks, which do not count.",
    )
    max_unknown_control_texts: int = bound(
        0,
        "Texts like <|user|> that the chat template writes around turns and the tokenizer has no token for, counted "
        "where the template writes no token at all. A template of another family than the tokenizer's has some.",
    )
    max_temperature: float = bound(
        2.0, "The temperature at which it samples where nobody says otherwise: the most that OpenAI's API takes."
    )
    max_repetition_penalty: float = bound(
        2.0,
        "The repetition penalty, or its inverse, where nobody says otherwise. Models that state one have 1.05 to 1.3; "
        "at 2 they avoid every word that they have used.",
        least=1.0,
    )


def _run(subject: Subject, bounds: IntegrityBounds, progress: Progress) -> Iterator[Finding]:
    folder = subject.folder
    if folder is not None:
        looked, is_foundry = LookedAt(folder), subject.target.kind == "foundry"
        parts: dict[str, tuple[str, Callable[[], Iterator[Finding]]]] = {
            "digests": ("files", lambda: whole.findings(looked, progress)),
            "stays-in-folder": ("code, links and operators", lambda: harmless.findings(looked)),
        }
        if _readable(looked):
            parts |= {
                "template-fidelity": (
                    "prompts",
                    lambda: prompts.findings(looked, bounds, strict=is_foundry or not looked.of_another_tool),
                ),
                "round-trip": ("the tokenizer", lambda: vocabulary.findings(looked, bounds, subject.effort)),
                "context": ("what is stated", lambda: declared.findings(looked, bounds)),
            }
        for name, (what, part) in parts.items():
            progress(what, None)
            yield from _each(name, part)
    progress("one question", None)
    opened = list(opens.findings(subject))
    if folder is None and all(found.outcome == "pass" for found in opened):
        # That a server answers does not make it whole: nothing was seen of what this check is about.
        told = " ".join(found.told for found in opened)
        yield Finding("files", "skipped", f"A server's files cannot be looked at. {told}")
        return
    yield from opened


def _readable(looked: LookedAt) -> bool:
    """Whether its genai_config.json can be read; why not is a finding of those who read it first."""
    try:
        return bool(looked.config.model_file)
    except EdgeshipError:
        return False


def _each(name: str, part: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a part finds; a file that cannot be read ends the part, and the others go on."""
    try:
        yield from part()
    except EdgeshipError as error:
        yield unreadable(name, error)


CHECK = Check("integrity", "Is whole, and what it says of itself is true", IntegrityBounds, _run)
