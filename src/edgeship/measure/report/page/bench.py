"""What the page tells of a target under load, the document of `edgeship bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgeship.measure.document import Document
from edgeship.measure.load.tables import STOPPED
from edgeship.measure.report.charts.lines import Point, Series, lines
from edgeship.measure.report.charts.shapes import Chart
from edgeship.measure.report.page import of_document, units
from edgeship.measure.report.page.blocks import (
    MOST_ROWS,
    Facts,
    Part,
    Pictures,
    Rows,
    Sentences,
    pictures,
    section,
    sections,
)
from edgeship.measure.report.page.change import Figure
from edgeship.system.fields import Fields

_LATENCIES = (
    ("ttft_s", "Time to first token"),
    ("tpot_s", "Time per output token"),
    ("e2e_s", "Whole answer"),
)
_PARTS = (("p50", "median"), ("p95", "p95"), ("p99", "p99"))
_RATES = (
    ("output_tokens_per_s", "Tokens written", "tokens/s", units.tokens_per_s),
    ("requests_per_s", "Requests answered", "requests/s", units.per_s),
)
_MOST_WARNINGS = 20
_LOADS = (
    *("load", "requests", "errors", "prompt tokens", "tokens/s", "requests/s", "TTFT median", "TTFT p95"),
    *("per token, median", "answer, median", "answer p95", "within limits"),
)
_COSTS = (
    *("load", "memory at first", "peak memory", "CPU s per 1,000 tokens", "joules per token", "cores in use"),
    *("other programs", "the client's delay, p99"),
)


@dataclass(frozen=True)
class _Over:
    """What levels differ in, and how a picture calls it."""

    key: str
    name: str

    def of(self, level: Fields) -> float | None:
        if self.key == "prompt_tokens":
            return level.part(self.key).number("mean")
        return level.number(self.key)


_OVER = (
    _Over("concurrency", "requests at the same time"),
    _Over("rate_per_s", "requests sent per second"),
    _Over("prompt_tokens", "prompt tokens"),
)


def title(document: Document) -> str:
    """What was measured."""
    name = document.fields.part("target").text("name") or document.name
    return f"{name} under load"


def part(document: Document) -> Part:
    """All that is told of it."""
    levels = _levels(document)
    return Part(
        title(document),
        of_document.subtitle(document),
        sections(
            section("Under load", stopped(document), _warnings(levels), _table(levels), _needs(levels)),
            *(
                section(f"Latency over {over.name}", charts(over, [("", levels)]))
                for over in _OVER
                if _differs(over, levels)
            ),
            section("Throughput", *(throughput(over, [("", levels)]) for over in _OVER[:2] if _differs(over, levels))),
            section("Memory over time", _memory(levels)),
            section("What it cost", _costs(levels)),
            section("First requests", _first(document)),
            section(
                "What was measured, and where",
                of_document.where(
                    document,
                    ("Target", document.fields.part("target")),
                    ("Workload", document.fields.part("workload")),
                ),
            ),
        ),
    )


def stopped(document: Document) -> Sentences | None:
    """That it is a part, and why."""
    said = STOPPED.get(document.fields.text("stopped") or "")
    return Sentences((said,), warns=True) if said else None


def _levels(document: Document) -> list[Fields]:
    return document.fields.parts("levels")[:MOST_ROWS]


def figures(document: Document) -> list[Figure]:
    """What is held beside other runs."""
    found = []
    for level in _levels(document):
        where = _name(level)
        for key, name in _LATENCIES:
            spread = level.part(key)
            # Few requests have a mean, and no median to speak of.
            usual = ("p50", "median") if spread.number("p50") is not None else ("mean", "mean")
            for statistic, said in (usual, ("p95", "p95")):
                low, high = interval(spread.part("interval").items(statistic))
                what = f"{where}: {name.lower()}, {said}"
                found.append(Figure(what, spread.number(statistic), units.milliseconds, False, low, high))
        for key, name, _, text in _RATES:
            low, high = interval(level.items(f"{key}_interval"))
            found.append(Figure(f"{where}: {name.lower()}", level.number(key), text, True, low, high))
        found.append(Figure(f"{where}: peak memory", _cost(level).number("rss_peak_bytes"), units.memory, False))
    return found


def over_runs(runs: Sequence[tuple[str, Document]]) -> Pictures | None:
    """Several runs in one picture, by what their levels differ in."""
    return side_by_side([(name, _levels(document)) for name, document in runs])


def side_by_side(runs: Sequence[tuple[str, Sequence[Fields]]]) -> Pictures | None:
    """The same of the levels of each run."""
    together = [level for _, levels in runs for level in levels]
    drawn: list[Chart] = []
    for over in _OVER:
        if _differs(over, together):
            for found in (charts(over, runs), throughput(over, runs)):
                drawn += found.charts if found else ()
    return pictures(*drawn)


def charts(over: _Over, runs: Sequence[tuple[str, Sequence[Fields]]]) -> Pictures | None:
    """The latencies over what the levels differ in. A run's name is empty where there is only one."""
    return pictures(
        *(
            lines(
                name,
                "lower is better",
                [
                    Series(f"{run} {said}".strip(), tuple(_points(over, levels, key, statistic)))
                    for run, levels in runs
                    for statistic, said in (_PARTS if len(runs) == 1 else _PARTS[:1])
                ],
                x_name=over.name,
                y_name="milliseconds",
            )
            for key, name in _LATENCIES
        )
    )


