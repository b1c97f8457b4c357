"""The figures of a level out of its records: latencies, rates and goodput. Definitions: docs/bench.md."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from edgeship.measure.load.records import Record
from edgeship.measure.statistics.bootstrap import MEAN, MEDIAN, Statistic, interval

NEEDED = {50: 11, 90: 64, 95: 130, 99: 662}
"""So many values a percentile takes: that all of them lie on one side of it then has a chance of one in a thousand."""
LATENCIES = ("ttft_s", "first_text_s", "tpot_s", "itl_s", "e2e_s")
Groups = Sequence[Sequence[float]]
"""Values of one figure, those of a request together."""


def ttft_s(record: Record) -> float | None:
    """To the first piece that shows something, in any channel."""
    first_s = record.first_s()
    return None if first_s is None else first_s - record.start_s


def first_text_s(record: Record) -> float | None:
    """To the first text that a user sees."""
    first_s = record.first_s("text")
    return None if first_s is None else first_s - record.start_s


def e2e_s(record: Record) -> float:
    """To the end of the answer."""
    return record.reply.end_s - record.start_s


def tpot_s(record: Record, output_tokens: int | None) -> float | None:
    """Seconds for each token after those of the first piece; None for an answer that has none.

    With one token in the first piece that is (end - first) / (n - 1).
    """
    first_s = record.first_s()
    if first_s is None or output_tokens is None:
        return None
    before = sum(1 if one.tokens is None else one.tokens for one in record.reply.arrivals if one.at_s <= first_s)
    later = output_tokens - max(1, before)
    return (record.reply.end_s - first_s) / later if later > 0 else None


def gaps_s(record: Record, *, shown_only: bool) -> list[float]:
    """Between arrivals, one after another. shown_only: of those that show something."""
    times = [one.at_s for one in record.reply.arrivals if one.kinds or not shown_only]
    return [after - before for before, after in itertools.pairwise(times)]


def spread(groups: Groups) -> dict[str, Any]:
    """Mean and percentiles of the values, as far as there are enough of them; `needs`: how many more the others take.

    interval: where mean and median lie with 95 % confidence, by resampling requests.
    """
    values = [value for group in groups for value in group]
    count = len(values)
    percentiles = {f"p{percent}": percentile(values, percent) for percent in NEEDED}
    return {
        "mean": fmean(values) if values else None,
        **percentiles,
        "needs": {f"p{percent}": needed - count for percent, needed in NEEDED.items() if count < needed},
        "interval": _intervals(groups),
        "values": count,
    }


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The value below which so many percent lie, between two values in proportion; None where too few are there."""
    import numpy as np

    return float(np.percentile(values, percent)) if len(values) >= NEEDED[percent] else None


def nothing(count: int = 0) -> dict[str, Any]:
    """A spread of a figure that is refused."""
    return {"mean": None, **dict.fromkeys(f"p{percent}" for percent in NEEDED), "needs": {}} | {
        "interval": {"mean": None, "p50": None},
        "values": count,
    }


@dataclass(frozen=True)
class Slo:
    """What a request must keep to be good: a limit in seconds for each of some latencies, by their short names."""

    limits_s: Mapping[str, float]

    def holds(self, values: Mapping[str, float | None]) -> bool:
        """Whether a request's latencies keep every limit; what it has none of, it keeps, but for what shows nothing."""
        shows = values.get("ttft") is not None
        return shows and all((values.get(name) or 0.0) <= limit for name, limit in self.limits_s.items())


def goodput(
    records: Sequence[Record], slo: Slo, tokens: Callable[[Record], int | None], wall_s: float
) -> dict[str, Any]:
    """Requests that were answered within the limits: which part of all, and how many a second. Errors are not good."""
    asked = [record for record in records if record.is_complete or record.is_error]
    good = sum(record.is_complete and slo.holds(_latencies(record, tokens(record))) for record in asked)
    return {
        "slo": dict(slo.limits_s),
        "good": good,
        "share": good / len(asked) if asked else None,
        "requests_per_s": good / wall_s if wall_s else None,
    }


def _latencies(record: Record, tokens: int | None) -> dict[str, float | None]:
    return {
        "ttft": ttft_s(record),
        "first_text": first_text_s(record),
        "tpot": tpot_s(record, tokens),
        "e2e": e2e_s(record),
    }


def _intervals(groups: Groups) -> dict[str, Any]:
    """Of requests: values of one request, such as its gaps, depend on each other, and stand as their mean for it."""
    values = [fmean(group) for group in groups if group]
    single = all(len(group) <= 1 for group in groups)
    return {"mean": interval_of(values, MEAN), "p50": interval_of(values, MEDIAN) if single else None}


def interval_of(values: Sequence[float], statistic: Statistic) -> list[float] | None:
    """Where a statistic lies with 95 % confidence; None where there are too few values to say."""
    found = interval(statistic, values)
    return None if found is None else [found.low, found.high]
