"""Which of several packages to take: the smallest whose quality holds, with reasons in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgeship.errors import UsageError
from edgeship.measure.evaluate import EvalResult
from edgeship.measure.fidelity import Fidelity
from edgeship.measure.measurement import Measurement
from edgeship.measure.statistics import Z_95, PairedChange, paired_change
from edgeship.system.fields import shown

_ROUNDING = 1e-9


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

    near: it does not, by so little that chance may have decided: its limits lie within the figures' 95 % intervals.
    """

    holds: bool
    reasons: tuple[str, ...]
    near: bool = False

    def of(self, label: str) -> str:
        """The same in words."""
        return f"{label.upper()} {'holds' if self.holds else 'does not hold'}: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class Choice:
    """The package to take by its label, None where none holds.

    reasons: what decided; judgements: every candidate's by its label, smallest first.
    fault: why nothing made of the checkpoint can hold, if that is known.
    """

    chosen: str | None
    reasons: tuple[str, ...]
    judgements: dict[str, Judgement]
    thresholds: Thresholds
    fault: str | None = None

    @property
    def holds(self) -> bool:
        """True where there is something to take."""
        return self.chosen is not None

    def verdict(self) -> dict[str, Any]:
        """The gate's answer, as a manifest and a report keep it."""
        return {
            "holds": self.holds,
            "chosen": self.chosen,
            "reasons": list(self.reasons),
            "thresholds": asdict(self.thresholds),
        }


def choose(
    candidates: Mapping[str, Measurement],
    baseline: Measurement | None,
    thresholds: Thresholds | None = None,
) -> Choice:
    """The smallest candidate that holds, by its model files; `baseline` is the FP32 build, if there is one."""
    limits = thresholds or Thresholds()
    judgements = {
        label: judge(candidates[label], baseline, limits)
        for label in sorted(candidates, key=lambda label: candidates[label].size_bytes)
    }
    fault = baseline_fault(baseline, limits) if baseline else None
    if fault is not None:
        fallen = {label: Judgement(False, (fault, *judgement.reasons)) for label, judgement in judgements.items()}
        return Choice(None, (fault,), fallen, limits, fault)
    chosen = next((label for label, judgement in judgements.items() if judgement.holds), None)
    return Choice(chosen, _why(chosen, judgements), judgements, limits)


def judge(measurement: Measurement, baseline: Measurement | None, thresholds: Thresholds) -> Judgement:
    """Whether a package's quality holds.

    By its evaluation beside FP32's where there is one, else by agreement with the reference; a package of
    which neither was measured does not hold. Without a baseline an evaluation has only its minimum to reach.
    """
    if measurement.evaluation is not None:
        return _judge_evaluation(measurement.evaluation, baseline.evaluation if baseline else None, thresholds)
    if measurement.fidelity is not None:
        return _judge_fidelity(measurement.fidelity, thresholds)
    return Judgement(False, ("neither an evaluation nor agreement with a reference was measured",))


def baseline_fault(baseline: Measurement, thresholds: Thresholds) -> str | None:
    """Why nothing made of this checkpoint can hold, if FP32 itself is not good enough.

    FP32 strays only from the original: where the FP32 build is the reference, it agrees with itself.
    """
    fidelity, evaluation = baseline.fidelity, baseline.evaluation
    if fidelity is not None and not _judge_fidelity(fidelity, thresholds).holds:
        figures = _fidelity_figures(fidelity)
        return f"the conversion is at fault: FP32 itself strays from the original ({figures})"
    if evaluation is not None and _below_minimum(evaluation, thresholds):
        return (
            f"the checkpoint itself is at fault: in FP32 it passes {_percent(evaluation.pass_rate)} of "
            f"{evaluation.cases} cases; at least {_percent(thresholds.min_pass_rate)} is asked"
        )
    return None


