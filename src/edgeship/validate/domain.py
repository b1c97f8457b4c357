"""Answers its domain's questions: the evaluation, as it ships and greedily, held to bounds and to an original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeship.errors import EvalInvalid
from edgeship.measure.choice.choose import Thresholds
from edgeship.measure.evaluation.document import eval_document, paired, read_baseline
from edgeship.measure.evaluation.evaluate import EvalError, EvalRecord
from edgeship.measure.evaluation.target import TOLD, Way, WayResult
from edgeship.measure.statistics import noninferiority
from edgeship.measure.statistics.intervals import Interval, paired_change
from edgeship.progress import Progress, under
from edgeship.validate import requests
from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.check import Check
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Evidence, Finding, Outcome

SHOWN = 5
"""So many requests are kept of those that speak against a target."""
_SHIPS = Thresholds()
_OUTCOMES: Mapping[noninferiority.Outcome, Outcome] = {"holds": "pass", "fails": "fail", "undecided": "undecided"}


@dataclass(frozen=True)
class DomainBounds(Bounds):
    """What the figures are held to."""

    min_pass_rate: float = bound(
        _SHIPS.min_pass_rate,
        "At least this part of the cases is answered right. `edgeship ship` takes the same.",
        most=1,
    )
    max_drop: float = bound(
        _SHIPS.max_drop,
        "The original answers at most this much more of the cases right, each case beside itself; so does each slice. "
        "`edgeship ship` takes the same.",
        most=1,
    )
    min_slice_pass_rate: float = bound(
        0.5,
        "No slice surely lies below this. A kind of question that is answered wrongly more often than not is a kind "
        "that the model cannot answer, however good the others are.",
        most=1,
    )
    max_sampling_loss: float = bound(
        0.1,
        "Answered as it ships, at most this much less of the cases is right than greedily. Settings that suit a model "
        "cost a few points; a greedy model under the settings of a chatting one lost 20 and more.",
        most=1,
    )
    max_unanswered: float = bound(
        0.0, "At most this part of the cases ends with an error. The target was made for these cases.", most=1
    )


def _not_for(subject: Subject) -> str | None:
    return None if subject.against.cases else "there are no questions of its domain: give some with --eval"


def _run(subject: Subject, bounds: DomainBounds, progress: Progress) -> Iterator[Finding]:
    shipped, *others = subject.evaluation(progress)
    yield _answered(subject, (shipped, *others), bounds.max_unanswered)
    if shipped.result is None:
        return
    yield _pass_rate(subject, shipped, bounds.min_pass_rate)
    yield from _slices(shipped, bounds.min_slice_pass_rate)
    for greedy in others:
        yield from _sampling_loss(subject, shipped, greedy, bounds.max_sampling_loss)
    if subject.against.original is not None:
        yield from _beside_original(subject, bounds.max_drop, progress)


# --- by itself -------------------------------------------------------------------------------------------------------


def _answered(subject: Subject, ways: Sequence[WayResult], most: float) -> Finding:
    errors = [(way, error) for way in ways for error in way.errors]
    asked = sum(len(way.errors) + len(_records(way)) for way in ways)
    share = len(errors) / asked if asked else 1.0
    may = f"at most {most:.1%} may" if most else "none may"
    stopped = next((way.stopped for way in ways if way.stopped), None)
    told = f"{asked - len(errors):,} of {asked:,} questions were answered; {may} stay without an answer."
    if stopped:
        told += f" The others were not asked: {stopped}."
    outcome: Outcome = "pass" if share <= most and not stopped else "fail"
    evidence = tuple(_unanswered(subject, way, error) for way, error in errors[:SHOWN])
    return Finding("answers-come", outcome, told, share, most, "share", evidence=evidence)


def _pass_rate(subject: Subject, way: WayResult, least: float) -> Finding:
    assert way.result
    passed, cases = way.result.passed, way.result.cases
    found = noninferiority.of_rate(passed, cases, least)
    told = f"{_told(way)} {passed:,} of {cases:,} answers are right, {found.figure:.1%}, and {least:.1%} must be."
    return _judged("pass-rate", found, told, least, way.result.pass_rate_95).with_evidence(
        _wrong(subject, way, _failed(way))
    )


def _slices(way: WayResult, least: float) -> Iterator[Finding]:
    assert way.result
    slices = way.result.by_slice
    if len(slices) < 2:
        return
    poor = noninferiority.poor_slices({name: (of.passed, of.cases) for name, of in slices.items()}, least)
    worst, of = min(slices.items(), key=lambda item: item[1].passed / item[1].cases)
    figures = f"The slice with the fewest right answers is {worst!r}, with {of.passed} of {of.cases}"
    if not poor:
        told = f"{figures}; none of {len(slices)} surely lies below {least:.1%}."
        yield Finding("slices", "pass", told, of.passed / of.cases, least, "share")
        return
    named = ", ".join(repr(name) for name in sorted(poor, key=poor.__getitem__))
    told = f"{figures}. Surely below {least:.1%} are: {named}."
    yield Finding("slices", "fail", told, of.passed / of.cases, least, "share")


def _sampling_loss(subject: Subject, shipped: WayResult, greedy: WayResult, most: float) -> Iterator[Finding]:
    """Whether the settings that it ships with cost right answers. Too few cases to tell leave it to the pass rate."""
    ours, theirs = ({record.id: record.passed for record in _records(way)} for way in (shipped, greedy))
    names = [name for name in ours if name in theirs]
    if not names:
        return
    change = paired_change([theirs[name] for name in names], [ours[name] for name in names])
    found = noninferiority.of_change(change, most)
    told = (
        f"Of {len(names):,} cases, {change.lost} are right greedily alone and {change.gained} only as it ships: "
        f"{change.change:+.1%}, and its own settings may cost {most:.1%} at most."
    )
    finding = _judged("sampling-loss", found, told, -most, change.interval)
    if found.outcome == "undecided" and found.within:
        finding = replace(finding, outcome="pass", decided_by=None)
    settings = ", ".join(f"{name} {value}" for name, value in shipped.sampling.items() if name != "max_tokens")
    if finding.outcome == "fail":
        finding = replace(finding, told=f"{told} It ships with {settings or 'settings that it does not tell'}.")
    lost = [record for record in _records(shipped) if not record.passed and theirs.get(record.id)]
    yield finding.with_evidence(_wrong(subject, shipped, lost))


# --- beside the original ---------------------------------------------------------------------------------------------


def _beside_original(subject: Subject, most: float, progress: Progress) -> Iterator[Finding]:
    shares = _shares(subject, progress)
    if shares is None:
        told = "None of the cases was answered by the original: it was asked others, or in another way."
        yield Finding(
            "beside-original", "undecided", told, decided_by="An evaluation of the original over these cases."
        )
        return
    way, pairs = shares
    before, after = zip(*pairs.values(), strict=True)
    whole = set(before) | set(after) <= {0.0, 1.0}
    if whole:
        change = paired_change([one == 1 for one in before], [one == 1 for one in after])
        found, interval = noninferiority.of_change(change, most), change.interval
    else:
        found, interval = noninferiority.of_scores(before, after, most), None
    lost = [name for name, (then, now) in pairs.items() if now < then]
    told = (
        f"{TOLD[way].capitalize()}, {len(lost)} of {len(pairs):,} cases that the original answers right are lost: "
        f"{found.figure:+.1%} in all, and at most {most:.1%} may be."
    )
    result = next(each for each in subject.evaluation() if way in (each.way, each.same))
    evidence = _wrong(subject, result, [record for record in _records(result) if record.id in lost])
    yield _judged("beside-original", found, told, -most, interval).with_evidence(evidence)
    if whole:
        yield from _slices_beside(subject, pairs, most)


def _slices_beside(subject: Subject, pairs: Mapping[str, tuple[float, float]], most: float) -> Iterator[Finding]:
    slices: dict[str, list[str]] = {}
    for case in subject.cases:
        if case.id in pairs:
            slices.setdefault(case.slice, []).append(case.id)
    if len(slices) < 2:
        return
    changes = {
        name: paired_change([pairs[one][0] == 1 for one in those], [pairs[one][1] == 1 for one in those])
        for name, those in slices.items()
    }
    worse = noninferiority.worse_slices(changes, most)
    name, change = min(changes.items(), key=lambda item: item[1].change)
    told = f"The slice that lost most beside the original is {name!r}, {change.change:+.1%} of {change.cases} cases"
    if worse:
        told += f". Surely worse by more than {most:.1%} are: {', '.join(map(repr, worse))}."
    else:
        told += f"; none of {len(slices)} is surely worse by more than {most:.1%}."
    yield Finding("slices-beside-original", "fail" if worse else "pass", told, change.change, -most, "share")


def _shares(subject: Subject, progress: Progress) -> tuple[Way, dict[str, tuple[float, float]]] | None:
    """Of the first way that both were asked in, the parts of the answers that are right, the original's first."""
    original = subject.against.original
    if isinstance(original, Path):
        kept = read_baseline(original)
    else:
        assert original
        asked = replace(subject.against, original=None, baseline=None, model=None, api_key=None)
        with Subject(original, asked) as held:
            kept = _document(held, under("original", progress))
    try:
        return next(iter(paired(_document(subject, progress), kept).items()))
    except EvalInvalid:
        return None


