"""What is recommended, in figures of this machine: what a choice saves, which others are worth a look, what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeship.measure.choice.choose import Choice
from edgeship.measure.choice.pareto import pareto
from edgeship.measure.measurement import Measurement
from edgeship.recipe import RECIPES, Precision
from edgeship.system.storage import megabytes

_KEEP_MORE = ("int4-best", "int8", "fp16")
_FINE = 32


def frontier(measured: Mapping[str, Measurement]) -> tuple[str, ...]:
    """The labels that no other beats: smaller, quicker to decode and better, or as good in what is not more.

    Quality is the pass rate where all were evaluated, else how little they stray from the reference; where neither is
    known of all, size and speed alone are compared.
    """
    figures = {label: _figures(one, list(measured.values())) for label, one in measured.items()}
    return tuple(list(figures)[index] for index in pareto(list(figures.values())))


def _figures(one: Measurement, every: Sequence[Measurement]) -> tuple[float, ...]:
    """What is compared, each the better the smaller it is."""
    found = [float(one.size_bytes), -one.speed.decode_tokens_per_s.median]
    if one.evaluation is not None and all(other.evaluation for other in every):
        found.append(-one.evaluation.pass_rate)
    elif one.fidelity is not None and all(other.fidelity for other in every):
        found.append(one.fidelity.mean_kld_nats)
    return tuple(found)


def in_figures(label: str, measured: Measurement, baseline: Measurement | None) -> str:
    """What a package takes and gives on this machine, beside FP32 where that was measured."""
    decode = measured.speed.decode_tokens_per_s.median
    size, memory = megabytes(measured.size_bytes), megabytes(measured.peak_memory_bytes)
    if baseline is None or baseline is measured:
        takes = f"takes {size} on disk and {memory} of memory"
        return f"on this machine {label.upper()} {takes}, and decodes {decode:,.0f} tokens/s"
    part = measured.size_bytes / baseline.size_bytes
    faster = decode / baseline.speed.decode_tokens_per_s.median
    return (
        f"on this machine {label.upper()} takes {size} on disk ({part:.2f} of FP32), "
        f"{memory} of memory (FP32 {megabytes(baseline.peak_memory_bytes)}), and decodes {decode:,.0f} tokens/s "
        f"({faster:.1f} times FP32)"
    )


def ways_on(
    choice: Choice, recipes: Mapping[str, Mapping[str, Any]], *, evaluated: bool, escalated: bool
) -> tuple[str, ...]:
    """What may be tried where nothing ships, what says or helps most first.

    recipes: what was tried, by label, as `Recipe.to_key` states it. evaluated: it was decided by an evaluation.
    escalated: INT4 got more bits already.
    """
    undecided = choice.outcome == "undecided"
    quantized = {
        label: recipe
        for label, recipe in recipes.items()
        if recipe.get("precision") in (Precision.INT8, Precision.INT4)
    }
    ways = [
        (
            not evaluated,
            "an evaluation: how often answers are right says more than how closely texts agree (--eval FILE)",
        ),
        (evaluated and undecided, "more cases, since those there are do not decide (--eval FILE)"),
        (undecided and choice.undecided == "refuse", "what looks as if it held (--undecided take)"),
    ]
    if choice.fault is None:
        small = any(recipe["precision"] == Precision.INT4 for recipe in quantized.values())
        more = next((name for name in _KEEP_MORE if name in RECIPES and name not in recipes), None)
        sizes = [recipe.get("block_size") for recipe in quantized.values()]
        coarse = any(isinstance(size, int) and size > _FINE for size in sizes)
        plain = any("calibration" not in recipe for recipe in quantized.values())
        ways += [
            (small and not escalated, "more bits for INT4 (--escalate)"),
            (more is not None, f"a recipe that keeps more (-p {more})"),
            (coarse, f"finer blocks (--block-size {_FINE})"),
            (plain, "rounding by texts like those that it will read (--calibrate FILE)"),
        ]
    limits = "--min-pass-rate, --max-drop" if evaluated else "--max-kld, --min-top1"
    return (*(way for fits, way in ways if fits), f"other limits, if you find less good enough ({limits})")
