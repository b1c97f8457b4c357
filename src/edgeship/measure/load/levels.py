"""A level: what its records say, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeship.measure.load import figures, watch
from edgeship.measure.load.doubts import Doubt, Expected, Trust, judge, output_tokens
from edgeship.measure.load.driver import Driven, Load
from edgeship.measure.load.records import Record
from edgeship.measure.statistics.bootstrap import MEAN

_STOPPED_EARLY: Mapping[str | None, str] = {
    "failures": "all requests failed",
    "silent": "the target said nothing for as long as a request may take",
    "interrupted": "the run was interrupted",
}


@dataclass(frozen=True)
class Level:
    """One load on a target, and what was seen of it."""

    load: Load
    repeats: tuple[Driven, ...]
    expected: Expected
    slo: figures.Slo | None = None

    @property
    def records(self) -> tuple[Record, ...]:
        """Of all repeats."""
        return tuple(record for driven in self.repeats for record in driven.records)

    def to_dict(self) -> dict[str, Any]:
        """The level as documents have it, see docs/bench.md."""
        records, trust = self.records, judge(self.records, self.expected)
        complete = [record for record in records if record.is_complete]
        wall_s = sum(driven.wall_s for driven in self.repeats)
        rates = [_rates(driven, trust) for driven in self.repeats]
        latencies, cost = _latencies(complete, trust), self._cost()
        good = self._goodput(trust, wall_s)
        kinds = Counter(failure for record in records if (failure := record.reply.failure) and record.is_error)
        return {
            "name": self.load.name,
            "concurrency": self.load.concurrency,
            "rate_per_s": self.load.rate_per_s,
            "arrivals": self.load.arrivals if self.load.rate_per_s else None,
            "requests": len(records),
            "completed": len(complete),
            "errors": sum(record.is_error for record in records),
            "unfinished": sum(not record.is_complete and not record.is_error for record in records),
            "error_kinds": [
                {"kind": failure.kind, "what": failure.what, "count": count} for failure, count in kinds.most_common()
            ],
            "wall_s": wall_s,
            "ended": next((driven.stopped for driven in self.repeats if driven.stopped), "requests"),
            **latencies,
            **_together(rates, wall_s),
            "repeats": rates,
            "tps_per_user": None,
            "goodput": good,
            "prompt_tokens": _range([record.reply.prompt_tokens for record in complete]),
            "output_tokens": _range([output_tokens(record) for record in complete]),
            "cached_tokens": sum(record.reply.cached_tokens or 0 for record in complete),
            "cost": cost and cost.to_dict(sum(output_tokens(record) or 0 for record in complete)),
            "warnings": [str(doubt) for doubt in (*trust.doubts, *_of_measuring(cost, latencies))] + self._ends(),
            "refused": trust.refused,
        } | _tps_per_user(complete, trust)

    def throughput(self) -> float | None:
        """What more clients are to raise: tokens a second, or requests where tokens are not told."""
        trust = judge(self.records, self.expected)
        wall_s = sum(driven.wall_s for driven in self.repeats)
        together = _together([_rates(driven, trust) for driven in self.repeats], wall_s)
        tokens: float | None = together["output_tokens_per_s"]
        return together["requests_per_s"] if tokens is None else tokens

    def _goodput(self, trust: Trust, wall_s: float) -> dict[str, Any] | None:
        if self.slo is None or any(f"{name}_s" in trust.refused for name in self.slo.limits_s):
            return None
        return figures.goodput(self.records, self.slo, output_tokens, wall_s)

    def _cost(self) -> watch.Cost | None:
        costs = [driven.cost for driven in self.repeats if driven.cost]
        return watch.together(costs) if len(costs) == len(self.repeats) else None

    def _ends(self) -> list[str]:
        found = []
        for driven in self.repeats:
            cut = sum(record.reply.failure is not None and not record.is_error for record in driven.records)
            why = _STOPPED_EARLY.get(driven.stopped)
            if why:
                found.append(f"stopped-early: {why}, so no more were sent.")
            if cut:
                found.append(
                    f"unfinished: {cut} requests ran when {why or 'the time was over'}; they are in no figure, and "
                    "they may be those that took longest."
                )
        return found


def _of_measuring(cost: watch.Cost | None, latencies: Mapping[str, Any]) -> Iterator[Doubt]:
    if cost:
        yield from watch.doubts(cost, ttft_s=latencies["ttft_s"]["mean"], itl_s=latencies["itl_s"]["mean"])


def _latencies(records: Sequence[Record], trust: Trust) -> dict[str, Any]:
    def of(value: float | None) -> list[float]:
        return [] if value is None else [value]

    groups: dict[str, list[list[float]]] = {
        "ttft_s": [of(figures.ttft_s(record)) for record in records],
        "first_text_s": [of(figures.first_text_s(record)) for record in records],
        "tpot_s": [of(figures.tpot_s(record, output_tokens(record))) for record in records],
        "itl_s": [figures.gaps_s(record, shown_only=trust.shown_only) for record in records],
        "e2e_s": [of(figures.e2e_s(record)) for record in records],
    }
    return {
        name: figures.nothing() if name in trust.refused else figures.spread(group) for name, group in groups.items()
    }


def _rates(driven: Driven, trust: Trust) -> dict[str, float | None]:
    """What was done a second, of one repeat."""
    complete = [record for record in driven.records if record.is_complete]

    def per_s(name: str, counts: Sequence[int | None]) -> float | None:
        if name in trust.refused or None in counts or not driven.wall_s:
            return None
        return sum(count or 0 for count in counts) / driven.wall_s

    return {
        "output_tokens_per_s": per_s("output_tokens_per_s", [output_tokens(record) for record in complete]),
        "input_tokens_per_s": per_s("input_tokens_per_s", [record.reply.prompt_tokens for record in complete]),
        "requests_per_s": per_s("requests_per_s", [1] * len(complete)),
        "wall_s": driven.wall_s,
    }


def _together(rates: Sequence[Mapping[str, float | None]], wall_s: float) -> dict[str, Any]:
    """Rates over all repeats, and where they lie with 95 % confidence where there are several."""
    found: dict[str, Any] = {}
    for name in ("output_tokens_per_s", "input_tokens_per_s", "requests_per_s"):
        known = [(rate, one["wall_s"] or 0.0) for one in rates if (rate := one[name]) is not None]
        whole = len(known) == len(rates) and wall_s > 0
        found[name] = sum(rate * seconds for rate, seconds in known) / wall_s if whole else None
        found[f"{name}_interval"] = figures.interval_of([rate for rate, _ in known], MEAN) if whole else None
    return found


def _range(counts: Sequence[int | None]) -> dict[str, float | None]:
    known = [count for count in counts if count is not None]
    if not known:
        return {"mean": None, "min": None, "max": None}
    return {"mean": sum(known) / len(known), "min": min(known), "max": max(known)}


def _tps_per_user(records: Sequence[Record], trust: Trust) -> dict[str, float | None]:
    """Tokens a second that nine of ten users get at least: 1 / p90 of TPOT."""
    if "tpot_s" in trust.refused:
        return {}
    values = [value for one in records if (value := figures.tpot_s(one, output_tokens(one))) is not None]
    p90 = figures.percentile(values, 90)
    return {"tps_per_user": 1 / p90 if p90 else None}
