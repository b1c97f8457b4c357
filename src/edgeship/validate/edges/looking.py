"""The check: asks the catalogue from every side, and tells by kinds how many requests got what they must get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeship.progress import Progress
from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.edges.catalogue import ROWS
from edgeship.validate.edges.evidence import evidence_of
from edgeship.validate.edges.row import KINDS, SURFACES, Kind, Row
from edgeship.validate.edges.target import QUICK_SURFACES, Outcome, Unasked, ask_everywhere, is_ours, sides
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Finding

_TOLD: dict[Kind, str] = {
    "texts": "with odd texts",
    "control-tokens": "with control tokens and templates in their texts",
    "roles": "with odd roles",
    "fields": "with missing or wrong fields",
    "settings": "with extreme settings",
    "constraints": "with exploding schemas, expressions and tools",
    "bodies": "with bodies that are damaged",
    "wire": "that are odd as HTTP",
    "clients": "of clients that leave, keep silent or come in crowds",
}


_UNASKED: dict[Unasked, str] = {
    "gone": "could not be asked any more, since the target was gone",
    "slow": "had to be left out, since the same had taken long by another API",
}


@dataclass(frozen=True)
class EdgeBounds(Bounds):
    """What the figures are held to."""

    max_answer_s: float = bound(
        60.0,
        "How long a request may take until it counts as one that hangs; or ten times what a plain answer takes, where "
        "that is more. No request of this check has so much to do. A long text has ten times what as many letters of a "
        "question of 400 words took, and many questions at once have twice what they would take one by one besides.",
        least=1,
    )
    max_wrong_answers: int = bound(
        0, "How many requests of one kind may get another answer than they must. Each of them is a way to fail."
    )


def rows_for(*, quick: bool) -> tuple[Row, ...]:
    """The rows that are asked: a quick check asks a few of each kind."""
    return tuple(row for row in ROWS if row.quick or not quick)


def look(subject: Subject, bounds: EdgeBounds, progress: Progress) -> Iterator[Finding]:
    """See Check.run."""
    quick, ours = subject.effort == "quick", is_ours(subject)
    surfaces = QUICK_SURFACES if quick else SURFACES
    reached, findings = sides(subject, bounds.max_answer_s, surfaces=surfaces, ours=ours)
    yield from findings
    rows = rows_for(quick=quick)
    for number, kind in enumerate(KINDS):
        progress(f"requests {_TOLD[kind]}", number / len(KINDS))
        for one in reached:
            one.look_again()
        outcomes = [
            outcome
            for row in rows
            if row.kind == kind
            for one in reached
            for outcome in ask_everywhere(one, row, surfaces, ours=ours)
            if outcome.heard is not None or outcome.unasked
        ]
        if outcomes:
            yield _finding(kind, outcomes, bounds, quick=quick)


def _finding(kind: Kind, outcomes: list[Outcome], bounds: EdgeBounds, *, quick: bool) -> Finding:
    asked = [outcome for outcome in outcomes if not outcome.unasked]
    if not asked:
        return Finding(kind, "skipped", f"Requests {_TOLD[kind]} could not be asked: the target was gone.")
    failed = [outcome for outcome in asked if outcome.wrong]
    held, most = len(asked) - len(failed), len(asked)
    surfaces = ", ".join(dict.fromkeys(outcome.surface for outcome in asked))
    told = f"{held} of {most} requests {_TOLD[kind]} got the answer that they must get ({surfaces})"
    if quick:
        told += "; a quick check asks a few of each kind"
    for why, words in _UNASKED.items():
        if count := sum(outcome.unasked == why for outcome in outcomes):
            told += f"; {count} {words}"
    if failed:
        told += f". The first that did not: {failed[0].row.told}, {failed[0].wrong}"
    return Finding(
        kind,
        "pass" if len(failed) <= bounds.max_wrong_answers else "fail",
        f"{told.rstrip('.')}.",
        figure=len(failed),
        bound=bounds.max_wrong_answers,
        unit="wrong answers",
        evidence=tuple(map(evidence_of, failed)),
    )
