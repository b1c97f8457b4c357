"""Which of several packages to take, with reasons in plain sentences; each holds, fails, or is undecided."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgeship.errors import UsageError
from edgeship.measure.agreement.fidelity import Fidelity
from edgeship.measure.evaluation.evaluate import EvalResult
from edgeship.measure.measurement import Measurement
from edgeship.measure.statistics.intervals import PairedChange, mcnemar, paired_change
from edgeship.measure.statistics.noninferiority import (
    Finding,
    Outcome,
    of_change,
    of_mean,
    of_rate,
    of_share,
    together,
    worse_slices,
)
from edgeship.system.fields import shown

Undecided = Literal["take", "refuse"]
"""Whether a candidate that too few cases leave undecided is taken, where its figures lie within the limits."""
_OUTCOMES: dict[Outcome, str] = {"holds": "holds", "fails": "does not hold", "undecided": "is undecided"}


@dataclass(frozen=True)
class Thresholds:
    """What counts as good enough.

    With an evaluation: the pass rate may lie at most `max_drop` below FP32's, and must reach `min_pass_rate`.
    Without one: limits on the mean KLD (nats a token) and the top-1 agreement with the reference.
    """

    max_drop: float = 0.02
    min_pass_rate: float = 0.80
    max_mean_kld_nats: float = 0.1
    min_top1_agreement: float = 0.9

    def __post_init__(self) -> None:
        """Raises UsageError for what could be no threshold: it would show after hours of building."""
        for name, value in vars(self).items():
            most = math.inf if name == "max_mean_kld_nats" else 1.0
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                rule = "of at least 0" if most == math.inf else "from 0 to 1"
                raise UsageError(
                    f"{name} is {shown(value)}; it must be a number {rule}", hint="Leave it out, or mend it."
                )


@dataclass(frozen=True)
class Judgement:
    """Whether one package's quality holds, and why.

    within: what was measured lies within the limits, whatever chance may have done to it.
    more: about so many more cases (positions, where agreement decides) would decide; None where that is decided, or
    where no number would be enough. hopeless: there are too few cases to show that anything holds.
    worse_slices: those whose pass rate surely fell by more than is allowed.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    within: bool
    more: int | None = None
    hopeless: bool = False
    worse_slices: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """True where it is shown to hold."""
        return self.outcome == "holds"

    def is_good_enough(self, undecided: Undecided) -> bool:
        """Whether it may ship: it holds, or it is undecided, looks as if it held, and such are taken."""
        return self.holds or (undecided == "take" and self.outcome == "undecided" and self.within)

    def of(self, label: str) -> str:
        """The same in words."""
        return f"{label.upper()} {_OUTCOMES[self.outcome]}: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class Choice:
    """The package to take by its label, None where none is good enough.

    reasons: what decided; judgements: every candidate's by its label, smallest first.
    fault: why nothing made of the checkpoint can hold, if that is known.
    undecided: what became of candidates that are undecided.
    """

    chosen: str | None
    reasons: tuple[str, ...]
    judgements: dict[str, Judgement]
    thresholds: Thresholds
    fault: str | None = None
    undecided: Undecided = "take"

    @property
    def outcome(self) -> Outcome:
        """The chosen one's; without one whether all of them fail."""
        if self.chosen is not None:
            return self.judgements[self.chosen].outcome
        undecided = any(judgement.outcome == "undecided" for judgement in self.judgements.values())
        return "undecided" if undecided else "fails"

    @property
    def holds(self) -> bool:
        """True where there is something to take; `outcome` tells whether that is shown to hold."""
        return self.chosen is not None

    def verdict(self) -> dict[str, Any]:
        """The gate's answer, as the store and a report keep it."""
        chosen = self.judgements[self.chosen] if self.chosen is not None else None
        return {
            "holds": self.holds,
            "outcome": self.outcome,
            "chosen": self.chosen,
            "undecided": self.undecided,
            "more_to_decide": chosen.more if chosen else None,
            "worse_slices": list(chosen.worse_slices) if chosen else [],
            "reasons": list(self.reasons),
            "thresholds": asdict(self.thresholds),
        }


