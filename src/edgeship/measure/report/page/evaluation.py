"""What the page tells of an evaluation, the document of `edgeship eval`."""

from __future__ import annotations

from collections.abc import Sequence

from edgeship.measure.document import Document
from edgeship.measure.report.charts.lines import Point, Series, lines
from edgeship.measure.report.page import of_document, units
from edgeship.measure.report.page.blocks import (
    MOST_CASES,
    Case,
    Cases,
    Facts,
    Part,
    Pictures,
    Rows,
    Section,
    Sentences,
    pictures,
    section,
    sections,
)
from edgeship.measure.report.page.change import Figure
from edgeship.measure.report.tables import facts
from edgeship.measure.statistics.intervals import paired_change
from edgeship.system.fields import Fields

_LEAST_ANSWERS = 11
"""Of a group by prompt length: fewer have no median to speak of."""
_GROUPS = 6
_MOST_ERRORS = 10
_WAYS = {"shipped": "as it ships", "greedy": "greedily"}


def title(document: Document) -> str:
    """What was asked."""
    return f"Evaluation of {document.fields.part('target').text('name') or document.name}"


def part(document: Document) -> Part:
    """All that is told of it."""
    found = ways(document)
    answers = [(name, _answers(way)) for name, way in found]
    return Part(
        title(document),
        of_document.subtitle(document),
        sections(
            section("What passes", _warnings(found), _table(found), _repeats(found), _baseline(document)),
            section("Pass rate by slice", _groups("by_slice", "slice", found)),
            section("Pass rate by tag", _groups("by_tag", "tag", found)),
            section("Pass rate by assertion", _groups("by_assertion", "assertion", found)),
            section("Latency", _latencies(found), by_prompt_length(answers)),
            section("What fails", *(_failures(document, key, way) for key, way in _ways(document))),
            section("How it was sampled", _sampling(found)),
            section(
                "What was measured, and where",
                of_document.where(
                    document,
                    ("Target", document.fields.part("target")),
                    ("Settings", document.fields.part("settings")),
                ),
            ),
        ),
    )


def ways(document: Document) -> list[tuple[str, Fields]]:
    """The ways in which the cases were asked, by their names in words, with what came of each."""
    return [(_WAYS.get(key, key), way) for key, way in _ways(document)]


def figures(document: Document) -> list[Figure]:
    """What is held beside other runs."""
    found = []
    for name, way in ways(document):
        low, high = way.part("pass_rate_95").number("low"), way.part("pass_rate_95").number("high")
        rate = way.number("pass_rate")
        found.append(Figure(f"{name}: pass rate", rate, units.percent, True, low, high, share=True))
        for key, one in _parts(way, "by_slice"):
            found.append(Figure(f"{name}: pass rate, {key}", _rate(one), units.percent, True, share=True))
        for key, said in (("ttft", "time to first token"), ("e2e", "whole answer")):
            p50 = way.part(key).number("p50_ms")
            value = None if p50 is None else p50 / 1000
            found.append(Figure(f"{name}: {said}, median", value, units.milliseconds, False))
        found.append(Figure(f"{name}: all cases", way.number("wall_s"), "{:.1f} s".format, False))
    return found


def from_first_to_last(first: Document, last: Document) -> Section | None:
    """What became of single cases in the way that both were asked, of those that are the same in both."""
    there = dict(_ways(first))
    shared = next(((key, there[key], way) for key, way in _ways(last) if key in there), None)
    if shared is None:
        return None
    key, before, after = shared
    old, new = _outcomes(before), _outcomes(after)
    was, now = _cases_by_id(first), _cases_by_id(last)
    same = [case for case in new if case in old and _digest(was.get(case)) == _digest(now.get(case))]
    if not same:
        return None
    changed = paired_change([old[case][0] for case in same], [new[case][0] for case in same])
    low, high = changed.interval.low * 100, changed.interval.high * 100
    said = (
        f"{changed.cases:,} cases were asked in both runs ({_WAYS.get(key, key)}), and are held against each other "
        f"one by one: {changed.lost} are lost and {changed.gained} gained, so the pass rate changed by "
        f"{changed.change * 100:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})."
    )
    lost = [case for case in same if old[case][0] and not new[case][0]]
    gained = [case for case in same if new[case][0] and not old[case][0]]
    shown = [
        Cases(
            f"{what}, {min(len(cases), MOST_CASES)} of {len(cases)}",
            tuple(
                Case(case, "", _texts(now.get(case), ("before", old[case][1]), ("now", new[case][1])), serious=serious)
                for case in cases[:MOST_CASES]
            ),
        )
        for what, cases, serious in (("Lost", lost, True), ("Gained", gained, False))
        if cases
    ]
    return section("Case by case", Sentences((said,)), *shown)