def _document(subject: Subject, progress: Progress) -> dict[str, Any]:
    file = subject.against.eval_file or Path()
    return eval_document({}, file, subject.cases, subject.eval_options, subject.evaluation(progress))


# --- told ------------------------------------------------------------------------------------------------------------


def _judged(
    name: str, found: noninferiority.Finding, told: str, limit: float, interval: Interval | None = None
) -> Finding:
    """The finding of what statistics say. interval: of 95 %; what is judged is one of its ends, with 95 %."""
    decided_by = None
    if found.outcome == "undecided":
        more = "More cases would not decide: the figure lies on the bound."
        decided_by = more if found.more is None else f"About {found.more:,} more cases like these."
    ends = (interval.low, interval.high) if interval else None
    return Finding(name, _OUTCOMES[found.outcome], told, found.figure, limit, "share", ends, decided_by)


def _told(way: WayResult) -> str:
    if way.same:
        return f"{TOLD[way.way].capitalize()}, which is {TOLD[way.same]},"
    return f"{TOLD[way.way].capitalize()}"


def _records(way: WayResult) -> tuple[EvalRecord, ...]:
    return way.result.records if way.result else ()


def _failed(way: WayResult) -> list[EvalRecord]:
    return [record for record in _records(way) if not record.passed]


def _wrong(subject: Subject, way: WayResult, records: Sequence[EvalRecord]) -> tuple[Evidence, ...]:
    expected = {case.id: case.expected_text for case in subject.cases}
    return tuple(
        Evidence(
            f"domain/{record.id}",
            subject.request_of(way, record.id, record.attempt),
            requests.shortened(record.answer),
            requests.shortened(expected[record.id]),
        )
        for record in records[:SHOWN]
    )


def _unanswered(subject: Subject, way: WayResult, error: EvalError) -> Evidence:
    request = subject.request_of(way, error.id, error.attempt)
    return Evidence(f"domain/{error.id}", request, f"{error.code}: {error.what}", "an answer")


CHECK = Check("domain", "Answers its domain's questions", DomainBounds, _run, _not_for)
