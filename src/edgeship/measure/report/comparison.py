"""The report of a comparison: all that was found, and what is told of it in every form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeship.engine.api import Constraint
from edgeship.measure.choice import recommendation
from edgeship.measure.choice.choose import Choice, baseline_fault, figures_of_kld
from edgeship.measure.choice.escalation import Attempt
from edgeship.measure.measurement import Measurement
from edgeship.measure.report.gated import Gated
from edgeship.measure.report.tables import NONE, Table, percent, tokens_per_s
from edgeship.measure.statistics.noninferiority import Outcome
from edgeship.recipe import Precision
from edgeship.system.machine import BUSY
from edgeship.system.storage import megabytes

SCHEMA_VERSION = 1

METHODS = (
    (
        "Size",
        "Bytes of the model's files (the ONNX graph and its weights), without tokenizer and texts. 1 MB is 10^6 bytes.",
    ),
    (
        "Memory",
        "The most physical memory of a process of its own that loaded the package, ran the speed test and "
        "answered the evaluation, its cases side by side.",
    ),
    (
        "Prefill and decode",
        "One answer at a time, after a warm-up, on prompts of random tokens, the same for every package. "
        "Prefill is prompt tokens divided by the time to the first token (TTFT); decode is the tokens after "
        "the first divided by the time they took. Figures are medians; the mark on a bar goes from the slowest "
        "run to the fastest.",
    ),
    (
        "KLD",
        "Kullback-Leibler divergence of the package's next-token distribution from that of the reference, in nats, "
        "averaged over all scored positions. 0 means the same distribution.",
    ),
    ("Top-1", "The share of those positions at which both hold the same token for the likeliest."),
    (
        "Evaluation",
        "Each case is asked once and answered greedily, with the package's own repetition penalty. In "
        "brackets and on the bars the 95 % interval of the pass rate (Wilson). The change against FP32 is taken "
        "case by case, with Tango's score interval for paired outcomes and McNemar's exact p. A slice is named where "
        "it surely fell by more than is allowed, by Holm's p for all slices together.",
    ),
    (
        "Choice",
        "The smallest package whose quality is good enough. With an evaluation its pass rate may lie below "
        "FP32's by no more than the allowed drop and must reach the minimum; without one the mean KLD and the "
        "top-1 agreement have limits. It holds where the one-sided 95 % bound lies within the limit, fails where the "
        "other bound lies outside, and is undecided else: then more cases would decide, so many that they do with "
        "80 % power if they are like these.",
    ),
    (
        "Front",
        "Packages that none beats: no other is as small, as quick to decode and as good, and better in one of these.",
    ),
)


HELD_TO = {
    "json_schema": "a JSON schema",
    "json_object": "JSON objects",
    "regex": "a regular expression",
    "lark": "a grammar",
}
"""Constraints by their kinds, in words."""


@dataclass(frozen=True)
class Candidate:
    """One package that was measured: how it was built and what came out. label: the recipe's."""

    label: str
    precision: Precision
    recipe: dict[str, Any]
    measurement: Measurement