def pair(candidate: EvalResult, baseline: EvalResult) -> PairedChange:
    """The change from `baseline` to `candidate`, case by case. Raises ValueError where the cases differ."""
    outcomes = {record.id: record.passed for record in candidate.records}
    if outcomes.keys() != {record.id for record in baseline.records}:
        raise ValueError("the two evaluations are not of the same cases")
    return paired_change(
        [record.passed for record in baseline.records], [outcomes[record.id] for record in baseline.records]
    )


def _judge_evaluation(candidate: EvalResult, baseline: EvalResult | None, thresholds: Thresholds) -> Judgement:
    low = _below_minimum(candidate, thresholds)
    reasons = [f"passes {_percent(candidate.pass_rate)} of {candidate.cases} cases"]
    if low:
        reasons.append(f"at least {_percent(thresholds.min_pass_rate)} is asked")
    if baseline is None:
        reasons.append("FP32 was not measured, so a drop from it is not known")
        return Judgement(not low, tuple(reasons))
    change = pair(candidate, baseline)
    reasons[0] += f", {_beside(change, baseline)}; a drop of {_points(thresholds.max_drop)} points is allowed"
    # One case alone is more than the allowed drop: said, not judged.
    if 1 / change.cases > thresholds.max_drop:
        reasons.append(f"{change.cases} cases are too few to see a drop that small")
    too_far = change.lost - change.gained > thresholds.max_drop * change.cases + _ROUNDING
    return Judgement(not low and not too_far, tuple(reasons))


def _beside(change: PairedChange, baseline: EvalResult) -> str:
    if change.lost or change.gained:
        where = "below" if change.change < 0 else "above"
        beside = f"{_points(abs(change.change))} points {where} FP32's {_percent(baseline.pass_rate)}"
        if change.lost == change.gained:
            beside = f"as many as FP32 ({change.lost} of them others)"
    else:
        beside = "the same ones as FP32"
    interval = f"{_signed_points(change.interval.low)} to {_signed_points(change.interval.high)}"
    return f"{beside} (95 % interval of the change {interval} points)"


def _judge_fidelity(fidelity: Fidelity, thresholds: Thresholds) -> Judgement:
    most, least = thresholds.max_mean_kld_nats, thresholds.min_top1_agreement
    holds = fidelity.mean_kld_nats <= most and fidelity.top1_agreement >= least
    spread = Z_95 * (fidelity.mean_kld_error_nats or 0.0)
    near = not holds and fidelity.mean_kld_nats - spread <= most and fidelity.top1_agreement_95.high >= least
    limits = f"allowed are at most {most:g} nats and at least {_percent(least)}"
    so_near = "; that is no further off than chance may take it" if near else ""
    return Judgement(holds, (f"{_fidelity_figures(fidelity)}; {limits}{so_near}",), near)


def _fidelity_figures(fidelity: Fidelity) -> str:
    return (
        f"mean KLD {figures_of_kld(fidelity.mean_kld_nats)} nats, the same likeliest token at "
        f"{_percent(fidelity.top1_agreement)} of {fidelity.positions} positions"
    )


def figures_of_kld(nats: float) -> str:
    """A mean KLD as tables and sentences show it: what is not zero does not look like it."""
    return "<0.0001" if 0 < nats < 0.00005 else f"{nats:.4f}"


def _why(chosen: str | None, judgements: Mapping[str, Judgement]) -> tuple[str, ...]:
    looked_at = []
    for label, judgement in judgements.items():
        looked_at.append(judgement.of(label))
        if label == chosen:
            return tuple(looked_at)
    return ("none of the candidates holds", *looked_at)


def _below_minimum(evaluation: EvalResult, thresholds: Thresholds) -> bool:
    return evaluation.passed < thresholds.min_pass_rate * evaluation.cases - _ROUNDING


def _percent(rate: float) -> str:
    return f"{rate * 100:.1f} %"


def _points(rate: float) -> str:
    return f"{rate * 100:.1f}"


def _signed_points(rate: float) -> str:
    return f"{rate * 100:+.1f}"
