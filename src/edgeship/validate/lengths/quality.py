"""Whether answers stay right in longer prompts, and facts are found wherever they stand, as by the original."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgeship.errors import IntegrityError, ResourceError, ToolFailed, came_from
from edgeship.measure.statistics import noninferiority
from edgeship.progress import Progress
from edgeship.targets import Target
from edgeship.validate.lengths.answers import Answers, ask, rates, unanswered
from edgeship.validate.lengths.beside import FACTS, QUALITY, decided_by, groups_of, judge
from edgeship.validate.lengths.bounds import LengthBounds
from edgeship.validate.lengths.longer import ALONE, BESIDE, OWN, Amount, Asked, facts, padded
from edgeship.validate.subject import Against, Subject
from edgeship.validate.verdict import Finding, Outcome

_ORIGINAL_SLOWER = 4
"""An original in FP32 may take so many times as long."""
_OUTCOMES: dict[noninferiority.Outcome, Outcome] = {"holds": "pass", "fails": "fail", "undecided": "undecided"}


def look(subject: Subject, bounds: LengthBounds, progress: Progress) -> Iterator[Finding]:
    """The eval's cases in longer prompts, and facts in fillers."""
    original, why = _original(subject.against)
    amount, chat = BESIDE[subject.effort] if original else ALONE[subject.effort], subject.chat
    cases, needles = padded(chat, subject.against.cases, amount), facts(chat, amount)
    if not cases:
        short = subject.against.cases
        told = "No case is short enough to be made longer." if short else "There are no cases to be made longer."
        yield Finding("quality", "skipped", told)
    found = ask(chat, (cases, needles), amount.spend_s, progress)
    yield from unanswered([*cases, *needles], found)
    if original is None:
        if cases:
            yield _quality_alone(cases, found, bounds.min_kept_share, why, long=subject.effort == "long")
        told = f"Facts that were found: {_in_words(needles, found)}. {why}"
        yield Finding("facts", "skipped", told, noted=_anything(needles, found))
        return
    progress("the original is asked the same", None)
    reference = _of_original(original, (cases, needles), found, amount, progress)
    if isinstance(reference, str):
        told = f"The original could not be asked the same: {reference.rstrip('.')}."
        yield Finding("beside-original", "undecided", told, decided_by="An original that answers.")
        return
    for kind, asked in ((QUALITY, cases), (FACTS, needles)):
        groups = groups_of(kind, asked, found, reference)
        if asked and not groups:
            told = "Nothing was answered by both the target and the original in the time that there was."
            yield Finding(kind.name, "skipped", told)
        yield from judge(groups, found, reference, bounds.max_drop, long=subject.effort == "long")


def _original(against: Against) -> tuple[Target | None, str]:
    """The original where it is asked the same; else why not."""
    original = against.original if isinstance(against.original, Target) else against.original_build
    if original is None and against.original is not None:
        return None, "The original is a file of answers, which cannot be asked how many could be."
    if original is None:
        return None, "Without an original to ask, nothing says how many could be."
    if against.effort not in BESIDE:
        return None, "To hold that against the original takes more questions than --quick has time for."
    return original, ""


def _of_original(
    original: Target, parts: Sequence[Sequence[Asked]], found: Answers, amount: Amount, progress: Progress
) -> Answers | str:
    """What it answers to all that the target had time for; or why it answers nothing."""
    same = [[each for each in part if found.took(each.case.id)] for part in parts]
    try:
        with original.open() as chat:
            reference = ask(chat, same, _ORIGINAL_SLOWER * amount.spend_s, progress)
    except (ToolFailed, IntegrityError, ResourceError) as error:
        if came_from(error, KeyboardInterrupt):  # what is interrupted while it starts says that it failed
            raise
        return error.what
    if reference.errors and not reference.records:
        return next(iter(reference.errors.values())).what
    return reference


# --- by itself -------------------------------------------------------------------------------------------------------


def _anything(asked: Sequence[Asked], found: Answers) -> bool:
    """Whether anything was answered, right or wrong: else nothing was measured."""
    return bool(rates(asked, found))


def _in_words(asked: Sequence[Asked], found: Answers) -> str:
    told = ", ".join(f"{passed} of {total} {group}" for group, (passed, total) in rates(asked, found).items())
    if told:
        return told
    failed = any(each.case.id in found.errors for each in asked)
    return "none, since what was asked ended with errors" if failed else "none, for lack of time"


def _quality_alone(cases: Sequence[Asked], found: Answers, least: float, why: str, *, long: bool) -> Finding:
    """How many are right at each length; held to a bound where a gate file sets one."""
    told = f"Right with text before the question: {_in_words(cases, found)}."
    answered = [each for each in cases if each.case.id in found.records]
    right = {each.case.id for each in answered if each.group == OWN and found.records[each.case.id].passed}
    longest = answered[-1].group if answered else OWN
    kept = [found.records[each.case.id].passed for each in answered if each.group == longest and each.of in right]
    if not least or longest == OWN or not kept:
        return Finding("quality", "skipped", f"{told} {why}", noted=_anything(cases, found))
    judged = noninferiority.of_rate(sum(kept), len(kept), least)
    told = (
        f"{told} Of those that are right at their own length {sum(kept)} of {len(kept)} stay right {longest}, "
        f"{100 * judged.figure:.0f} %, and {100 * least:.0f} % must."
    )
    more = decided_by(QUALITY, long=long) if judged.outcome == "undecided" else None
    outcome = _OUTCOMES[judged.outcome]
    return Finding("quality", outcome, told, judged.figure, least, "share", decided_by=more, is_least=True, noted=True)
