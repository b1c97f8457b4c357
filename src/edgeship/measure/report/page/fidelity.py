"""What the page tells of fidelity, the document of `edgeship compare`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeship.measure.agreement.fidelity import HISTOGRAM_EDGES_NATS
from edgeship.measure.document import Document
from edgeship.measure.report.charts.bars import Bar, bars
from edgeship.measure.report.charts.histogram import Bin, histogram
from edgeship.measure.report.page import of_document, tradeoffs, units
from edgeship.measure.report.page.blocks import (
    Block,
    Case,
    Cases,
    Part,
    Passage,
    Pictures,
    Rows,
    Sentences,
    pictures,
    section,
    sections,
)
from edgeship.measure.report.page.change import Figure
from edgeship.measure.report.page.tradeoffs import KLD_FLOOR_NATS, Option
from edgeship.measure.statistics.intervals import Z_95
from edgeship.system.fields import Fields

MOST_TOKENS = 30


@dataclass(frozen=True)
class _Column:
    """A figure: where it stands, how it is called and written. more_is_better: None where neither is."""

    key: str
    name: str
    text: Callable[[float], str]
    more_is_better: bool | None = False


_KLD = (
    _Column("mean_kld_nats", "mean KLD", units.small),
    _Column("median_kld_nats", "median KLD", units.small),
    _Column("p90_kld_nats", "90 % below", units.small),
    _Column("p95_kld_nats", "95 %", units.small),
    _Column("p99_kld_nats", "99 %", units.small),
    _Column("p999_kld_nats", "99.9 %", units.small),
    _Column("max_kld_nats", "largest", units.small),
)
_AGREEMENT = (
    _Column("top1_agreement", "top-1", units.percent, True),
    _Column("top5_agreement", "top-5", units.percent, True),
    _Column("perplexity_ratio", "perplexity, ratio", units.ratio),
    _Column("mean_probability_change", "right token, change", "{:+.5f}".format, None),
    _Column("rms_probability_change", "right token, RMS", "{:.5f}".format),
)
_WITH_ERROR = {"mean_kld_nats", "top1_agreement", "top5_agreement", "perplexity_ratio", "mean_probability_change"}
_CHANGES = {"mean_probability_change"}
_TITLES = {
    "mean_kld_nats": "Mean KLD",
    "p99_kld_nats": "KLD that 99 % of the tokens stay below",
    "top1_agreement": "The same likeliest token",
    "top5_agreement": "Likeliest five tokens in common",
}
"""Of what is drawn."""


def title(document: Document) -> str:
    """What was compared with what."""
    name, reference = document.fields.text("name"), document.fields.text("reference") or "the reference"
    return f"{name} beside {reference}" if name else f"Fidelity to {reference}"


def part(document: Document) -> Part:
    """All that is told of it."""
    found = _candidates(document)
    each = [(name, figures_of(one)) for name, one in found]
    options = [option for name, one in found if (option := _option(name, one)) is not None]
    return Part(
        title(document),
        of_document.subtitle(document),
        sections(
            section("How closely each follows", *_tables(found, each), _bars(each)),
            section("Size against fidelity and speed", tradeoffs.front(options), tradeoffs.scatters(options)),
            section("How KLD is distributed", histograms([(name, _counts(figures)) for name, figures in each])),
            section("Where they stray furthest", *(worst(name, one.parts("worst_tokens")) for name, one in found)),
            section(
                "What was measured, and where",
                of_document.where(document, ("Texts", document.fields.part("texts")), *found),
            ),
        ),
    )


def figures(document: Document) -> list[Figure]:
    """What is held beside other runs."""
    found = []
    for name, candidate in _candidates(document):
        values = figures_of(candidate)
        for one in (*_KLD, *_AGREEMENT):
            value, low, high = values.number(one.key), *_interval(values, one.key)
            share = one.key.endswith("agreement")
            found.append(Figure(f"{name}: {one.name}", value, one.text, one.more_is_better, low, high, share))
    return found


def histograms(found: Sequence[tuple[str, Sequence[int]]]) -> Pictures | None:
    """The distribution of KLD of each, over the same axes; counts: of positions between HISTOGRAM_EDGES_NATS."""
    edges = list(itertools.pairwise(HISTOGRAM_EDGES_NATS))
    counted = [
        (name, [Bin(*edge, count) for edge, count in zip(edges, counts, strict=False)]) for name, counts in found
    ]
    every = [bins for _, bins in counted]
    return pictures(
        *(histogram(name, "tokens by their KLD", bins, x_name="KLD, nats", of=every) for name, bins in counted)
    )


def figures_of(one: Fields) -> Fields:
    """The figures of a candidate; of a server, which tells no whole distributions, fewer."""
    return one.part("fidelity" if one.values.get("fidelity") is not None else "likelihood")


def _candidates(document: Document) -> list[tuple[str, Fields]]:
    found = document.fields.part("candidates")
    return [(name, found.part(name)) for name in found.values]


def _option(name: str, one: Fields) -> Option | None:
    size, decode = one.number("size_bytes"), one.part("speed").part("decode_tokens_per_s").number("median")
    if size is None or decode is None:
        return None
    return Option(name, size, decode, figures_of(one).number("mean_kld_nats"))


def _tables(found: Sequence[tuple[str, Fields]], each: Sequence[tuple[str, Fields]]) -> tuple[Block | None, ...]:
    errors = Sentences(("With ± stands the standard error of a figure, over texts.",))
    return (
        _table(each, _KLD, "KLD from the reference, in nats"),
        _refusals(found),
        _table(each, _AGREEMENT, "Agreement with the reference"),
        errors if any(figures.part("errors").values for _, figures in each) else None,
    )


def _refusals(found: Sequence[tuple[str, Fields]]) -> Sentences | None:
    said = tuple(f"{name} has no KLD: {why}." for name, one in found if (why := one.text("kld_refused")))
    return Sentences(said) if said else None


def _counts(figures: Fields) -> list[int]:
    counts = figures.items("kld_counts")
    if not all(type(count) is int and count >= 0 for count in counts):
        raise figures.wrong("kld_counts", counts, "a list of whole numbers")
    return counts


def _table(found: Sequence[tuple[str, Fields]], columns: Sequence[_Column], caption: str) -> Rows | None:
    header = ("candidate", "tokens", *(one.name for one in columns))
    rows = []
    for name, figures in found:
        values = [_written(one, figures) for one in columns]
        if any(values):
            positions = figures.count("positions", least=0)
            rows.append((name, "" if positions is None else f"{positions:,}", *values))
    return of_document.rows(caption, header, rows)


def _written(column: _Column, figures: Fields) -> str:
    value, error = figures.number(column.key), _error(figures, column.key)
    if value is None:
        return ""
    beside = f" ± {column.text(error).removesuffix(' %').lstrip('+')}" if error and column.key in _WITH_ERROR else ""
    return f"{column.text(value)}{beside}"


def _error(figures: Fields, key: str) -> float | None:
    return figures.part("errors").number(key)


def _interval(figures: Fields, key: str) -> tuple[float | None, float | None]:
    """The bounds of 95 % confidence: stated, or by the standard error."""
    if isinstance(figures.values.get(f"{key}_95"), dict):
        return figures.part(f"{key}_95").number("low"), figures.part(f"{key}_95").number("high")
    value, error = figures.number(key), _error(figures, key)
    if value is None or error is None:
        return None, None
    low = value - Z_95 * error
    # By chance the error may be larger than what it is of, which only a change can fall below zero by.
    return low if key in _CHANGES else max(0.0, low), value + Z_95 * error


def _bars(found: Sequence[tuple[str, Fields]]) -> Pictures | None:
    drawn = []
    for one in (*_KLD, *_AGREEMENT):
        if one.key in _TITLES:
            values = [
                Bar(name, value, one.text(value), *_interval(figures, one.key))
                for name, figures in found
                if (value := figures.number(one.key)) is not None
            ]
            note = "longer is better" if one.more_is_better else "shorter is better"
            drawn.append(bars(_TITLES[one.key], note, values))
    return pictures(*drawn)


def worst(name: str, tokens: Sequence[Fields]) -> Cases | None:
    """The tokens at which a candidate strays furthest, in what stands before them; None where it hardly does."""
    made = []
    strays = [(nats, token) for token in tokens if (nats := token.number("kld_nats") or 0.0) > KLD_FLOOR_NATS]
    for place, (nats, token) in enumerate(strays[:MOST_TOKENS], 1):
        actual = token.part("actual")
        number, position = token.number("text_number"), token.number("position")
        where = "" if number is None or position is None else f"text {number + 1:.0f}, token {position + 1:.0f}"
        said = (
            ("the reference wants", _wanted(token.parts("reference"))),
            (f"{name} wants", _wanted(token.parts("candidate"))),
            ("what is there", _chances(actual.number("probability"), token.number("candidate_probability"))),
        )
        made.append(
            Case(
                f"{place}. {units.small(nats)} nats",
                where,
                tuple((whose, text) for whose, text in said if text),
                Passage(token.text("before") or "", actual.text("text") or "", ""),
            )
        )
    return Cases(f"{name}: the {len(made)} tokens of largest KLD", tuple(made)) if made else None


def _wanted(tokens: Sequence[Fields]) -> str:
    """What a model finds likeliest, as it is written, with how likely."""
    found = []
    for token in tokens:
        probability = token.number("probability")
        found.append(f"{token.text('text')!r}" + (f" {units.percent(probability)}" if probability is not None else ""))
    return "  ".join(found)


def _chances(reference: float | None, candidate: float | None) -> str:
    if reference is None or candidate is None:
        return ""
    return f"{units.percent(reference)} likely for the reference, {units.percent(candidate)} here"
