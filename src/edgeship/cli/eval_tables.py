"""What a terminal shows of an evaluation's document: tables, sentences and failing cases. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.measure.evaluation.document import at_worst
from edgeship.measure.evaluation.target import TOLD

SHOWN_ERRORS = 3
_NONE = "-"
_GROUPS = (("by_slice", "slice"), ("by_tag", "tag"), ("by_assertion", "assertion"))
_SAYS_ALL = {"equals", "equals-json", "one-of"}
Table = tuple[Sequence[str], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Failing:
    """A case with a wrong answer. way: how it was answered. right: so many of the attempts.

    baseline_passes: whether the baseline does better; None where there is none.
    """

    id: str
    way: str
    question: str
    expected: str
    answer: str
    reason: str
    right: int
    attempts: int
    baseline_passes: bool | None

    @property
    def told(self) -> str:
        """Its name, with what else is to be said of it."""
        times = f", {self.attempts - self.right} of {self.attempts} times" if self.attempts > 1 else ""
        beside = {None: "", True: ", which the baseline passes", False: ", as the baseline does"}[self.baseline_passes]
        return f"{self.id}{times}{beside}"


def figures(found: Mapping[str, Any]) -> Table:
    """A row for each way."""
    ways = _answered(found)
    repeated = any(way["repeats"] for _, way in ways)
    header = ["ANSWERED", "ANSWERS", "RIGHT", "PASS RATE", "95 %", "SCORE"]
    header += ["ALWAYS", "EVER"] if repeated else []
    header += ["ERRORS", "TTFT P50", "ANSWER P50", "TOKENS", "TIME"]
    return header, [_figures_row(name, way, repeated=repeated) for name, way in ways]


def _figures_row(name: str, way: Mapping[str, Any], *, repeated: bool) -> list[str]:
    bounds, last = way["pass_rate_95"], (way["repeats"] or [None])[-1]
    row = [
        TOLD[name],  # type: ignore[index]
        f"{way['cases']:,}",
        f"{way['passed']:,}",
        percent(way["pass_rate"]),
        f"{100 * bounds['low']:.1f} to {100 * bounds['high']:.1f}",
        f"{way['score']:.3f}",
    ]
    if repeated:
        row += [percent(last["all_pass"]), percent(last["any_passes"])] if last else [_NONE, _NONE]
    return [
        *row,
        f"{len(way['errors'])}",
        f"{way['ttft']['p50_ms']:,.0f} ms",
        f"{way['e2e']['p50_ms']:,.0f} ms",
        f"{way['completion_tokens']:,}",
        f"{way['wall_s']:.1f} s",
    ]


def groups(found: Mapping[str, Any]) -> Iterator[Table]:
    """A table for slices, tags and assertions each, where there are several."""
    ways = _answered(found)
    for key, title in _GROUPS:
        names = list(dict.fromkeys(name for _, way in ways for name in way[key]))
        if len(names) < (1 if key == "by_tag" else 2):
            continue
        rows = []
        for name in names:
            parts = [way[key].get(name) for _, way in ways]
            cases = max(part["cases"] for part in parts if part)
            cells = [
                f"{percent(part['passed'] / part['cases'])} ({part['passed']})" if part else _NONE for part in parts
            ]
            rows.append([name, f"{cases:,}", *cells])
        counted = "CHECKS" if key == "by_assertion" else "ANSWERS"
        yield [title.upper(), counted, *(TOLD[name].upper() for name, _ in ways)], rows  # type: ignore[index]


def remarks(found: Mapping[str, Any]) -> Iterator[str]:
    """What has to be known to read the figures."""
    for name, way in found["ways"].items():
        told = TOLD[name]
        if way["same"]:
            yield f"the target's own settings take the likeliest token: {TOLD[way['same']]} the answers are the same"
        if way["stopped"]:
            done = way.get("cases", 0) + len(way["errors"])
            yield f"this is a part: {way['stopped']} after {done:,} of {way['attempts']:,} answers {told}"
        if found["settings"]["repeat"] > way["repeat"]:
            yield f"{told} each case was asked once: another answer would be the same"
        if cut := sum(record["finish"] == "length" for record in way.get("records", ())):
            yield f"{told} {cut:,} answers were cut at {way['max_tokens']:,} tokens; --max-tokens allows more"
    at_a_time = {way["concurrency"] for way in found["ways"].values()}
    if at_a_time - {1}:
        most = max(at_a_time)
        waiting = "with what a server lets them wait" if found["target"]["kind"] == "url" else "without waiting in line"
        yield f"times are of answers made {most} at a time, {waiting}; --concurrency 1 measures one alone"


def errors(found: Mapping[str, Any]) -> Iterator[str]:
    """Which answers did not come, and why: what most have in common first."""
    for name, way in found["ways"].items():
        if not way["errors"]:
            continue
        kinds = Counter((each["code"], each["what"]) for each in way["errors"])
        yield f"{TOLD[name]} {len(way['errors']):,} answers did not come, and count neither as right nor as wrong:"
        for (code, what), count in kinds.most_common(SHOWN_ERRORS):
            first = next(each["id"] for each in way["errors"] if (each["code"], each["what"]) == (code, what))
            yield f"  {count:,} x {code}: {what} (such as {first})"


def changes(found: Mapping[str, Any]) -> Iterator[str]:
    """How it stands beside the baseline, a sentence for each way."""
    baseline = found["baseline"]
    if baseline is None:
        return
    name = (baseline["target"] or {}).get("name", "the baseline")
    for way, change in baseline["ways"].items():
        points, bounds = 100 * change["change"], change["interval"]
        where = f"{abs(points):.1f} points {'below' if points < 0 else 'above'}" if points else "as often right as"
        rate, cases = percent(change["baseline_pass_rate"]), f"{change['cases']:,} cases"
        within = f"{100 * bounds['low']:+.1f} to {100 * bounds['high']:+.1f}" if bounds else "not known of so few"
        moved = f"{len(change['lost'])} lost, {len(change['gained'])} gained"
        yield f"{TOLD[way]}: {where} {name}'s {rate} (95 % interval {within}) over {cases}; {moved}"
        yield f"  {_held(change, 100 * baseline['max_drop'])}"


def _held(change: Mapping[str, Any], most: float) -> str:
    """Whether it fell by no more points than may be."""
    if change["worse_slices"]:
        return f"slices that surely lost more than {most:.1f} points: {', '.join(change['worse_slices'])}"
    if change["outcome"] == "fails":
        return f"it surely lost more than {most:.1f} points"
    if change["outcome"] == "holds":
        if 100 * change["bounds"]["low"] >= -most:
            return f"it surely lost no more than {most:.1f} points"
        return f"it lost no more than {most:.1f} points, and surely no more than {100 * at_worst(most / 100):.1f}"
    more = change["more"]
    would = "no number of cases like these would tell" if more is None else f"about {more:,} more cases would tell"
    if doubtful := change["doubtful_slices"]:
        names = ", ".join(doubtful)
        return f"undecided whether slices lost more than {most:.1f} points, or look so by chance: {names}; {would}"
    return f"undecided whether it lost more than {most:.1f} points: {would}"


def failing(found: Mapping[str, Any], most: int) -> list[Failing]:
    """Cases with a wrong answer, in the way that was asked first; those that the baseline passes before others."""
    ways = _answered(found)
    if not ways:
        return []
    name, way = ways[0]
    about = {case["id"]: case for case in found["cases"]}
    beside = (found["baseline"] or {"ways": {}})["ways"].get(name)
    records: dict[str, list[Mapping[str, Any]]] = {}
    for record in way["records"]:
        records.setdefault(record["id"], []).append(record)
    wrong = [each for each in records.values() if not all(record["passed"] for record in each)]
    if beside:
        lost = set(beside["lost"])
        wrong.sort(key=lambda each: each[0]["id"] not in lost)
    shown = []
    for each in wrong[:most]:
        record, case = next(record for record in each if not record["passed"]), about[each[0]["id"]]
        right = sum(record["passed"] for record in each)
        passes = record["id"] in beside["lost"] if beside else None
        question, expected = case["question"], case["expected"]
        answer = record["answer"] or "; ".join(f"{call['name']}({call['arguments']})" for call in record["tool_calls"])
        # Where one answer is right, it stands there already.
        reason = "" if {one["name"] for one in record["assertions"]} <= _SAYS_ALL else record["reason"]
        shown.append(Failing(record["id"], name, question, expected, answer, reason, right, len(each), passes))
    return shown


def percent(rate: float) -> str:
    """A rate as tables show it."""
    return f"{rate * 100:.1f} %"


def _answered(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, way) for name, way in found["ways"].items() if "records" in way]
