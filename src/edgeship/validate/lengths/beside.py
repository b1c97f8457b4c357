"""Answers to long prompts beside the original's: whether fewer are right, and what too few of them can show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeship.measure.statistics import noninferiority
from edgeship.measure.statistics.intervals import PairedChange, least_cases, paired_change
from edgeship.validate import requests
from edgeship.validate.lengths.answers import Answers, evidence_of
from edgeship.validate.lengths.longer import Asked
from edgeship.validate.verdict import Finding, Outcome


@dataclass(frozen=True)
class Kind:
    """What is counted. name: of its findings. verb: of what passes. more: what has more of it than --long asks."""

    name: str
    verb: str
    more: str


QUALITY = Kind("quality", "answered right", "an evaluation with more cases has them")
FACTS = Kind("facts", "found", "they are not asked here, and whoever knows the model can judge by those that are lost")


@dataclass(frozen=True)
class Pair:
    """A question that both were asked, and whether each passed; a target's error is no answer."""

    asked: Asked
    before: bool
    after: bool


@dataclass(frozen=True)
class Group:
    """The questions at one length or place, one at least."""

    kind: Kind
    where: str
    pairs: Sequence[Pair]

    @property
    def change(self) -> PairedChange:
        """Of the part that passes."""
        return paired_change([pair.before for pair in self.pairs], [pair.after for pair in self.pairs])

    @property
    def lost(self) -> list[Asked]:
        """What the original passes alone."""
        return [pair.asked for pair in self.pairs if pair.before and not pair.after]

    @property
    def counted(self) -> str:
        """How many pass, in words."""
        after, before = sum(pair.after for pair in self.pairs), sum(pair.before for pair in self.pairs)
        return f"{after} of {len(self.pairs)} are {self.kind.verb} {self.where}, {before} by the original"


def groups_of(kind: Kind, asked: Sequence[Asked], found: Answers, reference: Answers) -> list[Group]:
    """Of the questions that both were asked."""
    groups: dict[str, list[Pair]] = {}
    for each in asked:
        name = each.case.id
        before, after = reference.records.get(name), found.records.get(name)
        if before is not None and (after is not None or name in found.faults):
            pair = Pair(each, before.passed, after is not None and after.passed)
            groups.setdefault(each.group, []).append(pair)
    return [Group(kind, where, pairs) for where, pairs in groups.items()]


def judge(groups: Sequence[Group], found: Answers, reference: Answers, most: float, *, long: bool) -> Iterator[Finding]:
    """Whether the original passes more, at each length or place.

    That it does must be shown among all that are looked at, and that it does not must be shown too. What is shown of
    one of them by itself, and not among all, is undecided; what too few questions show either way is skipped, and so is
    where the original passes nothing, so that nothing can be lost.
    """
    idle = [group for group in groups if not any(pair.before for pair in group.pairs)]
    groups = [group for group in groups if group not in idle]
    surely = noninferiority.worse_slices({group.where: group.change for group in groups}, most)
    unshown: list[Group] = []
    for group in groups:
        judged = noninferiority.of_change(group.change, most)
        outcome: Outcome = "undecided"
        if group.where in surely:
            outcome = "fail"
        elif judged.outcome == "holds":
            outcome = "pass"
        elif judged.outcome == "undecided":
            unshown.append(group)
            continue
        more = decided_by(group.kind, long=long) if outcome == "undecided" else None
        evidence = [
            evidence_of(group.kind.name, each, found, reference.in_words(each.case.id))
            for each in group.lost[: requests.MOST_KEPT]
        ]
        yield _told(group, outcome, most, more).with_evidence(evidence)
    if unshown:
        yield _too_few(unshown, most, long=long)
    if idle:
        told = f"{'; '.join(group.counted for group in idle)}: there is nothing to lose."
        yield Finding(f"{idle[0].kind.name}-nothing-to-lose", "skipped", told, noted=True)


def _told(group: Group, outcome: Outcome, most: float, more: str | None) -> Finding:
    change = group.change
    told = f"{group.counted}: {100 * change.change:+.1f} %, and no more than {100 * most:.0f} % may be lost."
    name = f"{group.kind.name}-{group.where.replace(',', '').replace(' ', '-')}"
    ends = (change.interval.low, change.interval.high)
    return Finding(name, outcome, told, change.change, -most, "share", ends, more, is_least=True)


def decided_by(kind: Kind, *, long: bool) -> str:
    """What would decide."""
    return f"More like these: {kind.more if long else '--long asks more'}."


def _too_few(groups: Sequence[Group], most: float, *, long: bool) -> Finding:
    least = least_cases(most)
    would = f"{least} of which none is would" if least is not None else "no number would"
    asks = "" if long or least is None else ", and --long asks more"
    counted = "; ".join(group.counted for group in groups)
    told = f"{counted}. These are too few to show that no more than {100 * most:.0f} % are lost: {would}{asks}."
    return Finding(f"{groups[0].kind.name}-not-shown", "skipped", told, noted=True)
