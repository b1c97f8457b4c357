"""Everything measured about one package, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgeship.measure.agreement.fidelity import Fidelity
from edgeship.measure.agreement.worst_tokens import WorstToken
from edgeship.measure.evaluation.evaluate import EvalResult
from edgeship.measure.speed import Speed

_ABSURD = 1e18
"""No figure is as large."""
# What people look at: label, path to the value in a summary, how it is written.
_FIGURES = (
    ("model files", ("size_bytes",), "{megabytes:,.1f} MB"),
    ("peak memory", ("peak_memory_bytes",), "{megabytes:,.0f} MB"),
    ("load time", ("load_s",), "{value:.2f} s"),
    ("threads", ("threads",), "{value}"),
    ("prefill", ("speed", "prefill_tokens_per_s", "median"), "{value:,.1f} tokens/s"),
    ("decode", ("speed", "decode_tokens_per_s", "median"), "{value:,.1f} tokens/s"),
    ("mean KLD from {reference}", ("fidelity", "mean_kld_nats"), "{value:.4f} nats"),
    ("top-1 agreement with {reference}", ("fidelity", "top1_agreement"), "{percent:.1f} %"),
    ("perplexity, ratio to {reference}", ("fidelity", "perplexity_ratio"), "{value:.4f}"),
    ("evaluation cases", ("evaluation", "cases"), "{value:,}"),
    ("evaluation pass rate", ("evaluation", "pass_rate"), "{percent:.1f} %"),
)


@dataclass(frozen=True)
class Measurement:
    """One package on one machine.

    size_bytes: the model's files; package_bytes: the whole folder.
    load_s: to a model that can answer, in a fresh process, the import of the libraries included.
    peak_memory_bytes: of a process of its own that loaded the package, ran the speed test and answered the
    evaluation, `evaluation.concurrency` cases side by side. The fidelity check comes after: its tables of logits are
    ours, not the model's.
    busy: the part of the cores (0 to 1) that other processes used while speed and evaluation were measured.
    fidelity, evaluation: None where they were not asked for. worst_tokens: with fidelity, where it is worst.
    """

    threads: int
    size_bytes: int
    package_bytes: int
    load_s: float
    rss_after_load_bytes: int
    peak_memory_bytes: int
    speed: Speed
    fidelity: Fidelity | None = None
    evaluation: EvalResult | None = None
    busy: float = 0.0
    worst_tokens: tuple[WorstToken, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Measurement:
        """What `to_dict` made. Raises ValueError."""
        from pydantic import TypeAdapter

        return TypeAdapter(Measurement).validate_python(values)

    def summary(self) -> dict[str, Any]:
        """`to_dict` without single answers, tokens, speed runs and failures: what the store keeps."""
        values = self.to_dict()
        values.pop("worst_tokens")
        values["speed"].pop("runs")
        if values["evaluation"] is not None:
            for raw in ("records", "failures"):
                values["evaluation"].pop(raw)
        return values


def figures(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a summary holds of what people look at, in words; it may come from another version and hold little."""
    found = []
    reference = summary.get("reference") or "the original"
    for label, path, form in _FIGURES:
        value: Any = summary
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and abs(value) < _ABSURD:
            text = form.format(value=value, megabytes=value / 1e6, percent=value * 100)
            found.append((label.format(reference=reference), text))
    return found