@dataclass(frozen=True)
class Report:
    """All that a comparison found.

    checkpoint, machine, tools: plain facts, as the modules that know them state them.
    reference, texts: what agreement was measured with, and over which texts; None where it was not.
    escalation: INT4 as it was asked for, and with more bits; nothing where they were not asked for.
    constraint: what answers to the evaluation were held to, None where they were free.
    template_fidelity: the outcome of the template check, None where it was not made.
    sampling: how what ships samples where nobody says otherwise; None where it is not known.
    remarks: what was known beforehand. commands: (what for, command) to go on with.
    gates: what the release gate said of each candidate that it looked at; none where it was off, or nothing was chosen.
    """

    created: str
    name: str
    checkpoint: dict[str, Any]
    machine: dict[str, Any]
    tools: dict[str, str]
    candidates: tuple[Candidate, ...]
    choice: Choice
    reference: str | None = None
    texts: str | None = None
    escalation: tuple[Attempt, ...] = ()
    constraint: Constraint | None = None
    template_fidelity: dict[str, Any] | None = None
    sampling: dict[str, Any] | None = None
    remarks: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    gates: tuple[Gated, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Everything, with every single answer and run: enough to compute each figure again."""
        return asdict(self) | {"verdict": self.choice.verdict(), "front": list(self.front)}

    @property
    def gate(self) -> Gated | None:
        """What the release gate said of what was chosen."""
        return next((gate for gate in self.gates if gate.label == self.choice.chosen), None)

    @property
    def refused(self) -> tuple[Gated, ...]:
        """What the release gate said of those that it did not let through."""
        return tuple(gate for gate in self.gates if not gate.installed)

    @property
    def installs(self) -> bool:
        """Whether something was chosen, and the release gate lets it through or is overruled."""
        return self.choice.chosen is not None and (self.gate is None or self.gate.installed)

    @property
    def outcome(self) -> Outcome:
        """Of the choice and the release gate together: what is good enough and unfit for release fails."""
        if self.gate is None or self.choice.outcome == "fails":
            return self.choice.outcome
        gated: dict[str, Outcome] = {"fail": "fails", "undecided": "undecided"}
        return gated.get(self.gate.outcome, self.choice.outcome)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Of the choice, and of the release gate where it is no plain pass."""
        return (*self.choice.reasons, *(reason for gate in self.gates for reason in gate.reasons))

    @property
    def front(self) -> tuple[str, ...]:
        """The candidates that none beats in size, speed and quality at once."""
        return recommendation.frontier({found.label: found.measurement for found in self.candidates})

    @property
    def by_size(self) -> tuple[Candidate, ...]:
        """The candidates, largest first: FP32, which the others are held against, leads where there is one."""
        return tuple(
            sorted(
                self.candidates,
                key=lambda found: (found.precision is not Precision.FP32, -found.measurement.size_bytes),
            )
        )

    @property
    def fp32_size_bytes(self) -> int | None:
        """What the sizes are held against; None where FP32 was not measured."""
        sizes = (found.measurement.size_bytes for found in self.candidates if found.precision is Precision.FP32)
        return next(sizes, None)


def table_rows(report: Report) -> Table:
    """The candidates side by side."""
    return Table(
        header=(
            "recipe",
            "size",
            "vs FP32",
            "memory",
            "prefill tok/s",
            "decode tok/s",
            "mean KLD",
            "top-1 %",
            "eval pass %",
            "front",
            "holds",
        ),
        rows=tuple(_row(candidate, report) for candidate in report.by_size),
    )


def _row(candidate: Candidate, report: Report) -> tuple[str, ...]:
    measured = candidate.measurement
    return (
        candidate.label,
        megabytes(measured.size_bytes),
        f"{measured.size_bytes / report.fp32_size_bytes:.2f}" if report.fp32_size_bytes else NONE,
        megabytes(measured.peak_memory_bytes),
        tokens_per_s(measured.speed.prefill_tokens_per_s.median),
        tokens_per_s(measured.speed.decode_tokens_per_s.median),
        figures_of_kld(measured.fidelity.mean_kld_nats) if measured.fidelity else NONE,
        percent(measured.fidelity.top1_agreement) if measured.fidelity else NONE,
        _pass_rate(measured),
        "yes" if candidate.label in report.front else NONE,
        _holds(candidate, report),
    )


def _pass_rate(measured: Measurement) -> str:
    result = measured.evaluation
    if result is None:
        return NONE
    low, high = percent(result.pass_rate_95.low), percent(result.pass_rate_95.high)
    return f"{percent(result.pass_rate)} [{low}, {high}]"


def _holds(candidate: Candidate, report: Report) -> str:
    judgement = report.choice.judgements.get(candidate.label)
    if judgement is None:
        return "baseline" if candidate.precision is Precision.FP32 else NONE
    said = {"holds": "yes", "fails": "no", "undecided": "undecided"}[judgement.outcome]
    if candidate.label in (gate.label for gate in report.refused):
        return f"{said}, refused"
    return f"{said}, chosen" if candidate.label == report.choice.chosen else said


def methods(report: Report) -> tuple[tuple[str, str], ...]:
    """METHODS, and what held for this report alone."""
    found = list(METHODS)
    if said := agreement(report):
        found.append(("Reference", f"What agreement is measured with: {said}."))
    if report.constraint is not None:
        held = HELD_TO[report.constraint.kind]
        found.append(("Constraint", f"Answers to the evaluation were held to {held}, which report.json holds."))
    if report.remarks:
        found.append(("Notes", "; ".join(report.remarks) + "."))
    if said := busy(report):
        found.append(("Other programs", f"{said[0].upper()}{said[1:]}."))
    return tuple(found)


def agreement(report: Report) -> str | None:
    """What agreement was measured with, over what; None where it was not measured."""
    measured = [found.measurement.fidelity for found in report.candidates if found.measurement.fidelity]
    if not measured or report.reference is None or report.texts is None:
        return None
    return f"{report.reference}, over {measured[0].positions:,} tokens of {report.texts}"


def busy(report: Report) -> str | None:
    """What is to be said of figures that were taken while other programs worked; None where they hardly did."""
    beside = [
        f"{found.label} ({found.measurement.busy:.0%})" for found in report.by_size if found.measurement.busy > BUSY
    ]
    if not beside:
        return None
    return (
        f"other programs used much of the cores while these were measured: {', '.join(beside)}; their speed and "
        "latency say little of this machine, so measure again when those are done"
    )


def headline(report: Report) -> str:
    """The verdict in a few words."""
    chosen = report.choice.chosen
    if chosen is None:
        return "no candidate holds" if report.choice.outcome == "fails" else "no candidate is shown to hold"
    refused = [gate.label.upper() for gate in report.refused]
    if not report.installs and len(refused) > 1:
        return f"the release gate lets none of {', '.join(refused[:-1])} and {refused[-1]} through"
    said = f"{chosen.upper()}, the smallest that {'holds' if report.choice.outcome == 'holds' else 'may hold'}"
    if refused and report.installs:
        said += " and that the release gate lets through"
    if report.gate is not None and report.gate.outcome == "fail":
        return f"{said}, failed the release gate{', installed by force' if report.gate.forced else ''}"
    if report.outcome == "holds":
        return said
    if report.choice.outcome == "holds":
        return f"{said}: the release gate leaves it undecided"
    return f"{said}: undecided"


def ways_on(report: Report) -> tuple[str, ...]:
    """What may be tried where nothing is installed."""
    if report.gate is not None:
        return _past_the_gate(report)
    return recommendation.ways_on(
        report.choice,
        {candidate.label: candidate.recipe for candidate in report.candidates},
        evaluated=any(candidate.measurement.evaluation for candidate in report.candidates),
        escalated=bool(report.escalation),
    )


def _past_the_gate(report: Report) -> tuple[str, ...]:
    looked_at = {gate.label for gate in report.gates}
    others = [one.label for one in report.by_size if one.label not in looked_at]
    return (
        *([f"another candidate ({' or '.join(f'-p {label}' for label in others)})"] if others else []),
        "--gate FILE, with other bounds or a check turned off and the reason",
        "--force installs it all the same, marked as failed wherever it is listed",
    )


def slice_table(report: Report) -> Table | None:
    """Pass rates by slice, a row for each slice; None where there are fewer than two."""
    found = [(candidate.label, candidate.measurement.evaluation) for candidate in report.by_size]
    results = [(label, result) for label, result in found if result is not None]
    names = list(dict.fromkeys(name for _, result in results for name in result.by_slice))
    if len(names) < 2:
        return None
    rows = []
    for name in names:
        parts = [result.by_slice.get(name) for _, result in results]
        cases = max(part.cases for part in parts if part)
        cells = (f"{percent(part.passed / part.cases)} ({part.passed})" if part else NONE for part in parts)
        rows.append((name, str(cases), *cells))
    header = ("slice", "cases", *(f"{label} %" for label, _ in results))
    return Table(header, tuple(rows))


def latency_table(report: Report) -> Table | None:
    """Latency of the evaluation's answers; None where there was none."""
    rows = tuple(
        (
            candidate.label,
            f"{result.ttft.p50_ms:.0f}",
            f"{result.ttft.p95_ms:.0f}",
            f"{result.e2e.p50_ms:.0f}",
            f"{result.e2e.p95_ms:.0f}",
            str(result.concurrency),
            f"{result.wall_s:.1f}",
        )
        for candidate in report.by_size
        if (result := candidate.measurement.evaluation) is not None
    )
    header = ("recipe", "TTFT p50 ms", "TTFT p95 ms", "answer p50 ms", "answer p95 ms", "at a time", "all cases s")
    return Table(header, rows) if rows else None


def fp32_passes(report: Report) -> frozenset[str] | None:
    """The cases that FP32 passes; None where it was not asked beside others."""
    baseline = next((found for found in report.candidates if found.precision is Precision.FP32), None)
    if baseline is None or baseline is failing(report) or baseline.measurement.evaluation is None:
        return None
    return frozenset(record.id for record in baseline.measurement.evaluation.records if record.passed)


def failing(report: Report) -> Candidate | None:
    """The candidate whose failed cases are shown.

    The chosen one; without one the largest that was held against FP32, or FP32 where that is at fault itself.
    """
    shown = next((found for found in report.by_size if found.label == report.choice.chosen), report.by_size[0])
    if report.choice.chosen is None and len(report.by_size) > 1:
        at_fault = shown.precision is not Precision.FP32 or baseline_fault(shown.measurement, report.choice.thresholds)
        shown = shown if at_fault else report.by_size[1]
    evaluation = shown.measurement.evaluation
    return shown if evaluation is not None and evaluation.failures else None