def throughput(over: _Over, runs: Sequence[tuple[str, Sequence[Fields]]]) -> Pictures | None:
    """What was done a second, over what the levels differ in."""
    return pictures(
        *(
            lines(
                name,
                "higher is better",
                [Series(run or name, tuple(_rates(over, levels, key))) for run, levels in runs],
                x_name=over.name,
                y_name=unit,
            )
            for key, name, unit, _ in _RATES
        )
    )


def _points(over: _Over, levels: Sequence[Fields], key: str, statistic: str) -> Iterator[Point]:
    for level in levels:
        x, y = over.of(level), level.part(key).number(statistic)
        if x is not None and y is not None:
            low, high = interval(level.part(key).part("interval").items(statistic))
            yield Point(x, y * 1000, None if low is None else low * 1000, None if high is None else high * 1000)


def _rates(over: _Over, levels: Sequence[Fields], key: str) -> Iterator[Point]:
    for level in levels:
        x, y = over.of(level), level.number(key)
        if x is not None and y is not None:
            yield Point(x, y, *interval(level.items(f"{key}_interval")))


def _differs(over: _Over, levels: Sequence[Fields]) -> bool:
    """Whether there is a line to draw; prompts that differ by chance are no sweep of lengths."""
    found = {round(value) if over.key == "prompt_tokens" else value for level in levels if (value := over.of(level))}
    return len(found) > 1 and (over.key != "prompt_tokens" or max(found) >= 1.5 * min(found))


def _name(level: Fields) -> str:
    if name := level.text("name"):
        return name
    concurrency = level.number("concurrency")
    return "one load" if concurrency is None else f"{concurrency:g} at a time"


def _table(levels: Sequence[Fields]) -> Rows | None:
    return of_document.rows("Each load", _LOADS, [_row(level) for level in levels])


def _row(level: Fields) -> tuple[str, ...]:
    ttft, tpot, e2e = level.part("ttft_s"), level.part("tpot_s"), level.part("e2e_s")
    written, answered = (level.number(key) for key, *_ in _RATES)
    return (
        _name(level),
        _count(level, "requests"),
        _count(level, "errors"),
        _written(level.part("prompt_tokens").number("mean"), "{:,.0f}".format),
        _written(written, "{:,.1f}".format),
        _written(answered, "{:,.2f}".format),
        _latency(ttft, "p50"),
        _latency(ttft, "p95"),
        _latency(tpot, "p50"),
        _latency(e2e, "p50"),
        _latency(e2e, "p95"),
        _written(level.part("goodput").number("share"), units.percent),
    )


def _count(level: Fields, key: str) -> str:
    count = level.count(key, least=0)
    return "" if count is None else f"{count:,}"