def choose(
    candidates: Mapping[str, Measurement],
    baseline: Measurement | None,
    thresholds: Thresholds | None = None,
    undecided: Undecided = "take",
    refused: Container[str] = (),
) -> Choice:
    """The smallest candidate that is good enough, by its model files; `baseline` is the FP32 build, if there is one.

    refused: those that the release gate did not let through, which are passed over.
    """
    limits = thresholds or Thresholds()
    judgements = {
        label: judge(candidates[label], baseline, limits)
        for label in sorted(candidates, key=lambda label: candidates[label].size_bytes)
    }
    fault = baseline_fault(baseline, limits) if baseline else None
    if fault is not None:
        fallen = {
            label: Judgement("fails", (fault, *judgement.reasons), within=False)
            for label, judgement in judgements.items()
        }
        return Choice(None, (fault,), fallen, limits, fault, undecided)
    left = {label: judgement for label, judgement in judgements.items() if label not in refused}
    chosen = next((label for label, judgement in left.items() if judgement.is_good_enough(undecided)), None)
    return Choice(chosen, _why(chosen, judgements, refused), judgements, limits, undecided=undecided)


def judge(measurement: Measurement, baseline: Measurement | None, thresholds: Thresholds) -> Judgement:
    """Whether a package's quality holds, with 95 % confidence either way.

    By its evaluation beside FP32's where there is one, else by agreement with the reference; a package of
    which neither was measured fails. Without a baseline an evaluation has only its minimum to reach.
    """
    if measurement.evaluation is not None:
        return _judge_evaluation(measurement.evaluation, baseline.evaluation if baseline else None, thresholds)
    if measurement.fidelity is not None:
        return _judge_fidelity(measurement.fidelity, thresholds)
    return Judgement("fails", ("neither an evaluation nor agreement with a reference was measured",), within=False)


def baseline_fault(baseline: Measurement, thresholds: Thresholds) -> str | None:
    """Why nothing made of this checkpoint can hold, if FP32 itself is surely not good enough.

    FP32 strays only from the original: where the FP32 build is the reference, it agrees with itself.
    """
    fidelity, evaluation = baseline.fidelity, baseline.evaluation
    if fidelity is not None and _judge_fidelity(fidelity, thresholds).outcome == "fails":
        figures = _fidelity_figures(fidelity)
        return f"the conversion is at fault: FP32 itself strays from the original ({figures})"
    if evaluation is not None and _reaches_minimum(evaluation, thresholds).outcome == "fails":
        return (
            f"the checkpoint itself is at fault: in FP32 it passes {_percent(evaluation.pass_rate)} of "
            f"{evaluation.cases} cases; at least {_percent(thresholds.min_pass_rate)} is asked"
        )
    return None


def pair(candidate: EvalResult, baseline: EvalResult, within: str | None = None) -> PairedChange:
    """The change from `baseline` to `candidate`, case by case; of the slice `within` alone, where one is named.

    Raises ValueError where the cases differ.
    """
    outcomes = {record.id: record.passed for record in candidate.records}
    if outcomes.keys() != {record.id for record in baseline.records}:
        raise ValueError("the two evaluations are not of the same cases")
    records = [record for record in baseline.records if within in (None, record.slice)]
    return paired_change([record.passed for record in records], [outcomes[record.id] for record in records])


def _judge_evaluation(candidate: EvalResult, baseline: EvalResult | None, thresholds: Thresholds) -> Judgement:
    minimum = _reaches_minimum(candidate, thresholds)
    reasons = [f"passes {_percent(candidate.pass_rate)} of {candidate.cases} cases"]
    if not minimum.within or minimum.outcome != "holds":
        bounds = f"{_points(minimum.bounds.low)} to {_percent(minimum.bounds.high)}"
        reasons.append(f"at least {_percent(thresholds.min_pass_rate)} is asked (one-sided 95 % bounds {bounds})")
    findings = [minimum]
    worse: tuple[str, ...] = ()
    if baseline is None:
        reasons.append("FP32 was not measured, so a drop from it is not known")
    elif baseline is not candidate:
        change = pair(candidate, baseline)
        reasons[0] += f", {_beside(change, baseline)}; a drop of {_points(thresholds.max_drop)} points is allowed"
        findings.append(of_change(change, thresholds.max_drop))
        worse, said = _worse_slices(candidate, baseline, thresholds.max_drop)
        reasons += said
    finding = together(findings)
    return _judgement(finding, findings, [*reasons, *_undecided(finding, "cases", candidate.cases)], worse)


def _judgement(
    finding: Finding, findings: Sequence[Finding], reasons: Sequence[str], worse: tuple[str, ...] = ()
) -> Judgement:
    within = all(one.within for one in findings)
    hopeless = any(one.hopeless for one in findings)
    return Judgement(finding.outcome, tuple(reasons), within, finding.more, hopeless, worse)


