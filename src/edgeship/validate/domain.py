"""Answers its domain's questions: the evaluation, as it ships and greedily, held to bounds and to an original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeship.errors import EdgeshipError, EvalInvalid, came_from
from edgeship.measure.choice.choose import Thresholds
from edgeship.measure.evaluation.document import (
    Shares,
    at_worst,
    eval_document,
    no_worse,
    paired,
    read_baseline,
    slice_changes,
)
from edgeship.measure.evaluation.evaluate import EvalError, EvalRecord
from edgeship.measure.evaluation.target import TOLD, WayResult
from edgeship.measure.statistics import noninferiority
from edgeship.measure.statistics.intervals import paired_change
from edgeship.progress import Progress, under
from edgeship.validate import requests
from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.check import Check
from edgeship.validate.subject import Against, Subject
from edgeship.validate.verdict import Evidence, Finding, Outcome

_SHIPS = Thresholds()
_SAME: Shares = (0.0, 0.0)
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
        "The original answers at most this much more of the cases right, each case beside itself, and with 95 % "
        "confidence at most twice as much more; no slice surely loses more. `edgeship ship` takes the same.",
        most=1,
    )
    min_slice_pass_rate: float = bound(
        0.5,
        "No slice surely lies below this. A kind of question that is answered wrongly more often than not is a kind "
        "that the model cannot answer, however good the others are.",
        most=1,
    )
    max_sampling_drop: float = bound(
        0.1,
        "Answered as it ships, at most this much less of the cases is right than greedily. Settings that suit a model "
        "cost a few points; a greedy model under the settings of a chatting one lost 20 and more.",
        most=1,
    )
    max_unanswered_share: float = bound(
        0.0, "At most this part of the cases ends with an error. The target was made for these cases.", most=1
    )


def _not_for(subject: Subject) -> str | None:
    return None if subject.against.cases else "there are no questions of its domain: give some with --eval"


def _run(subject: Subject, bounds: DomainBounds, progress: Progress) -> Iterator[Finding]:
    ways = subject.evaluation(progress)
    yield _answered(subject, ways, bounds.max_unanswered_share)
    for way in ways:
        if way.result is not None:
            yield _pass_rate(subject, way, bounds.min_pass_rate)
            yield from _slices(subject, way, bounds.min_slice_pass_rate)
    shipped, *others = ways
    for greedy in others:
        yield from _sampling_drop(subject, shipped, greedy, bounds.max_sampling_drop)
    if subject.against.original is not None:
        yield from _beside_original(subject, bounds.max_drop, progress)


# --- by itself -------------------------------------------------------------------------------------------------------


def _answered(subject: Subject, ways: Sequence[WayResult], most: float) -> Finding:
    errors = [(way, error) for way in ways for error in way.errors]
    asked = sum(len(way.errors) + len(_records(way)) for way in ways)
    share = len(errors) / asked if asked else 1.0
    may = f"at most {100 * most:.1f} % may" if most else "none may"
    stopped = next((way.stopped for way in ways if way.stopped), None)
    told = f"{asked - len(errors):,} of {asked:,} questions were answered; {may} stay without an answer."
    named, different = len(subject.against.cases), len(subject.different_cases)
    if different < named:
        told += f" The evaluation has {named:,} cases, {different:,} of them different: a copy counts for nothing."
    if stopped:
        told += f" The others were not asked: {stopped}."
    outcome: Outcome = "pass" if share <= most and not stopped else "fail"
    evidence = tuple(_unanswered(subject, way, error) for way, error in errors[: requests.MOST_KEPT])
    return Finding("answers-come", outcome, told, share, most, "share", evidence=evidence)


def _pass_rate(subject: Subject, way: WayResult, least: float) -> Finding:
    assert way.result
    passed, cases = way.result.passed, way.result.cases
    found = noninferiority.of_rate(passed, cases, least)
    share, must = f"{100 * found.figure:.1f} %", f"{100 * least:.1f} % must be"
    told = f"{_told(way)} {passed:,} of {cases:,} answers are right, {share}, and {must}."
    name = _name("pass-rate", way)
    return _judged(subject, name, found, told, cases).with_evidence(_wrong(subject, name, way, _failed(way)))


def _slices(subject: Subject, way: WayResult, least: float) -> Iterator[Finding]:
    assert way.result
    counts = {name: (of.passed, of.cases) for name, of in way.result.by_slice.items()}
    if len(counts) < 2:
        return
    found = noninferiority.of_slice_rates(counts, least)
    told = {name: f"is the poorest, with {passed} of {cases} right" for name, (passed, cases) in counts.items()}
    yield _of_slices(subject, _name("slices", way), way, found, told, f"below {100 * least:.1f} %", _failed(way))


def _sampling_drop(subject: Subject, shipped: WayResult, greedy: WayResult, most: float) -> Iterator[Finding]:
    """Whether the settings that it ships with cost right answers. Too few cases to tell leave it to the pass rate."""
    ours, theirs = ({record.id: record.passed for record in _records(way)} for way in (shipped, greedy))
    names = [name for name in ours if name in theirs]
    if not names:
        return
    change = paired_change([theirs[name] for name in names], [ours[name] for name in names])
    found = noninferiority.of_change(change, most)
    if found.outcome == "undecided" and found.within:
        found = replace(found, outcome="holds")
    told = (
        f"Of {len(names):,} cases, {change.lost} are right greedily alone and {change.gained} only as it ships: "
        f"{100 * change.change:+.1f} %, and its own settings may cost {100 * most:.1f} % at most."
    )
    if found.outcome == "fails":
        settings = ", ".join(f"{name} {value}" for name, value in shipped.sampling.items() if name != "max_tokens")
        told += f" It ships with {settings or 'settings that it does not tell'}."
    lost = [record for record in _records(shipped) if not record.passed and theirs.get(record.id)]
    evidence = _wrong(subject, "sampling-drop", shipped, lost)
    yield _judged(subject, "sampling-drop", found, told, len(names)).with_evidence(evidence)


# --- beside the original ---------------------------------------------------------------------------------------------


def _beside_original(subject: Subject, most: float, progress: Progress) -> Iterator[Finding]:
    """In each way that both were asked in."""
    name = "beside-original"
    try:
        original = _original(subject, progress)
    except EdgeshipError as error:
        if type(error) is EdgeshipError or came_from(error, KeyboardInterrupt):
            raise
        told = f"The original could not be asked: {error.what.rstrip('.')}."
        yield Finding(name, "undecided", told, decided_by=error.hint or "An original that answers.")
        return
    ways = {way.way: way for way in _of_most_cases(subject)}
    try:
        pairs = paired(_document(subject, tuple(ways.values())), original)
    except EvalInvalid:
        told = "None of the cases was answered by the original: it was asked others, or in another way."
        yield Finding(name, "undecided", told, decided_by="An evaluation of the original over these cases.")
        return
    different = {case.id for case in subject.different_cases}
    for way, shares in pairs.items():
        once = {name: share for name, share in shares.items() if name in different}
        if once:
            yield from _beside(subject, ways[way], once, most)


def _beside(subject: Subject, way: WayResult, shares: Mapping[str, Shares], most: float) -> Iterator[Finding]:
    found = no_worse(shares, most)
    lost = [record for record in _records(way) if shares.get(record.id, _SAME)[0] > shares.get(record.id, _SAME)[1]]
    told = (
        f"{_told(way)} {len({record.id for record in lost}):,} of {len(shares):,} cases that the original answers "
        f"right are lost: {100 * found.figure:+.1f} % in all, and {100 * found.bounds.low:+.1f} % at worst. "
        f"At most {100 * most:.1f} % may be lost, and {100 * at_worst(most):.1f} % at worst."
    )
    name = _name("beside-original", way)
    beside = replace(_judged(subject, name, found, told, len(shares)), noted=True)
    yield beside.with_evidence(_wrong(subject, name, way, lost))
    yield from _slices_beside(subject, way, shares, lost, most)


def _slices_beside(
    subject: Subject, way: WayResult, shares: Mapping[str, Shares], lost: Sequence[EvalRecord], most: float
) -> Iterator[Finding]:
    changes = slice_changes(shares, {name: subject.case_by_id[name].slice for name in shares})
    if not changes:
        return
    found = noninferiority.of_slice_changes(changes, most)
    told = {
        name: f"lost most beside the original, {100 * of.change:+.1f} % of {of.cases}" for name, of in changes.items()
    }
    beyond = f"worse by more than {100 * most:.1f} %"
    yield _of_slices(subject, _name("slices-beside-original", way), way, found, told, beyond, lost)


def _original(subject: Subject, progress: Progress) -> Mapping[str, Any]:
    """How it answered, as a document. Raises what asking it raises."""
    original = subject.against.original
    if isinstance(original, Path):
        return read_baseline(original)
    assert original
    asked = Against(cases=subject.cases, constraint=subject.against.constraint, max_tokens=subject.against.max_tokens)
    with Subject(original, asked) as held:
        return _document(held, held.evaluation(under("original", progress)))


def _of_most_cases(subject: Subject) -> Iterator[WayResult]:
    """Each way that the target was asked in; greedily, what was measured before where that is of more cases."""
    known = subject.against.measured
    for way in subject.evaluation():
        greedily = "greedy" in (way.way, way.same)
        if known and greedily and len(_records(known)) > len(_records(way)):
            yield replace(known, way=way.way, same=way.same)
        else:
            yield way


def _document(subject: Subject, ways: Sequence[WayResult]) -> dict[str, Any]:
    file = subject.against.eval_file or Path()
    return eval_document({}, file, subject.against.cases, subject.eval_options, ways)


# --- told ------------------------------------------------------------------------------------------------------------


def _judged(subject: Subject, name: str, found: noninferiority.Finding, told: str, cases: int) -> Finding:
    """The finding of what statistics say. cases: that they were said of."""
    decided_by = _decided_by(subject, found, cases) if found.outcome == "undecided" else None
    ends = found.bounds.low, found.bounds.high
    outcome = _OUTCOMES[found.outcome]
    return Finding(name, outcome, told, found.figure, found.limit, "share", ends, decided_by, is_least=True)


def _of_slices(
    subject: Subject,
    name: str,
    way: WayResult,
    found: Mapping[str, noninferiority.Finding],
    told: Mapping[str, str],
    beyond: str,
    wrong: Sequence[EvalRecord],
) -> Finding:
    """The finding of several slices. told: of each, that it is the worst. beyond: what a slice must not be.

    It is undecided if a slice would fail as the only one, and may look so by chance since it is one of several. Else it
    passes, whatever its figure: a single wrong answer puts a slice of few cases beyond any bound.
    """
    surely, perhaps = noninferiority.beyond(found)
    named = surely or perhaps
    worst = min(named or found, key=lambda each: found[each].figure)
    said = f"{_told(way)} the slice {worst!r} {told[worst]}"
    outcome: Outcome = "pass"
    decided_by = None
    if surely:
        outcome, said = "fail", f"{said}. Surely {beyond}: {', '.join(map(repr, surely))}."
    elif perhaps:
        outcome, decided_by = "undecided", _decided_by(subject, found[worst], len(_records(way)), f" of {worst!r}")
        said = f"{said}. By itself it would surely be {beyond}; one of {len(found)} may look so by chance."
    else:
        said = f"{said}; none of {len(found)} is surely {beyond}."
    figure = found[worst].figure if named or found[worst].within else None
    bound = found[worst].limit if figure is not None else None
    slices = {each.id for each in subject.against.cases if each.slice in named}
    evidence = _wrong(subject, name, way, [record for record in wrong if record.id in slices])
    made = Finding(name, outcome, said, figure, bound, "share", decided_by=decided_by, is_least=True)
    return made.with_evidence(evidence)


def _decided_by(subject: Subject, found: noninferiority.Finding, cases: int, of: str = "") -> str:
    cases_more = "case" if found.more == 1 else "cases"
    more = f"About {found.more:,} more {cases_more}{of} like these." if found.more else ""
    left = len(subject.different_cases) - cases
    if subject.effort == "quick" and left > 0:
        look = "look without --quick, or `ship --gate-effort default`"
        return f"{more} A quick look leaves {left:,} cases out: {look}.".strip()
    return more or "More cases would not decide: the figure lies on the bound."


def _name(name: str, way: WayResult) -> str:
    """Of a finding: its own where the target was asked in one way alone, or as it ships."""
    return name if way.way == "shipped" else f"{name}-{way.way}"


def _told(way: WayResult) -> str:
    """The words that begin a sentence about the answers of a way."""
    same = " (its settings are greedy)" if way.same == "greedy" else ""
    return f"{TOLD[way.way].capitalize()}{same},"


def _records(way: WayResult) -> tuple[EvalRecord, ...]:
    return way.result.records if way.result else ()


def _failed(way: WayResult) -> list[EvalRecord]:
    return [record for record in _records(way) if not record.passed]


def _wrong(subject: Subject, finding: str, way: WayResult, records: Sequence[EvalRecord]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            f"domain/{finding}/{record.id}",
            subject.request_of(way, record.id, record.attempt),
            requests.shortened(record.answer),
            requests.shortened(subject.case_by_id[record.id].expected_text),
        )
        for record in records[: requests.MOST_KEPT]
    )


def _unanswered(subject: Subject, way: WayResult, error: EvalError) -> Evidence:
    request = subject.request_of(way, error.id, error.attempt)
    return Evidence(f"domain/answers-come/{way.way}/{error.id}", request, f"{error.code}: {error.what}", "an answer")


CHECK = Check("domain", "Answers its domain's questions", DomainBounds, _run, _not_for)