def _latency(spread: Fields, statistic: str) -> str:
    """A percentile, or how many more values it takes."""
    value, needs = spread.number(statistic), spread.part("needs").number(statistic)
    if value is None:
        return "" if needs is None else f"needs {needs:,.0f} more"
    return units.milliseconds(value)


def _needs(levels: Sequence[Fields]) -> Sentences | None:
    if not any(level.part("ttft_s").part("needs").values for level in levels):
        return None
    return Sentences(("A percentile is told where there are enough requests for it; else how many more it takes.",))


def _warnings(levels: Sequence[Fields]) -> Sentences | None:
    """What makes figures doubtful, and what failed; what is to be said of several loads is said once."""
    loads: dict[str, list[str]] = {}
    for level in levels:
        found = list(level.texts("warnings"))
        for error in level.parts("error_kinds"):
            count, what = error.number("count") or 0, error.text("what") or ""
            found.append(f"{count:,.0f} times {error.text('kind') or 'error'}: {what}")
        found += [f"{key.removesuffix('_s')} is not told: {why}" for key, why in _refused(level)]
        for said in found:
            loads.setdefault(said, []).append(_name(level))
    texts = tuple(f"{', '.join(names)}: {said}" for said, names in loads.items())
    return Sentences(texts[:_MOST_WARNINGS], warns=True) if texts else None


def _refused(level: Fields) -> list[tuple[str, str]]:
    return [(key, str(why)) for key, why in level.part("refused").values.items()]


def _cost(level: Fields) -> Fields:
    """What was seen of the target's processes."""
    return level.part("cost")


def _memory(levels: Sequence[Fields]) -> Pictures | None:
    series = []
    for level in levels:
        points = []
        for place, pair in enumerate(_cost(level).items("rss_over_time")):
            if not isinstance(pair, list) or len(pair) != 2 or not all(type(one) in (int, float) for one in pair):
                raise _cost(level).wrong(f"rss_over_time[{place}]", pair, "a pair of seconds and bytes")
            points.append(Point(pair[0], pair[1] / 1e6))
        series.append(Series(_name(level), tuple(points)))
    return pictures(
        lines(
            "Memory of the target's processes",
            "",
            series,
            x_name="seconds since the load began",
            y_name="MB",
            sweep=False,
        )
    )


def _costs(levels: Sequence[Fields]) -> Rows | None:
    found = []
    for level in levels:
        cost = _cost(level)
        cpu_s = cost.number("cpu_s_per_token")
        cores = [core for core in cost.items("cores") if isinstance(core, int | float)]
        row = (
            _name(level),
            _written(cost.number("rss_begin_bytes"), units.memory),
            _written(cost.number("rss_peak_bytes"), units.memory),
            "" if cpu_s is None else f"{cpu_s * 1000:.2f}",
            _written(cost.number("joules_per_token"), "{:.3f}".format),
            ", ".join(f"{core:.0%}" for core in cores),
            _written(cost.number("others"), "{:.0%}".format),
            _written(cost.number("client_late_p99_s"), units.milliseconds),
        )
        if any(row[1:]):
            found.append(row)
    return of_document.rows("Memory, CPU and energy of each load", _COSTS, found)


def _written(value: float | None, text: Callable[[float], str]) -> str:
    return "" if value is None else text(value)


def _first(document: Document) -> Facts | None:
    target = document.fields.part("target")
    pairs = []
    if (load_s := target.number("load_s")) is not None:
        pairs.append(("Loaded in", f"{load_s:.2f} s"))
    for key in ("cold", "warm"):
        first = target.part("first_request").part(key)
        if first.values:
            ttft, e2e = first.number("ttft_s"), first.number("e2e_s")
            said = f"first token after {units.milliseconds(ttft)}" if ttft is not None else "no token"
            said += f", whole answer after {units.milliseconds(e2e)}" if e2e is not None else ""
            pairs.append((f"First request, {key}", first.text("error") or said))
    return Facts(tuple(pairs)) if pairs else None


def interval(bounds: Sequence[object]) -> tuple[float | None, float | None]:
    """The ends of an interval, which is a list of two or nothing."""
    match bounds:
        case [int() | float() as low, int() | float() as high]:
            return float(low), float(high)
    return None, None