def _undecided(finding: Finding, unit: str, count: int) -> list[str]:
    """What would decide, where that is not decided."""
    if finding.outcome != "undecided":
        return []
    if finding.more is None:
        return [f"no number of {unit} like these would decide: the figure lies on the limit itself"]
    few = f"{count:,} {unit} are too few to show that anything holds; " if finding.hopeless else ""
    return [f"{few}about {_about(finding.more)} more {unit} like these would decide"]


def _about(count: int) -> str:
    """Two digits of a number, rounded up: the rest is chance."""
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // step) * step:,}"


def _worse_slices(candidate: EvalResult, baseline: EvalResult, max_drop: float) -> tuple[tuple[str, ...], list[str]]:
    """The slices that surely fell by more than is allowed, and the sentence that names them."""
    changes = {name: pair(candidate, baseline, name) for name in candidate.by_slice}
    worse = worse_slices(changes, max_drop) if len(changes) > 1 else {}
    if not worse:
        return (), []
    named = (f"{name!r} by {_points(-changes[name].change)} points (Holm's p {_p(worse[name])})" for name in worse)
    return tuple(worse), [f"slices that are surely worse by more than that: {', '.join(named)}"]


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _beside(change: PairedChange, baseline: EvalResult) -> str:
    if change.lost or change.gained:
        where = "below" if change.change < 0 else "above"
        beside = f"{_points(abs(change.change))} points {where} FP32's {_percent(baseline.pass_rate)}"
        if change.lost == change.gained:
            beside = f"as many as FP32 ({change.lost} of them others)"
    else:
        beside = "the same ones as FP32"
    bounds = f"{_signed_points(change.bounds.low)} to {_signed_points(change.bounds.high)}"
    differ = f"; McNemar's exact p {_p(mcnemar(change.lost, change.gained))}" if change.lost or change.gained else ""
    return f"{beside} (one-sided 95 % bounds of the change {bounds} points{differ})"


def _judge_fidelity(fidelity: Fidelity, thresholds: Thresholds) -> Judgement:
    most, least = thresholds.max_mean_kld_nats, thresholds.min_top1_agreement
    findings = [
        of_mean(fidelity.mean_kld_nats, fidelity.mean_kld_error_nats, fidelity.positions, most),
        of_share(fidelity.top1_agreement, fidelity.top1_agreement_95, fidelity.positions, least),
    ]
    finding = together(findings)
    limits = f"allowed are at most {most:g} nats and at least {_percent(least)}"
    said = _undecided(finding, "positions", fidelity.positions)
    return _judgement(finding, findings, [f"{_fidelity_figures(fidelity)}; {limits}", *said])


def _fidelity_figures(fidelity: Fidelity) -> str:
    return (
        f"mean KLD {figures_of_kld(fidelity.mean_kld_nats)} nats, the same likeliest token at "
        f"{_percent(fidelity.top1_agreement)} of {fidelity.positions} positions"
    )


def figures_of_kld(nats: float) -> str:
    """A mean KLD as tables and sentences show it: what is not zero does not look like it."""
    return "<0.0001" if 0 < nats < 0.00005 else f"{nats:.4f}"


def _why(chosen: str | None, judgements: Mapping[str, Judgement], refused: Container[str]) -> tuple[str, ...]:
    looked_at = []
    for label, judgement in judgements.items():
        looked_at.append(judgement.of(label))
        if label in refused:
            looked_at.append(f"{label.upper()} is passed over, since the release gate does not let it through")
        if label == chosen:
            break
    if chosen is None:
        unsure = any(judgement.outcome == "undecided" for judgement in judgements.values())
        return (f"none of the candidates {'is shown to hold' if unsure else 'holds'}", *looked_at)
    if not judgements[chosen].holds:
        surely = next((name for name, each in judgements.items() if each.holds and name not in refused), None)
        larger = (
            f"the smallest that is shown to hold is {surely.upper()}, which --undecided refuse takes" if surely else ""
        )
        larger = larger or "none is shown to hold"
        looked_at.append(f"{chosen.upper()} is taken since what was measured lies within the limits; {larger}")
    return tuple(looked_at)


def _reaches_minimum(evaluation: EvalResult, thresholds: Thresholds) -> Finding:
    return of_rate(evaluation.passed, evaluation.cases, thresholds.min_pass_rate)


def _percent(rate: float) -> str:
    return f"{rate * 100:.1f} %"


def _points(rate: float) -> str:
    return f"{rate * 100:.1f}"


def _signed_points(rate: float) -> str:
    return f"{rate * 100:+.1f}"
