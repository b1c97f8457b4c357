"""Holds over input lengths."""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.progress import Progress
from edgeship.validate.check import Check
from edgeship.validate.lengths import ends, growth, quality
from edgeship.validate.lengths.bounds import LengthBounds
from edgeship.validate.lengths.prompts import Prompts
from edgeship.validate.subject import Effort, Subject
from edgeship.validate.verdict import Finding

_END_S: dict[Effort, float] = {"quick": 2.0, "default": 20.0, "long": 600.0}
"""Prompts as long as the context are asked where one is expected to take no longer."""


def _run(subject: Subject, bounds: LengthBounds, progress: Progress) -> Iterator[Finding]:
    ruler = growth.Ruler(Prompts(subject.chat))
    yield from growth.look(subject, ruler, bounds, progress)
    progress("the end of the context", None)
    context, most_s = subject.chat.context_tokens, _END_S[subject.effort]
    if context is not None and (expected_s := ruler.expected_s(context)) > most_s:
        why = f"A prompt of {context:,} tokens may take {expected_s:.0f} s, more than {most_s:g} s: try --long."
        yield Finding("context-end", "skipped", why)
    else:
        yield from ends.look(ends.in_words(ruler.prompts), context)
    yield from quality.look(subject, bounds, progress)


CHECK = Check("lengths", "Holds over input lengths", LengthBounds, _run)