def by_prompt_length(found: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> Pictures | None:
    """Time to the first token over the length of prompts, of groups of answers.

    found: by name, the prompt tokens and seconds of each answer.
    """
    return pictures(
        lines(
            "Time to first token over prompt length",
            "medians of answers to prompts of about that length",
            [Series(name or "median", _groups_by_length(answers)) for name, answers in found],
            x_name="prompt tokens",
            y_name="milliseconds",
        )
    )


def _groups_by_length(answers: Sequence[tuple[float, float]]) -> tuple[Point, ...]:
    from statistics import median

    known = sorted(answers)
    groups = min(_GROUPS, len(known) // _LEAST_ANSWERS)
    if groups < 2 or known[0][0] == known[-1][0]:
        return ()
    parts = [known[place * len(known) // groups : (place + 1) * len(known) // groups] for place in range(groups)]
    return tuple(
        Point(median(tokens for tokens, _ in part), 1000 * median(seconds for _, seconds in part)) for part in parts
    )


def _ways(document: Document) -> list[tuple[str, Fields]]:
    found = document.fields.part("ways")
    return [(key, found.part(key)) for key in found.values]


def _outcomes(way: Fields) -> dict[str, tuple[bool, str]]:
    """Of each case that was answered once, whether it passes, and the answer."""
    found: dict[str, list[tuple[bool, str]]] = {}
    for record in way.parts("records"):
        found.setdefault(record.text("id") or "", []).append((bool(record.flag("passed")), record.text("answer") or ""))
    return {case: outcomes[0] for case, outcomes in found.items() if len(outcomes) == 1}


def _cases_by_id(document: Document) -> dict[str, Fields]:
    return {case.text("id") or "": case for case in document.fields.parts("cases")}


def _digest(case: Fields | None) -> str | None:
    return None if case is None else case.text("digest")


def _answers(way: Fields) -> list[tuple[float, float]]:
    found = ((one.number("prompt_tokens"), one.number("ttft_s")) for one in way.parts("records"))
    return [(tokens, seconds) for tokens, seconds in found if tokens is not None and seconds is not None]


def _warnings(found: Sequence[tuple[str, Fields]]) -> Sentences | None:
    """What makes figures doubtful: answers that did not come, cases that were not asked."""
    said = []
    for name, way in found:
        if stopped := way.text("stopped"):
            said.append(f"Asked {name}, not every case was: {stopped}.")
        errors = way.parts("errors")
        for error in errors[:_MOST_ERRORS]:
            said.append(f"Asked {name}, {error.text('id')} has no answer: {error.text('what')}.")
        if len(errors) > _MOST_ERRORS:
            said.append(f"Asked {name}, {len(errors) - _MOST_ERRORS:,} more have none.")
    return Sentences(tuple(said), warns=True) if said else None


def _repeats(found: Sequence[tuple[str, Fields]]) -> Rows | None:
    """How often all of k attempts are right, and how often one is."""
    rows = [
        (
            f"{name}, {count:,} attempts",
            "" if (every := one.number("all_pass")) is None else units.percent(every),
            "" if (some := one.number("any_passes")) is None else units.percent(some),
        )
        for name, way in found
        for one in way.parts("repeats")
        if (count := one.count("k")) and count > 1
    ]
    return of_document.rows("Of several attempts at a case", ("asked", "all are right", "one is right"), rows)


def _baseline(document: Document) -> Rows | None:
    """Beside the evaluation that it was held against."""
    baseline = document.fields.part("baseline").part("ways")
    held = document.fields.part("baseline").number("max_drop")
    may = "" if held is None else f", where {held * 100:.1f} points may be lost"
    header = (
        "beside the baseline",
        "cases",
        "baseline",
        "here",
        "change",
        "95 % interval",
        "lost",
        "gained",
        "outcome",
    )
    rows = []
    for key in baseline.values:
        one = baseline.part(key)
        before, after, change = one.number("baseline_pass_rate"), one.number("pass_rate"), one.number("change")
        low, high = one.part("interval").number("low"), one.part("interval").number("high")
        cells = (
            _WAYS.get(key, key),
            _count(one, "cases"),
            "" if before is None else units.percent(before),
            "" if after is None else units.percent(after),
            "" if change is None else f"{change * 100:+.1f} points",
            "" if low is None or high is None else f"{low * 100:+.1f} to {high * 100:+.1f}",
            f"{len(one.texts('lost')):,}",
            f"{len(one.texts('gained')):,}",
            one.text("outcome") or "",
        )
        rows.append(cells)
    return of_document.rows(f"Beside the baseline, case by case{may}", header, rows)


def _sampling(found: Sequence[tuple[str, Fields]]) -> Facts | None:
    stated = [(name, facts(way.part("sampling").values)) for name, way in found]
    pairs = tuple((f"Asked {name}", text) for name, text in stated if text)
    return Facts(pairs) if pairs else None


def _table(found: Sequence[tuple[str, Fields]]) -> Rows | None:
    header = (
        "asked",
        "answers",
        "pass",
        "pass rate",
        "95 % interval",
        "score",
        "all cases",
        "at a time",
        "tokens written",
    )
    rows = []
    for name, way in found:
        low, high = way.part("pass_rate_95").number("low"), way.part("pass_rate_95").number("high")
        rate, wall_s = way.number("pass_rate"), way.number("wall_s")
        interval = f"{units.percent(low)} to {units.percent(high)}" if low is not None and high is not None else ""
        rows.append(
            (
                name,
                _count(way, "cases"),
                _count(way, "passed"),
                "" if rate is None else units.percent(rate),
                interval,
                "" if (score := way.number("score")) is None else f"{score:.3f}",
                "" if wall_s is None else f"{wall_s:.1f} s",
                _count(way, "concurrency"),
                _count(way, "completion_tokens"),
            )
        )
    return of_document.rows("How many cases pass", header, rows)


def _count(way: Fields, key: str) -> str:
    value = way.count(key, least=0)
    return "" if value is None else f"{value:,}"


def _parts(way: Fields, key: str) -> list[tuple[str, Fields]]:
    groups = way.part(key)
    return [(name, groups.part(name)) for name in groups.values]


def _rate(one: Fields) -> float | None:
    passes, cases = one.number("passed"), one.number("cases")
    return passes / cases if passes is not None and cases else one.number("pass_rate")


def _groups(key: str, what: str, found: Sequence[tuple[str, Fields]]) -> Rows | None:
    """Pass rates by slice or assertion; None where there are fewer than two."""
    groups = [(name, dict(_parts(way, key))) for name, way in found]
    names = list(dict.fromkeys(one for _, parts in groups for one in parts))
    if len(names) < 2:
        return None
    rows = []
    for one in names:
        cells = [one]
        for _, parts in groups:
            rate = _rate(parts[one]) if one in parts else None
            cells.append(
                "" if rate is None else f"{units.percent(rate)} of {_count(parts[one], 'cases')}".removesuffix(" of ")
            )
        rows.append(tuple(cells))
    return of_document.rows(f"Pass rate by {what}", (what, *(name for name, _ in found)), rows)


def _latencies(found: Sequence[tuple[str, Fields]]) -> Rows | None:
    header = ("asked", "TTFT median", "TTFT p95", "answer median", "answer p95")
    rows = []
    for name, way in found:
        values = [way.part(key).number(part) for key in ("ttft", "e2e") for part in ("p50_ms", "p95_ms")]
        if any(value is not None for value in values):
            cells = ("" if value is None else units.milliseconds(value / 1000) for value in values)
            rows.append((name, *cells))
    return of_document.rows("Latency of the answers", header, rows)


def _failures(document: Document, key: str, way: Fields) -> Cases | None:
    """The answers that are not right; those that the baseline has right stand first."""
    known = _cases_by_id(document)
    lost = set(document.fields.part("baseline").part("ways").part(key).texts("lost"))
    held = bool(document.fields.part("baseline").values)
    failing = [record for record in way.parts("records") if record.flag("passed") is False]
    failing.sort(key=lambda record: record.text("id") not in lost)
    made = []
    for record in failing[:MOST_CASES]:
        case = record.text("id") or ""
        note = "" if not held else "the baseline has it right" if case in lost else ""
        texts = _texts(known.get(case), ("answer", record.text("answer") or ""), ("why", record.text("reason") or ""))
        made.append(Case(case, note, texts, serious=case in lost))
    if not made:
        return None
    return Cases(f"Asked {_WAYS.get(key, key)}: {len(made)} of {len(failing)} that are not right", tuple(made))


def _texts(case: Fields | None, *answers: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """The question and what was expected, where they are known, and the answers."""
    asked = [(name, case.text(name) or "") for name in ("question", "expected")] if case is not None else []
    return tuple((name, text) for name, text in (*asked, *answers) if text)
